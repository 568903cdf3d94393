"""Pictures that are named and not given: what every route says of them, and whom the server then asks: nobody.

Any connection would be seen: this machine's own addresses lead to a listener, all others to a proxy, which is that
listener too. Source: security §10.1, compat-api §5.2.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.running import Reply, Server, running
from tests.server.tiny_models import EYES, TEXT, make

NO_REMOTE = "image URLs are not currently supported, please use base64 encoded data instead"
ANTHROPICS = (
    "invalid image source type: url. Only base64 images are supported.",
    "invalid tool_result image source",
)
"""What `/v1/messages` says of any URL (compat-api §9.2)."""
SEER = "seer"


@dataclass
class Watched:
    server: Server
    listener: socket.socket

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def was_asked(self) -> bool:
        """Whether somebody has connected since the last look."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Watched]]:
    folder = tmp_path_factory.mktemp("remote")
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        listener.setblocking(False)
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY")
        proxies = {each: proxy for name in names for each in (name, name.lower())}
        started: dict[str, Watched] = {}

        def start(fetches: str = "") -> Watched:
            if fetches not in started:
                place = folder / f"fetches-{fetches}"
                place.mkdir()
                context = running(place, place / "models", LLAMERO_FETCH_IMAGES=fetches, **proxies)
                started[fetches] = Watched(stack.enter_context(context), listener)
                make(started[fetches].server, SEER, [TEXT, EYES])
            return started[fetches]

        yield start


def chat(server: Server, url: str) -> Reply:
    part = {"type": "image_url", "image_url": {"url": url}}
    return server.post("/v1/chat/completions", {"model": SEER, "messages": [{"role": "user", "content": [part]}]})


def chat_in_short(server: Server, url: str) -> Reply:
    part = {"type": "image_url", "image_url": url}
    return server.post("/v1/chat/completions", {"model": SEER, "messages": [{"role": "user", "content": [part]}]})


def responses(server: Server, url: str) -> Reply:
    part = {"type": "input_image", "image_url": url}
    return server.post("/v1/responses", {"model": SEER, "input": [{"role": "user", "content": [part]}]})


def messages(server: Server, url: str) -> Reply:
    part = {"type": "image", "source": {"type": "url", "url": url}}
    return server.post("/v1/messages", ask_anthropic(part))


def tool_result(server: Server, url: str) -> Reply:
    part = {"type": "image", "source": {"type": "url", "url": url}}
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [part]}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    return server.post("/v1/messages", {"model": SEER, "max_tokens": 1, "messages": turns})


def count_tokens(server: Server, url: str) -> Reply:
    return server.post(
        "/v1/messages/count_tokens", ask_anthropic({"type": "image", "source": {"type": "url", "url": url}})
    )


def native_chat(server: Server, url: str) -> Reply:
    message = {"role": "user", "content": "x", "images": [url]}
    return server.post("/api/chat", {"model": SEER, "messages": [message], "stream": False})


def native_generate(server: Server, url: str) -> Reply:
    return server.post("/api/generate", {"model": SEER, "prompt": "x", "images": [url], "stream": False})


def ask_anthropic(part: dict[str, Any]) -> dict[str, Any]:
    return {"model": SEER, "max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}


DIALECTS = [chat, chat_in_short, responses, messages, tool_result, count_tokens]
REMOTE = ["http://{place}/a.png", "HTTP://{place}/a.png", "http://example.com/a.png", "https://example.com/a.png"]
OTHER = [
    "ftp://{place}/a.png", "ftp://example.com/a.png", "file:///etc/passwd", "file://{place}/etc/passwd", "/etc/passwd",
    "../a.png", "a.png", "//{place}/a.png", "\\\\{place}\\share\\a.png", " http://{place}/a.png", "http:{place}/a.png",
    "gopher://{place}/a.png", "ws://{place}/a.png", "unix:/run/x.sock", "data:text/html,http://{place}/a.png",
]  # fmt: skip


@pytest.mark.parametrize("ask", [*DIALECTS, native_chat, native_generate])
def test_x40_pictures_that_are_named_are_not_fetched(watch: Callable[..., Watched], ask: Any) -> None:
    """X-40."""
    watched = watch()
    for form in REMOTE + OTHER:
        url = form.format(place=watched.place)
        reply = ask(watched.server, url)
        assert reply.status == 400, (url, reply.body)
        if ask in DIALECTS:
            message = reply.json()["error"]["message"]
            assert message in (NO_REMOTE if form in REMOTE else "invalid image input", *ANTHROPICS), url
        assert not watched.was_asked(), url


@pytest.mark.parametrize("ask", DIALECTS)
def test_x40_other_ways_to_name_them_are_no_ways_where_some_are_fetched(
    watch: Callable[..., Watched], ask: Any
) -> None:
    """Partly X-40: the operator's leave is for http and https, and not for this machine or its networks."""
    watched = watch("1")
    for form in [*OTHER, REMOTE[0], REMOTE[1]]:
        url = form.format(place=watched.place)
        reply = ask(watched.server, url)
        assert reply.status == 400, (url, reply.body)
        assert not watched.was_asked(), url


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("chat/completions", {"type": "audio_url", "audio_url": {"url": "http://{place}/a.wav"}}),
        ("chat/completions", {"type": "video_url", "video_url": {"url": "http://{place}/a.mp4"}}),
        ("chat/completions", {"type": "input_audio", "input_audio": {"data": "http://{place}/a.wav", "format": "wav"}}),
        ("chat/completions", {"type": "file", "file": {"file_data": "http://{place}/a.txt", "filename": "a.txt"}}),
        ("responses", {"type": "input_file", "file_url": "http://{place}/a.txt"}),
        ("messages", {"type": "document", "source": {"type": "url", "url": "http://{place}/a.pdf"}}),
    ],
    ids=lambda each: each["type"] if isinstance(each, dict) else each,
)
def test_nothing_else_is_fetched_either(watch: Callable[..., Watched], path: str, content: dict[str, Any]) -> None:
    for fetches in ("", "1"):
        watched = watch(fetches)
        part = fill(content, watched.place)
        turns = [{"role": "user", "content": [part]}]
        body = {"input": turns} if path == "responses" else {"messages": turns, "max_tokens": 1}
        reply = watched.server.post(f"/v1/{path}", {"model": SEER, **body})
        assert reply.status == 400, reply.body
        assert not watched.was_asked()


def fill(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return {key: fill(item, place) for key, item in value.items()}
    return value.format(place=place)


def test_a_connection_would_be_seen(watch: Callable[..., Watched]) -> None:
    """What the tests above rest on: this server is allowed to fetch, and asks the proxy. Last: it may ask again."""
    watched = watch("1")
    for url in REMOTE[2:]:
        part = {"type": "image_url", "image_url": url}
        body = {"model": SEER, "messages": [{"role": "user", "content": [part]}]}
        with watched.server.streaming_unread("/v1/chat/completions", body):
            watched.server.wait_until(watched.was_asked)

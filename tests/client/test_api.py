"""What the client sends and what it makes of replies, route by route (native-api §3; cli §1)."""

from __future__ import annotations

import io
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from llamero import API_LEVEL
from llamero.client import MAX_LINE_BYTES, Ask, Client, Metrics, Part
from llamero.config import parse_host
from llamero.errors import ClientError
from llamero.messages import Progress, ToolCall
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, generated, shown


def test_every_request_says_who_asks(client: Client, server: ScriptedServer) -> None:
    client.heartbeat()
    headers = server.requests[0].headers
    assert headers["User-Agent"].startswith(f"ollama/{API_LEVEL} (")
    assert (headers["Content-Type"], headers["Accept"]) == ("application/json", "application/json")
    assert "Authorization" not in headers


def test_a_stream_is_asked_for_as_such(client: Client, server: ScriptedServer) -> None:
    server.replies["POST /api/generate"] = generated("a")
    list(client.generate(Ask(model="m"), "p"))
    assert server.requests[0].headers["Accept"] == "application/x-ndjson"


def test_a_base_path_stands_before_every_route(server: ScriptedServer) -> None:
    server.replies["GET /some%20where/api/version"] = Reply(json={"version": "1"})
    assert Client(parse_host(f"http://{server.address}/some where/")[0]).version() == "1"


def test_routes_and_bodies(client: Client, server: ScriptedServer) -> None:
    for route in ("POST /api/copy", "DELETE /api/delete"):
        server.replies[route] = Reply()
    server.replies["POST /api/generate"] = Reply(json={"model": "a", "response": "", "done": True})
    server.replies["POST /api/show"] = shown()
    server.replies["POST /api/embed"] = Reply(json={"embeddings": [[0.5, 1]]})
    client.copy("a", "b")
    client.delete("a")
    client.unload("a")
    client.show("a", verbose=True, system="S", options={"seed": 1})
    assert client.embed("a", "text", truncate=False, dimensions=2) == [[0.5, 1]]
    assert [(request.route, request.body) for request in server.requests] == [
        ("POST /api/copy", {"source": "a", "destination": "b"}),
        ("DELETE /api/delete", {"model": "a"}),
        ("POST /api/generate", {"model": "a", "keep_alive": "0s"}),
        ("POST /api/show", {"model": "a", "verbose": True, "system": "S", "options": {"seed": 1}}),
        ("POST /api/embed", {"model": "a", "input": "text", "truncate": False, "dimensions": 2}),
    ]


def test_blobs(client: Client, server: ScriptedServer) -> None:
    server.replies |= {
        "HEAD /api/blobs/sha256:aa": Reply(),
        "HEAD /api/blobs/sha256:bb": Reply(404),
        "POST /api/blobs/sha256:bb": Reply(201),
    }
    assert client.has_blob("sha256:aa")
    assert not client.has_blob("sha256:bb")
    client.upload_blob("sha256:bb", io.BytesIO(b"\x00content"), 8)
    assert server.body("POST /api/blobs/sha256:bb") == b"\x00content"


def test_lists(client: Client, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(
        json={
            "models": [
                {
                    "name": "a:latest",
                    "digest": "d" * 64,
                    "size": 5,
                    "modified_at": "2026-08-21T10:00:00.123456789+02:00",
                },
                {"name": "b", "remote_model": "b", "size": None},
            ]
        }
    )
    first, second = client.tags()
    assert first.modified_at == datetime(2026, 8, 21, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert (first.name, first.digest, first.size_bytes, first.is_remote) == ("a:latest", "d" * 64, 5, False)
    assert (second.size_bytes, second.modified_at, second.is_remote) == (0, datetime(1, 1, 1, tzinfo=UTC), True)


def test_an_answer_of_generate(client: Client, server: ScriptedServer) -> None:
    last = {"response": "!", "done": True, "total_duration": 9, "prompt_eval_count": 3, "eval_count": 2}
    server.replies["POST /api/generate"] = Reply(lines=[{"response": "", "thinking": "hm"}, {"response": "hi"}, last])
    parts = list(client.generate(Ask(model="m"), "p", images=[b"\xff"]))
    assert server.body("POST /api/generate") == {"model": "m", "prompt": "p", "images": ["/w=="]}
    assert parts == [Part(thinking="hm"), Part("hi"), Part("!", metrics=Metrics(9, 0, 3, 0, 2, 0))]


def test_an_answer_of_chat_with_a_tool_call(client: Client, server: ScriptedServer) -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    chunk = {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
    server.replies["POST /api/chat"] = Reply(lines=[chunk, {"message": {"content": "x"}, "done": True}])
    first, last = client.chat(Ask(model="m"), [{"role": "user", "content": "hi"}])
    assert first.tool_calls == (ToolCall("f", {"a": 1}),)
    assert (last.text, last.metrics) == ("x", Metrics(0, 0, 0, 0, 0, 0))


def test_progress(client: Client, server: ScriptedServer) -> None:
    bar = {"status": "pulling aa", "digest": "sha256:aa", "total": 7, "completed": 3}
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, bar, {"status": "success"}])
    assert list(client.pull("m", insecure=True)) == [
        Progress("pulling manifest"),
        Progress("pulling aa", "sha256:aa", 7, 3),
        Progress("success"),
    ]
    assert server.body("POST /api/pull") == {"model": "m", "insecure": True}


@pytest.mark.parametrize("reply", [Reply(lines=[{"response": "half"}]), Reply(lines=[])], ids=["half", "nothing"])
def test_an_answer_without_its_end_is_an_error(client: Client, server: ScriptedServer, reply: Reply) -> None:
    server.replies["POST /api/generate"] = reply
    with pytest.raises(ClientError, match="before the answer was complete"):
        list(client.generate(Ask(model="m"), "p"))


def test_a_pull_without_success_is_an_error(client: Client, server: ScriptedServer) -> None:
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "writing manifest"}])
    with pytest.raises(ClientError, match="writing manifest"):
        list(client.pull("m"))


def test_warnings_are_told_once(server: ScriptedServer) -> None:
    told: list[str] = []
    client = Client(parse_host(server.address)[0], warn=told.append)
    server.replies["POST /api/chat"] = chatted("hi", warnings=["first", "second"])
    server.replies["POST /api/chat"].headers = {"Llamero-Warning": "first"}  # type: ignore[union-attr]
    list(client.chat(Ask(model="m"), []))
    server.replies["POST /api/show"] = Reply(json={}, headers={"Llamero-Warning": "third"})
    client.show("m")
    server.replies["POST /api/embed"] = Reply(
        json={"embeddings": [], "warnings": ["fourth"]}, headers={"Llamero-Warning": "fourth"}
    )
    client.embed("m", "x")
    assert told == ["first", "second", "third", "fourth"]


def test_replies_of_odd_shapes_do_no_harm(client: Client, server: ScriptedServer) -> None:
    odd = {"details": 5, "capabilities": "x", "tensors": {"a": 1}, "projector_info": [1], "model_info": 7, "license": 3}
    server.replies |= {
        "POST /api/show": Reply(json=odd),
        "GET /api/tags": [Reply(json={"models": "none"}), Reply(json={"models": [{"name": None, "digest": None}]})],
        "GET /api/ps": Reply(json={"models": [1, {"name": None, "size": "big"}]}),
        "POST /api/chat": Reply(lines=[{"message": "x", "done": True}]),
    }
    shown_model = client.show("m")
    assert (shown_model.details, shown_model.capabilities, shown_model.model_info) == ({}, [], None)
    assert client.tags() == []
    assert [(model.name, model.digest) for model in client.tags()] == [("", "")]
    assert client.ps().models[0].size_bytes == 0
    assert [part.text for part in client.chat(Ask(model="m"), [])] == [""]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"hello\n", "not JSON: hello"),
        (b"[1]\n", "not a JSON object"),
        (b" " * (MAX_LINE_BYTES + 1), "longer than 8000000"),
    ],
    ids=["no json", "no object", "too long"],
)
def test_lines_that_mean_nothing(client: Client, server: ScriptedServer, line: bytes, message: str) -> None:
    server.replies["POST /api/generate"] = Reply(lines=[line])
    with pytest.raises(ClientError, match=message):
        list(client.generate(Ask(model="m"), "p"))


def test_a_line_of_eight_million_bytes_is_read(client: Client, server: ScriptedServer) -> None:
    text = "x" * (MAX_LINE_BYTES - 100)
    server.replies["POST /api/generate"] = generated(text)
    assert next(iter(client.generate(Ask(model="m"), "p"))).text == text


def test_leaving_a_stream_hangs_up(client: Client, server: ScriptedServer) -> None:
    """Ctrl+C ends the loop over an answer; the server must see it at once."""
    server.replies["POST /api/generate"] = Reply(lines=[{"response": "a"}, threading.Event()])
    with closing(client.generate(Ask(model="m"), "p")) as parts:
        assert next(parts).text == "a"
        assert not server.disconnected.is_set()
    assert server.disconnected.wait(1)

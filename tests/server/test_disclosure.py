"""What a failure tells of the machine it happened on: nothing (security §9.5)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BadRequest, EngineError, LlameroError, StorageError
from llamero.server.disclosure import discreet
from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import Reply, running
from tests.server.puppet import ABLE, CHAT, COMPLETION, LEVELS, Puppet, Step, delta, piece

M = "smollm2:135m"
HI = [{"role": "user", "content": "Hi"}]
SECRETS = "cannot map /home/joe/.ollama/models/blobs/sha256-abc, nor 'C:\\Users\\joe\\m.gguf': 0x7ffe12345678"
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/llm/engine.py", line 7, in run\nKeyError: 1'

PRIVATE = re.compile(r"(?<![\w.:/])/(?!api/|v1/)\w|[A-Za-z]:\\\\?\w|0x[0-9a-f]{6,}|Traceback|\.py\b|joe")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("out of memory", "out of memory"),
        ("cannot open /home/joe/models/a.gguf: No space", "cannot open a.gguf: No space"),
        ("open '/tmp/x/y'", "open 'y'"),
        ("/etc/shadow", "shadow"),
        ("in:/etc/x", "in:x"),
        ("at C:\\Users\\joe\\m.gguf", "at m.gguf"),
        ("at c:/Users/joe/m.gguf", "at m.gguf"),
        ("file:///etc/shadow", "file:shadow"),
        ("bad pointer 0x7ffe12345678, code 0x10", "bad pointer , code 0x10"),
        ("GET https://registry.test:5000/v2/a/b: 502", "GET https://registry.test:5000/v2/a/b: 502"),
        ("ask POST /api/pull/x first", "ask POST /api/pull/x first"),
        ("3/4 done, and/or 10 / 2", "3/4 done, and/or 10 / 2"),
        (TRACEBACK, "internal server error"),
        ("/", "/"),
        ("0x7ffe12345678", "internal server error"),
    ],
)
def test_what_is_left_of_a_text(said: str, told: str) -> None:
    for error in (EngineError(said), StorageError(said), LlameroError(said)):
        assert str(discreet(error)) == told


def test_what_a_request_did_wrong_is_told_in_full() -> None:
    """The path is the client's own."""
    assert str(discreet(BadRequest("no file /home/joe/x"))) == "no file /home/joe/x"


# --- on the wire -----------------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": ABLE, "messages": HI},
    "/api/generate": {"model": LEVELS, "prompt": "Hi"},
    "/v1/chat/completions": {"model": ABLE, "messages": HI},
    "/v1/completions": {"model": LEVELS, "prompt": "Hi"},
    "/v1/responses": {"model": ABLE, "input": "Hi"},
    "/v1/messages": {"model": ABLE, "messages": HI, "max_tokens": 9},
}

FAILURE = {"error": {"code": 500, "message": SECRETS, "type": "server_error"}}

FAULTS: dict[str, list[Step] | Step] = {
    "an error": {"status": 500, "body": FAILURE},
    "an error of another kind": {"status": 503, "body": {"error": {"message": SECRETS}}},
    "a traceback": {"status": 500, "body": TRACEBACK},
    "an error as an event": [{"send": FAILURE}],
    "an error as a line": [{"raw": f"error: {json.dumps(FAILURE['error'])}\n\n"}],
    "no JSON": [{"raw": f"data: {SECRETS}\n\n"}],
    "its last words": [{"print": f"error: {SECRETS}"}, {"die": 1}],
    "the end": [{"cut": True}],
}

IN_THE_MIDDLE = [name for name, fault in FAULTS.items() if isinstance(fault, list)]
SLOW = ("the end", "its last words")
"""After them, an engine is started anew for each request."""


def heavily(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.heavy)


def check(reply: Reply, path: str) -> None:
    assert not (found := PRIVATE.search(reply.body.decode())), f"{found}: {reply.body!r}"
    assert len(reply.body) < 2000
    if path.startswith("/v1/"):
        id_ = reply.headers["request-id" if path == "/v1/messages" else "x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{24}", id_)
        if path == "/v1/messages" and reply.status >= 500:
            assert reply.json()["request_id"] == id_


@pytest.mark.parametrize("fault", [name if name not in SLOW else heavily(name) for name in FAULTS])
def test_x90_what_goes_wrong_in_an_engine(puppet: Puppet, fault: str) -> None:
    """X-90: before the first byte a status from 500 up; and the id of the request where the dialect has one. What goes
    wrong later, or elsewhere, is in the tests below."""
    puppet.plays(**{CHAT[1:]: FAULTS[fault], COMPLETION[1:]: FAULTS[fault]})
    for path, asked in ASKED.items():
        for stream in (False, True):
            reply = puppet.server.post(path, {**asked, "stream": stream})
            assert reply.status >= 500, f"{path}: {reply.body!r}"
            check(reply, path)


@pytest.mark.parametrize("fault", [name if name != SLOW[0] else heavily(name) for name in IN_THE_MIDDLE])
def test_x90_what_goes_wrong_in_the_middle(puppet: Puppet, fault: str) -> None:
    """X-90: as the stream's last words, or of the answer that is not streamed."""
    steps = FAULTS[fault]
    assert isinstance(steps, list)
    puppet.plays(**{CHAT[1:]: [delta(content="Hello"), *steps], COMPLETION[1:]: [piece("Hello"), *steps]})
    for path, asked in ASKED.items():
        streamed = puppet.server.post(path, {**asked, "stream": True})
        assert (streamed.status, b"error" in streamed.body) == (200, True)
        assert not (found := PRIVATE.search(streamed.body.decode())), f"{path}: {found}: {streamed.body!r}"
        whole = puppet.server.post(path, {**asked, "stream": False})
        assert whole.status >= 500
        check(whole, path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "script",
    [
        {"prints": [f"error: {SECRETS}"], "dies": 1},
        {"prints": [SECRETS, TRACEBACK], "dies": -11},
        {"prints": [f"error: {SECRETS}"], "listens": False},
    ],
    ids=["dies", "crashes", "hangs"],
)
def test_x90_what_goes_wrong_in_a_load(start_server: StartServer, tmp_path: Path, script: dict[str, Any]) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    server = start_server(LLAMERO_LLAMA_SERVER=str(install(folder, script)), OLLAMA_LOAD_TIMEOUT="300ms")
    for path in ("/api/chat", "/v1/responses", "/v1/messages"):
        reply = server.post(path, {**ASKED[path], "model": M})
        assert reply.status >= 500, reply.body
        check(reply, path)
        assert str(tmp_path) not in reply.body.decode()


def damaged(blob: Path) -> Iterator[str]:
    """Its place in one state after the other. The file itself is a link, and stays as it is."""
    blob.unlink()
    blob.write_bytes(b"GGUF")
    yield "cut short"
    blob.unlink()
    blob.mkdir()
    yield "a folder"
    blob.rmdir()
    yield "gone"


def test_x90_what_goes_wrong_in_the_store(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    weights = max((tmp_path / "models" / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    for state in damaged(weights):
        for path, body in {**ASKED, "/api/show": {}, "/api/embed": {"input": "x"}}.items():
            reply = server.post(path, {**body, "model": M})
            assert reply.status >= 400, f"{state}: {reply.body!r}"
            check(reply, path)
            assert str(tmp_path) not in reply.body.decode()


FOLDER_REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/api/tags", None),
    ("POST", "/api/show", {"model": "x"}),
    ("POST", "/api/create", {"model": "x", "from": "y", "stream": False}),
    ("POST", "/api/copy", {"source": "x", "destination": "y"}),
    ("DELETE", "/api/delete", {"model": "x"}),
    ("POST", "/api/pull", {"model": M, "stream": False}),
    ("POST", "/api/blobs/sha256:" + "0" * 64, b"x"),
    ("POST", "/v1/chat/completions", ASKED["/v1/chat/completions"]),
]


@pytest.mark.heavy
def test_x90_what_goes_wrong_with_a_folder(tmp_path: Path) -> None:
    """A file where the models have been."""
    models = tmp_path / "models"
    with running(tmp_path, models) as server:
        models.rename(tmp_path / "elsewhere")
        models.write_text("")
        for method, path, body in FOLDER_REQUESTS:
            reply = server.call(method, path, body)
            check(reply, path)
            assert str(tmp_path) not in reply.body.decode()

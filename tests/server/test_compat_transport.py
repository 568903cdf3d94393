"""What the routes under `/v1` have in common: headers, errors, streams, and their end (compat-api §1, §2)."""

from __future__ import annotations

import gzip
import http.client
import json
import select
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import Reply, Server
from tests.server.puppet import ABLE, CHAT, COMPLETION, LEVELS, Puppet, delta, frames, piece

S = "smollm2:135m"
E = "all-minilm:22m"
HI = [{"role": "user", "content": "Hi"}]
MISSING = {"model": "nope"}

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": S, "messages": HI, "max_tokens": 1},
    "/v1/completions": {"model": S, "prompt": "Hi", "max_tokens": 1},
    "/v1/embeddings": {"model": E, "input": "Hi"},
    "/v1/responses": {"model": S, "input": "Hi", "max_output_tokens": 1},
    "/v1/messages": {"model": S, "messages": HI, "max_tokens": 1},
}
OPENAI = [path for path in BODIES if path != "/v1/messages"]
GENERATING = [path for path in BODIES if path != "/v1/embeddings"]


def error_of(reply: Reply) -> dict[str, Any]:
    """The error of a reply in OpenAI's or Anthropic's shape, which is checked."""
    body = reply.json()
    if "type" in body:
        assert sorted(body) == ["error", "request_id", "type"]
        assert body["type"] == "error"
        assert body["request_id"] == reply.headers["request-id"]
        assert sorted(body["error"]) == ["message", "type"]
    else:
        assert list(body) == ["error"]
        assert sorted(body["error"]) == ["code", "message", "param", "type"]
        assert reply.headers["x-request-id"].startswith("req_")
    assert body["error"]["message"]
    return dict(body["error"])


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer any"}, {"x-api-key": "any"}, {"x-api-key": "one", "Authorization": "Bearer other"}],
    ids=["none", "bearer", "x-api-key", "both"],
)
def test_any_key_is_as_good_as_none(server: Server, path: str, headers: dict[str, str]) -> None:
    """Partly C-01: no key is configured; the clients' own part is in `tests/clients`."""
    assert server.post(path, BODIES[path], headers=headers).status == 200


@pytest.mark.parametrize("version", [None, "2023-06-01", "2026-10-21", "garbage"])
def test_c02_the_version_of_anthropics_api_may_be_any(server: Server, version: str | None) -> None:
    headers = {"anthropic-version": version} if version else {}
    for path in ("/v1/messages", "/v1/messages?beta=true"):
        assert server.post(path, BODIES["/v1/messages"], headers=headers).status == 200


def test_the_headers_of_clients_change_nothing(server: Server) -> None:
    told = {
        "anthropic-beta": "tools-2024-04-04",
        "OpenAI-Beta": "assistants=v2",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "proj",
        "x-stainless-lang": "python",
        "Idempotency-Key": "stainless-python-retry-1",
        "Content-Type": "text/plain",
    }
    assert server.post("/v1/chat/completions", BODIES["/v1/chat/completions"], headers=told).status == 200


def test_pages_may_send_and_read_what_the_clients_need(server: Server) -> None:
    """§1.2: a browser asks first, with all headers that the clients send."""
    origin = {"Origin": "http://localhost:3000"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    preflight = server.call("OPTIONS", "/v1/messages", headers=origin | asked)
    assert preflight.status == 204
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {
        *"authorization content-type user-agent accept x-requested-with openai-beta x-api-key".split(),
        *"anthropic-version anthropic-beta anthropic-dangerous-direct-browser-access".split(),
        *"openai-organization openai-project x-stainless-helper x-stainless-read-timeout x-stainless-lang".split(),
        *"x-stainless-retry-count x-stainless-timeout x-stainless-arch x-stainless-os x-stainless-runtime".split(),
    }
    for path in ("/v1/chat/completions", "/v1/messages"):
        reply = server.post(path, BODIES[path], headers=origin)
        exposed = {name.strip().lower() for name in reply.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed >= {"x-request-id", "request-id"}


def test_every_reply_names_its_request(server: Server) -> None:
    """Partly C-09: the clients read it in `tests/clients`."""
    seen = set()
    for path, body in BODIES.items():
        header = "request-id" if path == "/v1/messages" else "x-request-id"
        replies = [
            server.post(path, body),
            server.post(path, body | MISSING),
            server.post(path, b"{"),
            server.get(path),
        ]
        if path in GENERATING:
            replies.append(server.post(path, body | {"stream": True}))
        ids = [reply.headers[header] for reply in replies]
        assert all(ids)
        seen.update(ids)
    assert len(seen) == 5 * 5 - 1
    assert server.get("/v1/models").headers["x-request-id"]
    assert server.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).headers["request-id"]


@pytest.mark.parametrize("path", GENERATING)
def test_c11_what_a_reply_is(server: Server, path: str) -> None:
    whole = server.post(path, BODIES[path])
    assert whole.content_type == "application/json"
    stream = server.post(path, BODIES[path] | {"stream": True})
    assert stream.content_type == "text/event-stream"
    assert stream.headers["Cache-Control"] == "no-cache"
    assert stream.headers["X-Accel-Buffering"] == "no"
    refused = server.post(path, BODIES[path] | MISSING | {"stream": True})
    assert (refused.status, refused.content_type) == (404, "application/json")


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
def test_c03_fields_that_nobody_knows_are_named_and_null_is_nothing(server: Server, path: str) -> None:
    reply = server.post(path, BODIES[path] | {"zzz": 1})
    assert reply.status == 200
    assert "'zzz'" in reply.headers["Llamero-Warning"]
    optional = "stream temperature top_p stop tools tool_choice options keep_alive zzz user metadata".split()
    absent = server.post(path, BODIES[path] | dict.fromkeys(optional))
    assert absent.status == 200
    assert absent.headers["Llamero-Warning"] is None


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nonsense", b'{"model": 5}'])
def test_c04_bodies_that_are_no_request(server: Server, path: str, body: bytes) -> None:
    reply = server.post(path, body)
    assert reply.status == 400
    assert error_of(reply)["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", OPENAI)
def test_c05_c06_models_that_are_not_there(server: Server, path: str) -> None:
    """Partly C-05, partly C-06: what the clients make of it is in `tests/clients`."""
    reply = server.post(path, BODIES[path] | MISSING)
    quote = '"' if path == "/v1/embeddings" else "'"
    more = ", try pulling it first" if path == "/v1/embeddings" else ""
    assert (reply.status, error_of(reply)) == (
        404,
        {
            "message": f"model {quote}nope{quote} not found{more}",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        },
    )


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("model", ["", None, "  "])
def test_c07_a_model_must_be_named(server: Server, path: str, model: str | None) -> None:
    reply = server.post(path, BODIES[path] | {"model": model})
    assert (reply.status, error_of(reply)["message"]) == (400, "model is required")


def test_a_name_that_is_none(server: Server) -> None:
    for path in OPENAI:
        error = error_of(server.post(path, BODIES[path] | {"model": "a//b"}))
        assert (error["message"], error["param"]) == ("invalid model name", "model")


@pytest.mark.parametrize(
    "path", ["/v1/nope", "/v1/images/generations", "/v1/moderations", "/v1/files", "/v1/fine_tuning/jobs"]
)
def test_c08_paths_that_do_not_exist(server: Server, path: str) -> None:
    """C-08, and partly C-105: what the clients make of it is in `tests/clients`."""
    reply = server.get(path)
    error = error_of(reply)
    assert (reply.status, error["code"], reply.content_type) == (404, "unknown_url", "application/json")
    assert error["message"].startswith(f"Unknown request URL: GET {path}.")
    wrong = server.get("/v1/chat/completions")
    assert (wrong.status, wrong.headers["Allow"], error_of(wrong)["code"]) == (405, "POST", "method_not_supported")
    anthropic = server.get("/v1/messages")
    assert (anthropic.status, anthropic.headers["Allow"]) == (405, "POST")
    assert error_of(anthropic)["type"] == "invalid_request_error"


# --- compressed bodies -----------------------------------------------------------------------------------------------


def compressed(data: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor().compress(data)
    return gzip.compress(data) if encoding == "gzip" else zlib.compress(data)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "deflate"])
@pytest.mark.parametrize("path", BODIES)
def test_c10_compressed_bodies(server: Server, path: str, encoding: str) -> None:
    sent = compressed(json.dumps(BODIES[path]).encode(), encoding)
    assert server.post(path, sent, headers={"Content-Encoding": encoding}).status == 200
    damaged = server.post(path, sent[:-4], headers={"Content-Encoding": encoding})
    assert (damaged.status, error_of(damaged)["message"]) == (400, "failed to decompress request body")


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "deflate"])
def test_c10_bodies_that_swell_too_much(server: Server, encoding: str) -> None:
    """A few kilobytes that become 65 MiB are refused in the shape of the route."""
    bomb = compressed(b" " * (65 * 2**20), encoding)
    assert len(bomb) < 2**17
    for path in ("/v1/chat/completions", "/v1/messages"):
        reply = server.post(path, bomb, headers={"Content-Encoding": encoding})
        expected = "request_too_large" if path == "/v1/messages" else "invalid_request_error"
        assert (reply.status, error_of(reply)["type"]) == (413, expected)


def test_an_encoding_that_nobody_knows(server: Server) -> None:
    reply = server.post("/v1/chat/completions", b"x", headers={"Content-Encoding": "br"})
    assert reply.status == 415
    error_of(reply)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/show"),
        ("POST", "/api/generate"),
        ("POST", f"/api/blobs/sha256:{'0' * 64}"),
        ("DELETE", "/api/delete"),
    ],
)
def test_native_routes_unpack_nothing(server: Server, method: str, path: str) -> None:
    """Security §5: what says that it is packed is refused, and not read as if it were not."""
    body = json.dumps({"model": "no-such-model"}).encode()
    for coding in ("gzip", "zstd", "br", "GZIP, identity"):
        reply = server.call(method, path, compressed(body, "gzip"), headers={"Content-Encoding": coding})
        assert (reply.status, reply.error) == (415, "unsupported content encoding")
    assert server.call(method, path, body, headers={"Content-Encoding": " Identity"}).status in (400, 404)


# --- what an engine does ---------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": ABLE, "messages": HI},
    "/v1/completions": {"model": LEVELS, "prompt": "Hi"},
    "/v1/responses": {"model": ABLE, "input": "Hi"},
    "/v1/messages": {"model": ABLE, "messages": HI, "max_tokens": 9},
}
NO_MORE = {"send": {"error": {"message": "no more", "code": 500}}}


def events(body: bytes) -> list[tuple[str, Any]]:
    """Name and data of each event, of a dialect that names them."""
    read = []
    for event in body.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        read.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return read


@pytest.mark.parametrize("path", ASKED)
def test_c12_an_engine_that_fails_in_the_middle(puppet: Puppet, path: str) -> None:
    """Partly C-12: what the clients raise is in `tests/clients`."""
    puppet.plays(delta(content="a"), delta(content="b"), NO_MORE, completion=[piece("a"), piece("b"), NO_MORE])
    reply = puppet.server.post(path, ASKED[path] | {"stream": True})
    assert reply.status == 200
    if path in ("/v1/responses", "/v1/messages"):
        name, data = events(reply.body)[-1]
        assert name == ("error" if path == "/v1/messages" else "response.failed")
        assert "no more" in json.dumps(data)
    else:
        *_, error, done = frames(reply.body)
        assert error == {"error": {"message": "no more", "type": "server_error", "param": None, "code": None}}
        assert done == "[DONE]"


@pytest.mark.parametrize("path", ASKED)
def test_c13_an_engine_that_fails_before_its_first_word(puppet: Puppet, path: str) -> None:
    puppet.plays(NO_MORE, completion=[NO_MORE])
    for stream in (True, False):
        reply = puppet.server.post(path, ASKED[path] | {"stream": stream})
        assert reply.status == 500
        error = error_of(reply)
        assert (error["message"], error["type"]) == (
            "no more",
            "api_error" if path == "/v1/messages" else "server_error",
        )


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [True, False])
def test_c14_whoever_hangs_up_stops_the_engine(puppet: Puppet, path: str, stream: bool) -> None:
    """C-14 within a second; also before the reply has begun, which the log shows as 499."""
    puppet.plays(delta(content="a"), {"hold": True}, completion=[piece("a"), {"hold": True}])
    engine_path = COMPLETION if path == "/v1/completions" else CHAT
    with asking(puppet.server, path, ASKED[path] | {"stream": stream}) as connection:
        puppet.server.wait_until(lambda: puppet.heard(engine_path))
        assert puppet.record("closed") == []
        began = time.monotonic()
        connection.close()
        puppet.server.wait_until(lambda: puppet.record("closed"), timeout_s=1)
        assert time.monotonic() - began < 1
    assert puppet.record("closed") == [engine_path]
    if not stream:
        puppet.server.wait_until(lambda: "| 499 |" in puppet.server.log.read_text())


@contextmanager
def asking(server: Server, path: str, body: Any) -> Iterator[http.client.HTTPConnection]:
    """A request whose reply nobody has read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body))
        yield connection
    finally:
        connection.close()


def test_c15_a_full_queue(start_server: StartServer, tmp_path: Path) -> None:
    holding = {"replies": {CHAT: [delta(content="a"), {"hold": True}], COMPLETION: [piece("a"), {"hold": True}]}}
    program = install(tmp_path, holding)
    server = start_server(LLAMERO_LLAMA_SERVER=str(program), OLLAMA_NUM_PARALLEL="1", LLAMERO_MAX_WAITING="1")
    bodies = {path: body | {"stream": True} for path, body in BODIES.items() if path != "/v1/embeddings"}
    with ExitStack() as stack:
        stack.enter_context(server.streaming(CHAT, bodies[CHAT])).readline()
        asked = [stack.enter_context(asking(server, CHAT, bodies[CHAT])) for _ in range(3)]
        # of these one waits, and the others hear that there is no room for them
        server.wait_until(lambda: len(select.select([each.sock for each in asked], [], [], 0)[0]) == 2)
        for path, body in bodies.items():
            reply = server.post(path, body)
            error = error_of(reply)
            assert error["message"] == "server busy, please try again.  maximum pending requests exceeded"
            assert int(reply.headers["Retry-After"]) >= 1
            assert reply.headers["x-should-retry"] is None
            if path == "/v1/messages":
                assert (reply.status, error["type"]) == (529, "overloaded_error")
            else:
                assert (reply.status, error["type"]) == (503, "server_error")


@pytest.mark.parametrize("path", ASKED)
def test_c17_native_settings_come_along(puppet: Puppet, path: str) -> None:
    native = {"options": {"num_ctx": 512, "top_k": 7}, "keep_alive": 0}
    assert puppet.server.post(path, ASKED[path] | native).status == 200
    (argv,) = puppet.record("argv")
    assert argv[argv.index("--kv-unified-per-slot") + 1] == "512"
    (body,) = puppet.heard(COMPLETION if path == "/v1/completions" else CHAT)
    assert body["top_k"] == 7
    puppet.server.wait_until(lambda: not puppet.server.loaded())


def test_what_cannot_be_cured_is_not_to_be_tried_again(start_server: StartServer, tmp_path: Path) -> None:
    """§2.3: clients repeat every 5xx twice unless they are told not to."""
    server = start_server(LLAMERO_LLAMA_SERVER=str(install(tmp_path, {"dies": 1})))
    reply = server.post(CHAT, BODIES[CHAT])
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
    assert error_of(reply)["type"] == "server_error"
    passing = install(tmp_path, {"replies": {CHAT: {"status": 500, "body": "no JSON"}}})
    assert passing
    reply = server.post(CHAT, BODIES[CHAT])
    assert (reply.status, reply.headers["x-should-retry"]) == (500, None)
    assert error_of(reply)["message"] == "no JSON"


def test_answers_of_a_stream_come_as_they_are_made(puppet: Puppet) -> None:
    """§1.4: every event is flushed when it is written."""
    puppet.plays(delta(content="a"), {"hold": True})
    with puppet.server.streaming(CHAT, ASKED[CHAT] | {"stream": True}) as response:
        assert json.loads(response.readline()[6:])["choices"][0]["delta"]["content"] == "a"

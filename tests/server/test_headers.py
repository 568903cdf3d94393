"""What stands on every reply, and what on none (security X-60; compat-api §1.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Server
from tests.server.puppet import ABLE, LEVELS, Puppet

HI = [{"role": "user", "content": "Hi"}]
FOREIGN = {"Origin": "http://evil.test"}

REPLIES: dict[str, tuple[str, str, Any, dict[str, str], int]] = {
    "the root": ("GET", "/", None, {}, 200),
    "HEAD": ("HEAD", "/api/tags", None, {}, 200),
    "an object": ("GET", "/api/version", None, {}, 200),
    "a list": ("GET", "/v1/models", None, {}, 200),
    "a model's own": ("POST", "/api/show", {"model": "smollm2:135m"}, {}, 200),
    "no route": ("GET", "/api/nope", None, {}, 404),
    "no route of OpenAI's": ("GET", "/v1/nope", None, {}, 404),
    "no method": ("PUT", "/api/tags", None, {}, 405),
    "another path": ("GET", "/api/tags/", None, {}, 301),
    "a bad body": ("POST", "/v1/messages", b"{", {}, 400),
    "a foreign page": ("GET", "/api/version", None, FOREIGN, 403),
    "a preflight": ("OPTIONS", "/api/chat", None, {"Origin": "http://localhost", "Host": "localhost"}, 204),
    "a body too large": ("POST", "/api/chat", None, {"Content-Length": str(2**40)}, 413),
    "an answer": ("POST", "/api/chat", {"model": ABLE, "messages": HI, "stream": False}, {}, 200),
    "OpenAI's answer": ("POST", "/v1/chat/completions", {"model": ABLE, "messages": HI}, {}, 200),
}

STREAMS: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": ABLE, "messages": HI},
    "/api/generate": {"model": LEVELS, "prompt": "Hi"},
    "/v1/chat/completions": {"model": ABLE, "messages": HI, "stream": True},
    "/v1/responses": {"model": ABLE, "input": "Hi", "stream": True},
    "/v1/messages": {"model": ABLE, "messages": HI, "max_tokens": 9, "stream": True},
    "/api/pull": {"model": "smollm2:135m"},
}


@pytest.mark.parametrize("name", REPLIES)
def test_x60_no_reply_is_kept_or_guessed_at(puppet: Puppet, name: str) -> None:
    """X-60; that a stream may not be held back is the next test."""
    method, path, body, headers, status = REPLIES[name]
    reply = puppet.server.call(method, path, body, headers=headers)
    assert reply.status == status
    assert reply.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert reply.headers.get_all("Cache-Control") == ["no-store"]
    assert "Server" not in reply.headers


@pytest.mark.parametrize("path", STREAMS)
def test_x60_no_stream_is_held_back(puppet: Puppet, path: str) -> None:
    """X-60, of streams; nginx holds back what does not say otherwise."""
    reply = puppet.server.post(path, STREAMS[path])
    assert reply.status == 200
    assert reply.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert reply.headers.get_all("Cache-Control") == ["no-cache"]
    assert reply.headers.get_all("X-Accel-Buffering") == ["no"]
    assert "Server" not in reply.headers


def test_a_route_that_says_itself_what_may_be_kept_has_the_last_word(server: Server) -> None:
    assert server.get("/openapi.json").headers.get_all("Cache-Control") == ["no-store"]

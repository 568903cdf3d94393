"""What a request's body holds beyond what its route knows (native-api §1.7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Server

M = "smollm2:135m"


def warning(name: str) -> list[str]:
    return [f"field '{name}' is unknown and has no effect"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "/api/show", {"model": M}, 200, id="show"),
        pytest.param("POST", "/api/copy", {"source": M, "destination": "twin-of-bodies"}, 200, id="copy"),
        pytest.param("DELETE", "/api/delete", {"model": "twin-of-bodies"}, 200, id="delete"),
        pytest.param("DELETE", "/api/delete", {"model": "nope"}, 404, id="an error"),
        pytest.param("POST", "/api/create", {"model": "x", "stream": False}, 400, id="create refused"),
        pytest.param("POST", "/api/push", {"model": "127.0.0.1:9/me/nope"}, 200, id="push"),
        pytest.param("POST", "/api/pull", {"model": " "}, 400, id="pull refused"),
        pytest.param("POST", "/api/llamero/usage", {}, 200, id="our own"),
    ],
)
def test_an_unknown_field_is_named_in_a_header(
    server: Server, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    """Once, whatever comes of the request: a misspelt field may be why it failed."""
    reply = server.call(method, path, {**body, "quantise": "q4_0"})
    assert (reply.status, reply.headers.get_all("Llamero-Warning")) == (status, warning("quantise"))
    assert b'"warnings"' not in reply.body


def test_create_names_unknown_fields_streaming_and_not(server: Server) -> None:
    for stream in (True, False):
        body = {"model": "made-by-bodies", "from": M, "stream": stream, "num_ctx": 9}
        reply = server.post("/api/create", body)
        assert reply.headers.get_all("Llamero-Warning") == warning("num_ctx")
        assert reply.lines()[-1] == {"status": "success"}
    server.call("DELETE", "/api/delete", {"model": "made-by-bodies"})


def test_embeddings_names_them_too(server: Server) -> None:
    reply = server.post("/api/embeddings", {"model": "all-minilm:22m", "prompt": "a", "truncate": True})
    assert (reply.status, list(reply.json())) == (200, ["embedding"])
    assert reply.headers.get_all("Llamero-Warning") == warning("truncate")


def test_without_an_unknown_field_there_is_no_such_header(server: Server) -> None:
    assert server.post("/api/show", {"model": M, "name": M, "verbose": False}).headers["Llamero-Warning"] is None


def test_a_field_cannot_add_a_header_of_its_own(server: Server) -> None:
    """Nor more lines than a proxy takes."""
    many = {f"f{n}": 1 for n in range(20)}
    reply = server.post("/api/show", {"model": M, "a\r\nX-Evil: 1": 1, **many})
    said = reply.headers.get_all("Llamero-Warning")
    assert said is not None
    assert len(said) == 8
    assert reply.headers["X-Evil"] is None

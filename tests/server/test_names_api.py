"""Each endpoint's words for a name that is missing, malformed or unknown (native-api §2.1)."""

from __future__ import annotations

import pytest

from tests.running import Server

INVALID = "invalid model name"
CLOUD = "ollama cloud is disabled: remote model is unavailable"
CLOUD_DETAILS = "ollama cloud is disabled: remote model details are unavailable"
BOTH = 'use either :local or :cloud, not both: "x:cloud:local"'
TRY = 'model "nope" not found, try pulling it first'

CASES = [
    ("N-29 generate {}", "/api/generate", {}, 404, "model '' not found"),
    ("N-29 generate has no alias", "/api/generate", {"name": "smollm2:135m"}, 404, "model '' not found"),
    ("N-30 chat {}", "/api/chat", {}, 400, "model is required"),
    ("N-30 embeddings {}", "/api/embeddings", {}, 400, "model is required"),
    ("N-30 embed {}", "/api/embed", {}, 404, "model '' not found"),
    ("N-31 generate", "/api/generate", {"model": "nope"}, 404, "model 'nope' not found"),
    ("N-31 chat", "/api/chat", {"model": "nope"}, 404, "model 'nope' not found"),
    ("N-32 embed", "/api/embed", {"model": "nope"}, 404, TRY),
    ("N-32 embeddings", "/api/embeddings", {"model": "nope"}, 404, TRY),
    ("N-33 show", "/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
    *(
        (f"N-34 {path} {name}", f"/api/{path}", {"model": name}, 400, INVALID)
        for path in ("generate", "chat", "embed", "show", "pull", "create")
        for name in ("x y", "a/b/c/d", "x:")
    ),
    ("N-36 copy {}", "/api/copy", {}, 400, 'source "" is invalid'),
    ("N-36 copy source", "/api/copy", {"source": "a", "destination": "b"}, 404, 'model "a" not found'),
    ("N-36 copy destination", "/api/copy", {"source": "a", "destination": "b c"}, 400, 'destination "b c" is invalid'),
    *(
        (f"N-37 {path}", f"/api/{path}", {"model": "x:cloud:local"}, 400, BOTH)
        for path in ("generate", "chat", "embed", "show", "pull")
    ),
    ("partly N-41 pull {}", "/api/pull", {}, 400, INVALID),
    *((f"N-42 {path}", f"/api/{path}", {"model": "x:cloud"}, 403, CLOUD) for path in ("generate", "chat", "embed")),
    ("N-42 show", "/api/show", {"model": "x:cloud"}, 403, CLOUD_DETAILS),
    ("N-28 chat null", "/api/chat", None, 400, "model is required"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "error"), [pytest.param(*row[1:], id=row[0]) for row in CASES])
def test_errors_about_names(server: Server, path: str, body: object, status: int, error: str) -> None:
    reply = server.post(path, b"null" if body is None else body)
    assert (reply.status, reply.error) == (status, error)


def test_n35_delete_has_its_own_words(server: Server) -> None:
    for body, status, error in (
        ({"model": "x y"}, 400, 'name "x y" is invalid'),
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({}, 400, "model is required"),
    ):
        reply = server.call("DELETE", "/api/delete", body)
        assert (reply.status, reply.error) == (status, error)


@pytest.mark.parametrize(
    "name", ["smollm2:135m", "SmolLM2:135M", " smollm2:135m ", "library/smollm2:135m", "smollm2:135m:local"]
)
def test_n38_spellings_of_one_model(server: Server, name: str) -> None:
    assert server.post("/api/show", {"model": name}).json()["details"]["parameter_size"] == "134.52M"
    reply = server.post("/api/chat", {"model": name, "messages": []})
    assert reply.json()["done_reason"] == "load"
    # N-39: replies echo the request's string byte for byte
    assert reply.json()["model"] == name


def test_n16_a_missing_body_is_said_on_every_route_that_needs_one(server: Server) -> None:
    paths = ("generate", "chat", "embed", "embeddings", "show", "create", "copy", "pull")
    for method, path in [*(("POST", path) for path in paths), ("DELETE", "delete")]:
        for body in (None, b"", b" \n"):
            reply = server.call(method, f"/api/{path}", body)
            assert (reply.status, reply.error) == (400, "missing request body"), path


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        pytest.param("/api/chat", b"{", "unexpected EOF", id="N-17 cut"),
        pytest.param("/api/chat", b"hello", "invalid character 'h' looking for beginning of value", id="N-17 word"),
        pytest.param(
            "/api/generate", b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest", id="N-18"
        ),
        pytest.param(
            "/api/chat",
            b'{"model":1}',
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
            id="N-19",
        ),
        pytest.param(
            "/api/chat",
            b'{"model":"x","messages":[{"role":"user","content":[{"type":"text"}]}]}',
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
            id="partly N-25",
        ),
        pytest.param(
            "/api/generate",
            b'{"model":"x","images":["data:image/png;base64,AAAA"]}',
            "illegal base64 data at input byte 4",
            id="partly N-26",
        ),
        pytest.param(
            "/api/chat",
            b'{"model":"x","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}',
            "Value looks like object, but can't find closing '}' symbol",
            id="N-27",
        ),
    ],
)
def test_bodies_are_refused_in_go_s_words(server: Server, path: str, body: bytes, error: str) -> None:
    reply = server.post(path, body)
    assert (reply.status, reply.error) == (400, error)
    assert reply.content_type == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"x","stream":"false"}',
        b'{"model":"x","options":[]}',
        b'{"model":"x","images":"abc"}',
        b'{"model":NaN}',
    ],
)
def test_n20_and_n24_wrong_types_on_generate(server: Server, body: bytes) -> None:
    """N-20 and N-24; `messages` as a string is the chat row of N-20."""
    assert server.post("/api/generate", body).status == 400
    assert server.post("/api/chat", b'{"model":"x","messages":"a"}').status == 400


def test_n21_n22_n23_leniency(server: Server) -> None:
    """N-21 letter case, N-22 unknown keys and trailing bytes, N-23 nulls."""
    assert server.post("/api/chat", {"MODEL": "smollm2:135m"}).json()["done_reason"] == "load"
    reply = server.post(
        "/api/chat",
        b'{"model":"smollm2:135m","zzz":1,"stream":false,"messages":[{"role":"user","content":"hi"}],'
        b'"options":{"num_predict":1}} trailing garbage',
    )
    assert reply.status == 200
    assert "zzz" in reply.headers["Llamero-Warning"]
    assert ["zzz" in warning for warning in reply.json()["warnings"]] == [True]
    nulls = dict.fromkeys(
        (
            "stream",
            "options",
            "keep_alive",
            "think",
            "format",
            "messages",
            "tools",
            "images",
            "raw",
            "system",
            "template",
        )
    )
    for path in ("/api/chat", "/api/generate"):
        reply = server.post(path, {**nulls, "model": "smollm2:135m"})
        assert (reply.status, reply.json()["done_reason"]) == (200, "load")

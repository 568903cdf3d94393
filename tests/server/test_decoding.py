"""Bodies that do not fit, on the real routes: what the decoder's own tables show, seen from outside."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Server

M = "smollm2:135m"
NOT_BASE64 = "data:image/png;base64,AAAA"


def chat(server: Server, *messages: dict[str, Any], **fields: Any) -> Any:
    body = {"model": M, "messages": messages, "options": {"num_predict": 1}, "stream": False, **fields}
    return server.post("/api/chat", body)


def test_n25_content_is_a_text_or_nothing(server: Server) -> None:
    parts = chat(server, {"role": "user", "content": [{"type": "text", "text": "hi"}]})
    assert (parts.status, parts.error) == (
        400,
        "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
    )
    assert chat(server, {"role": "user", "content": "hi"}, {"role": "assistant", "content": None}).status == 200


@pytest.mark.parametrize(
    ("image", "error"),
    [
        pytest.param(NOT_BASE64, "illegal base64 data at input byte 4", id="N-26 a data URL"),
        pytest.param("AAA", "illegal base64 data at input byte 0", id="N-26 without its padding"),
    ],
)
def test_images_are_plain_base64(server: Server, image: str, error: str) -> None:
    reply = chat(server, {"role": "user", "content": "hi", "images": [image]})
    assert (reply.status, reply.error) == (400, error)
    reply = server.post("/api/generate", {"model": M, "prompt": "hi", "images": [image]})
    assert (reply.status, reply.error) == (400, error)


WORDS = '"high", "medium", "low", "max", true, or false'


@pytest.mark.parametrize(
    ("think", "error"),
    [
        pytest.param("none", f'invalid think value: "none" (must be {WORDS})', id="T-90 a word that is none"),
        pytest.param("High", f'invalid think value: "High" (must be {WORDS})', id="T-90 letter case counts"),
        pytest.param(1, f"think must be a boolean or string ({WORDS})", id="T-90 a number"),
        pytest.param(True, f'"{M}" does not support thinking', id="T-90 a model that does not think"),
    ],
)
def test_values_of_think(server: Server, think: Any, error: str) -> None:
    reply = chat(server, {"role": "user", "content": "hi"}, think=think)
    assert (reply.status, reply.error) == (400, error)

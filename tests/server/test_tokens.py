"""Texts and tokens through the API (native-api §3.22)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Reply, Server

M = "smollm2:135m"
E = "all-minilm:22m"


def tokenize(server: Server, text: str, model: str = M, **more: Any) -> list[int]:
    reply = server.post("/api/tokenize", {"model": model, "text": text} | more)
    assert reply.status == 200, reply.body
    assert reply.json().keys() == {"model", "tokens"}
    assert reply.json()["model"] == model
    found: list[int] = reply.json()["tokens"]
    return found


def detokenize(server: Server, tokens: list[int], model: str = M) -> Reply:
    return server.post("/api/detokenize", {"model": model, "tokens": tokens})


@pytest.mark.parametrize(
    "text", ["Why is the sky blue?", "", " \n\t", "Grüße, 世界 🦙", "<|im_start|>user\n", "x" * 20_000]
)
def test_what_was_taken_apart_is_put_together_again(server: Server, text: str) -> None:
    reply = detokenize(server, tokenize(server, text))
    assert (reply.status, reply.json()) == (200, {"model": M, "text": text})


def test_tokens_are_those_that_a_prompt_costs(server: Server) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    asked = {"model": M, "prompt": text, "raw": True, "stream": False, "options": {"num_predict": 1}}
    assert len(tokenize(server, text)) == server.post("/api/generate", asked).json()["prompt_eval_count"]


def test_special_tokens_are_one_each(server: Server) -> None:
    assert len(tokenize(server, "<|im_start|><|im_end|>")) == 2


def test_what_the_model_puts_around_a_text_comes_when_asked_for(server: Server) -> None:
    bare, whole = tokenize(server, "hello", E), tokenize(server, "hello", E, add_special=True)
    assert whole[1:-1] == bare, "[CLS] and [SEP] stand around it"
    assert len(whole) == len(bare) + 2
    assert len(tokenize(server, "", E, add_special=True)) == 2


def test_another_name_of_the_text(server: Server) -> None:
    reply = server.post("/api/tokenize", {"model": M, "content": "hello"})
    assert reply.json()["tokens"] == tokenize(server, "hello")


def test_an_engine_that_is_loaded_serves_however_it_was_loaded(server: Server) -> None:
    server.unload_all()
    server.post("/api/generate", {"model": M, "options": {"num_ctx": 512}})
    engines = server.engines()
    assert detokenize(server, tokenize(server, "hello")).json()["text"] == "hello"
    assert server.engines() == engines
    server.post("/api/generate", {"model": M, "options": {"num_ctx": 512}})
    assert server.engines() == engines


def test_no_tokens_make_no_text(server: Server) -> None:
    assert detokenize(server, []).json() == {"model": M, "text": ""}


@pytest.mark.parametrize("token", [-1, 49_152, 1 << 40])
def test_tokens_that_the_model_has_not(server: Server, token: int) -> None:
    reply = detokenize(server, [1, token])
    assert (reply.status, reply.error) == (400, f"tokens: {token} is not a token of this model")


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("tokenize", {"text": "x"}, 400, "model is required"),
        ("tokenize", {"model": M}, 400, "text is required"),
        ("tokenize", {"model": M, "text": "x", "content": "y"}, 400, "text and content are two names of one field"),
        ("tokenize", {"model": M, "text": 5}, 400, "json: cannot unmarshal number into Go struct field"),
        ("tokenize", {"model": "nope", "text": "x"}, 404, "model 'nope' not found"),
        ("detokenize", {"tokens": [1]}, 400, "model is required"),
        ("detokenize", {"model": M}, 400, "tokens is required"),
        ("detokenize", {"model": M, "tokens": "x"}, 400, "json: cannot unmarshal string into Go struct field"),
        ("detokenize", {"model": M, "tokens": [1.5]}, 400, "json: cannot unmarshal number 1.5 into Go struct field"),
        ("detokenize", {"model": "nope", "tokens": [1]}, 404, "model 'nope' not found"),
    ],
)
def test_what_is_refused(server: Server, path: str, body: dict[str, Any], status: int, error: str) -> None:
    reply = server.post(f"/api/{path}", body)
    assert (reply.status, reply.error[: len(error)]) == (status, error)


def test_fields_that_mean_nothing_are_named(server: Server) -> None:
    reply = server.post("/api/tokenize", {"model": M, "text": "x", "prompt": "y"})
    assert reply.headers["Llamero-Warning"] == "field 'prompt' is unknown and has no effect"

"""Errors in OpenAI's shape and vocabulary (compat-api §2.1, §2.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero import errors
from llamero.dialects.openai.errors import (
    headers_of,
    incorrect_key,
    not_found,
    status_of,
    write_error,
)

INVALID = "invalid_request_error"


def shape(body: bytes) -> dict[str, Any]:
    reply = json.loads(body)
    assert list(reply) == ["error"]
    assert list(reply["error"]) == ["message", "type", "param", "code"]
    return dict(reply["error"])


@pytest.mark.parametrize(
    ("error", "status", "type_", "param", "code"),
    [
        (errors.BadRequest("m"), 400, INVALID, None, None),
        (errors.InvalidField("m", "messages[0].role"), 400, INVALID, "messages[0].role", None),
        (errors.InvalidField("m", "model", "a_word"), 400, INVALID, "model", "a_word"),
        (errors.InvalidField("m", ""), 400, INVALID, None, None),
        (errors.InvalidName("invalid model name"), 400, INVALID, "model", None),
        (errors.ModelNotFound("m"), 404, INVALID, "model", "model_not_found"),
        (errors.ContextTooLong(), 400, INVALID, "messages", "context_length_exceeded"),
        (errors.InputTooLong(), 400, INVALID, "messages", "context_length_exceeded"),
        (errors.UnsupportedOption("m"), 400, INVALID, "options", None),
        (errors.Incapable("m", "m", "completion"), 400, INVALID, "model", None),
        (errors.Incapable("m", "m", "tools"), 400, INVALID, "tools", None),
        (errors.Incapable("m", "m", "insert"), 400, INVALID, "suffix", None),
        (errors.Incapable("m", "m", "thinking"), 400, INVALID, "reasoning_effort", None),
        (errors.NotANumber(), 500, "server_error", None, None),
        (errors.TooLarge(5), 413, INVALID, None, None),
        (errors.MethodNotAllowed("POST"), 405, INVALID, None, "method_not_supported"),
        (errors.LlameroError("m", status=429), 429, "rate_limit_error", None, "rate_limit_exceeded"),
        (errors.Busy(), 503, "server_error", None, None),
        (errors.EngineDied("m"), 500, "server_error", None, None),
        (errors.TemplateError("m"), 500, "server_error", None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_classes(error: errors.LlameroError, status: int, type_: str, param: str | None, code: str | None) -> None:
    """partly C-04, C-06"""
    assert status_of(error) == status
    expected = {"message": str(error), "type": type_, "param": param, "code": code}
    assert shape(write_error(error, "req_1")) == expected


def test_the_field_that_holds_the_prompt_is_named_where_it_has_another_name() -> None:
    assert shape(write_error(errors.ContextTooLong("m"), prompt="prompt"))["param"] == "prompt"
    assert shape(write_error(errors.Incapable("m", "m", "vision"), prompt="input"))["param"] == "input"


def test_some_words_are_the_dialects_own() -> None:
    assert shape(write_error(errors.Incapable("m", "blind", "vision")))["message"] == (
        '"blind" does not support image input'
    )
    assert shape(write_error(errors.ContextTooLong("n_ctx is 4")))["message"].startswith(
        "the prompt is longer than the context length currently available to the model; shorten"
    )


def test_there_is_always_something_to_read() -> None:
    assert shape(write_error(errors.EngineError("")))["message"] == "the server failed without saying why"


def test_a_full_queue_says_when_to_come_back() -> None:
    """partly C-15"""
    assert dict(headers_of(errors.Busy())) == {"Retry-After": "1"}
    assert str(errors.Busy()) == "server busy, please try again.  maximum pending requests exceeded"


@pytest.mark.parametrize(
    ("error", "is_incurable"),
    [
        (errors.LoadFailed("m"), True),
        (errors.OutOfMemory("m"), True),
        (errors.InvalidModelFile("m", status=500), True),
        (errors.TemplateError("m"), True),
        (errors.TemplateStuck("m"), True),
        (errors.NotANumber(), True),
        (errors.EngineError("m", status=501), True),
        (errors.EngineDied("m"), False),
        (errors.BadRequest("m"), False),
    ],
)
def test_clients_are_told_not_to_repeat_what_a_repetition_cannot_cure(
    error: errors.LlameroError, is_incurable: bool
) -> None:
    assert (headers_of(error).get("x-should-retry") == "false") == is_incurable


def test_paths_that_do_not_exist() -> None:
    """partly C-08"""
    unknown = shape(not_found("GET", "/v1/nope"))
    assert unknown["message"].startswith("Unknown request URL: GET /v1/nope.")
    assert (unknown["type"], unknown["code"]) == (INVALID, "unknown_url")


def test_a_wrong_key() -> None:
    """partly C-16"""
    assert shape(incorrect_key()) == {
        "message": "Incorrect API key provided.",
        "type": INVALID,
        "param": None,
        "code": "invalid_api_key",
    }

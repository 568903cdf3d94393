"""compat-api §2.2, §2.3: errors in Anthropic's words."""

from __future__ import annotations

import json

import pytest

from llamero.dialects.anthropic import errors
from llamero.errors import (
    Busy,
    EngineDied,
    Forbidden,
    InvalidField,
    LlameroError,
    ModelNotFound,
    NotSupported,
    OutOfMemory,
    TooLarge,
)

REQUEST = "req_0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidField("model is required", "model"), 400, "invalid_request_error"),
        (LlameroError("no key", status=401), 401, "authentication_error"),
        (LlameroError("no money", status=402), 402, "billing_error"),
        (Forbidden("not you"), 403, "permission_error"),
        (ModelNotFound("model 'x' not found"), 404, "not_found_error"),
        (TooLarge(5), 413, "request_too_large"),
        (LlameroError("slow down", status=429), 429, "rate_limit_error"),
        (EngineDied("it fell over"), 500, "api_error"),
        (NotSupported("not yet"), 501, "api_error"),
        (LlameroError("loading", status=503), 503, "overloaded_error"),
        (LlameroError("too late", status=504), 504, "timeout_error"),
        (Busy(), 529, "overloaded_error"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_the_status_says_the_type(error: LlameroError, status: int, kind: str) -> None:
    """partly C-04, partly C-05, partly C-15"""
    assert errors.status_of(error) == status
    body = errors.write_error(error, REQUEST)
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": str(error)},
        "request_id": REQUEST,
    }


def test_a_message_is_never_empty() -> None:
    assert json.loads(errors.write_error(LlameroError(""), REQUEST))["error"]["message"]


def test_a_full_queue_says_when_to_come_back_and_a_lost_cause_not_to() -> None:
    assert errors.headers_of(Busy()) == {"Retry-After": "1"}
    assert errors.headers_of(OutOfMemory("too big")) == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("body", "kind", "word"),
    [
        (errors.not_found("POST", "/v1/messages/batches", REQUEST), "not_found_error", "/v1/messages/batches"),
        (errors.incorrect_key(REQUEST), "authentication_error", "invalid x-api-key"),
    ],
)
def test_what_is_refused_before_anybody_reads_it(body: bytes, kind: str, word: str) -> None:
    reply = json.loads(body)
    assert (reply["type"], reply["error"]["type"], reply["request_id"]) == ("error", kind, REQUEST)
    assert word in reply["error"]["message"]

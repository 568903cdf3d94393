"""Errors as OpenAI's clients read them: bodies, statuses, headers. Which class means what is decided here alone.

Source: compat-api §1.1, §1.2, §2.1, §2.3.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...errors import (
    BadRequest,
    ContextTooLong,
    Incapable,
    InvalidField,
    InvalidName,
    LlameroError,
    LoadFailed,
    MethodNotAllowed,
    ModelNotFound,
    NotANumber,
    NotSupported,
    StorageError,
    TemplateError,
    TemplateStuck,
    Unauthorized,
    UnsupportedOption,
)

INVALID = "invalid_request_error"
SPEECHLESS = "the server failed without saying why"
"""Instead of an empty message, which clients show as nothing at all."""

_INCURABLE = (LoadFailed, StorageError, TemplateError, TemplateStuck, NotANumber, BadRequest)
"""What a second try does not mend. A BadRequest among 5xx is a damaged model file in our own store."""

NEEDED_BY = {"tools": "tools", "insert": "suffix", "thinking": "reasoning_effort"}
"""The fields that need a capability. Senses are needed by what is in the prompt, all else by the request as such."""
SENSES = {"vision": "image", "audio": "audio"}


class ErrorBody(msgspec.Struct):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIErrorReply(msgspec.Struct):
    error: ErrorBody


def write_error(error: LlameroError, request_id: str = "", *, prompt: str = "messages") -> bytes:
    """The body of an error reply, and of an error inside a stream; the request's id stands in the headers only.

    `prompt` is the field that holds the prompt: the one to name when that does not fit.
    """
    if isinstance(error, Unauthorized):
        return incorrect_key()
    param, code = _blamed(error, prompt)
    return _encode(_message(error), _type(status_of(error)), param, code)


def status_of(error: LlameroError) -> int:
    return 500 if isinstance(error, NotANumber) else error.status


def headers_of(error: LlameroError) -> Mapping[str, str]:
    """Extra headers: official clients repeat 408, 409, 429 and every 5xx twice unless they are told not to."""
    if status_of(error) >= 500 and (isinstance(error, _INCURABLE) or error.status == NotSupported.status):
        return {**error.headers, "x-should-retry": "false"}
    return error.headers


def not_found(method: str, path: str) -> bytes:
    """The body of a 404 for a path that does not exist."""
    message = f"Unknown request URL: {method} {path}. Please check the URL for typos."
    return _encode(message, INVALID, None, "unknown_url")


def incorrect_key() -> bytes:
    """The body of a 401 for a missing or wrong key."""
    return _encode("Incorrect API key provided.", INVALID, None, "invalid_api_key")


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else INVALID


def _message(error: LlameroError) -> str:
    if isinstance(error, Incapable) and error.need in SENSES:
        return f'"{error.model}" does not support {SENSES[error.need]} input'
    if type(error) is ContextTooLong:
        return str(ContextTooLong())  # not in the engine's words, which speak of slots and flags
    return str(error)


def _blamed(error: LlameroError, prompt: str) -> tuple[str | None, str | None]:
    """`param` and `code`."""
    match error:
        case InvalidField():
            return error.param or None, error.code or None
        case ModelNotFound():
            return "model", "model_not_found"
        case InvalidName():
            return "model", None
        case Incapable():
            return prompt if error.need in SENSES else NEEDED_BY.get(error.need, "model"), None
        case UnsupportedOption():
            return "options", None
        case ContextTooLong():
            return prompt, "context_length_exceeded"
        case MethodNotAllowed():
            return None, "method_not_supported"
        case LlameroError(status=429):
            return None, "rate_limit_exceeded"
    return None, None


def _encode(message: str, type_: str, param: str | None, code: str | None) -> bytes:
    return msgspec.json.encode(OpenAIErrorReply(ErrorBody(message or SPEECHLESS, type_, param, code)))

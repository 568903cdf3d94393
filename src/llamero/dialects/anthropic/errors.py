"""Errors in Anthropic's words. Source: compat-api §1.1, §2.2, §2.3."""

from __future__ import annotations

import msgspec

from ...errors import Busy, LlameroError, Unauthorized
from ..openai.errors import SPEECHLESS, headers_of

__all__ = ["headers_of", "incorrect_key", "not_found", "status_of", "write_error"]

OVERLOADED = 529
"""Official clients know it as an overload that is worth another try."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


def status_of(error: LlameroError) -> int:
    return OVERLOADED if isinstance(error, Busy) else error.status


def write_error(error: LlameroError, request_id: str) -> bytes:
    """The body of an error reply, and the data of an error event.

    `request_id` is `req_` and 24 hexadecimal digits, the same as in the header `request-id`.
    """
    if isinstance(error, Unauthorized):
        return incorrect_key(request_id)
    return _encode(str(error), status_of(error), request_id)


def not_found(method: str, path: str, request_id: str) -> bytes:
    """The body of a 404 for a path that does not exist."""
    return _encode(f"Not found: {method} {path}", 404, request_id)


def incorrect_key(request_id: str) -> bytes:
    """The body of a 401 for a missing or wrong key."""
    return _encode("invalid x-api-key", 401, request_id)


def _encode(message: str, status: int, request_id: str) -> bytes:
    error = {"type": _TYPES.get(status, "api_error"), "message": message or SPEECHLESS}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})

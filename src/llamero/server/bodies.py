"""Reading the JSON body of a request that generates nothing; what means nothing in it is named in the reply's headers.

The bodies of generate, chat and embed are their dialect's: those warnings also stand in the reply. Source: native-api
§1.5, §1.7.
"""

from __future__ import annotations

from typing import TypeVar

from starlette.requests import Request

from ..dialects import native
from ..dialects.gojson import decode

T = TypeVar("T")


def read(request: Request, body: bytes, type_: type[T], request_type: str) -> T:
    """The body as a `type_`; `request_type` is Go's name for it. Raises BadRequest as `gojson.decode` does.

    The app puts `request.state.warnings` into the headers of whatever comes of the request.
    """
    decoded = decode(body, type_, request_type)
    request.state.warnings += native.unknown_fields(decoded.unknown)
    return decoded.value

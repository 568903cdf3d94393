"""Texts cut into the tokens of a model, and put together again. Source: native-api §3.22."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .. import messages
from ..config import Settings
from ..dialects.gofields import GoType
from ..dialects.gojson import encode
from ..dialects.native import KeepAlive
from ..errors import BadRequest, InvalidField
from . import bodies
from .answers import JSON
from .inference import Inference
from .routes import Route
from .streams import unless_gone


class TokenizeBody(msgspec.Struct):
    model: str = ""
    text: str | None = None
    content: str | None = None
    """Another name for `text`."""
    add_special: bool = False
    keep_alive: KeepAlive = None


class TokenizeReply(msgspec.Struct):
    model: str
    tokens: list[int]


class DetokenizeBody(msgspec.Struct):
    model: str = ""
    tokens: Annotated[tuple[int, ...] | None, GoType("[]int")] = None
    keep_alive: KeepAlive = None


class DetokenizeReply(msgspec.Struct):
    model: str
    text: str


class Tokens:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def tokenize(self, request: Request, body: bytes) -> Response:
        asked = bodies.read(request, body, TokenizeBody, "TokenizeRequest")
        text = asked.content if asked.text is None else asked.text
        if text is None:
            raise InvalidField("text is required", "text")
        if asked.text is not None and asked.content is not None:
            raise InvalidField("text and content are two names of one field: give one of them", "content")
        work = self._inference.tokenize(_for(asked), text, add_special=asked.add_special)
        told = await unless_gone(request, work)
        request.state.warnings += told.warnings
        return Response(encode(TokenizeReply(asked.model, told.value)), media_type=JSON)

    async def detokenize(self, request: Request, body: bytes) -> Response:
        asked = bodies.read(request, body, DetokenizeBody, "DetokenizeRequest")
        if asked.tokens is None:
            raise InvalidField("tokens is required", "tokens")
        told = await unless_gone(request, self._inference.detokenize(_for(asked), asked.tokens))
        request.state.warnings += told.warnings
        return Response(encode(DetokenizeReply(asked.model, told.value)), media_type=JSON)


def _for(asked: TokenizeBody | DetokenizeBody) -> messages.Request:
    if not asked.model.strip():
        raise BadRequest("model is required")
    return messages.Request(model=asked.model, keep_alive_ns=asked.keep_alive)


def routes(inference: Inference, settings: Settings) -> list[Route]:
    own = Tokens(inference)
    limit = settings.max_body_bytes
    return [
        Route(
            "POST",
            "/api/tokenize",
            own.tokenize,
            "Cut a text into tokens",
            "infer",
            body=TokenizeBody,
            reply=TokenizeReply,
            body_limit_bytes=limit,
        ),
        Route(
            "POST",
            "/api/detokenize",
            own.detokenize,
            "Put tokens together to a text",
            "infer",
            body=DetokenizeBody,
            reply=DetokenizeReply,
            body_limit_bytes=limit,
        ),
    ]

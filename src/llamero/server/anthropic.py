"""Anthropic's routes: messages, and the counting of their tokens. Source: compat-api §9, §10."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.anthropic import count, errors, reading, reply, stream
from ..dialects.gojson import decode_value
from ..dialects.images import remote_urls
from ..pictures import Pictures
from .answers import BARE_JSON
from .inference import Inference
from .replies import reply as send
from .replies import side_by_side
from .routes import ErrorShape, Handler, Route
from .streams import unless_gone

SIGNATURE_BYTES = 32


class AnthropicErrorReply(msgspec.Struct):
    type: str
    error: dict[str, str]
    request_id: str


ERRORS = ErrorShape(
    errors.write_error, AnthropicErrorReply, errors.status_of, errors.headers_of, "request-id", errors.not_found
)


class Anthropic:
    def __init__(self, inference: Inference, settings: Settings, pictures: Pictures) -> None:
        self._inference = inference
        self._pictures = pictures
        self._thinks_by_default = settings.messages_think
        self._secret = secrets.token_bytes(SIGNATURE_BYTES)
        """Signatures are handed back unread: another start of the server may make others."""

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    async def _fetched(self, request: Request, body: bytes) -> Mapping[str, bytes]:
        return await unless_gone(request, self._pictures.fetch(lambda: remote_urls(decode_value(body))))

    async def messages(self, request: Request, body: bytes) -> Response:
        fetched = await self._fetched(request, body)
        asked = reading.read_messages(body, thinks_by_default=self._thinks_by_default, fetched=fetched)
        id_ = f"msg_{secrets.token_hex(12)}"
        frame = reply.Frame(id_, asked.request.model, asked.max_tokens, asked.display, self._sign)
        return await send(
            request,
            side_by_side([self._inference.chat(asked.request)]),
            writer=stream.StreamWriter(frame, request.state.id) if asked.request.stream else None,
            whole=lambda choices: reply.write_message(frame, choices),
        )

    async def count_tokens(self, request: Request, body: bytes) -> Response:
        fetched = await self._fetched(request, body)
        asked = count.read_count(body, thinks_by_default=self._thinks_by_default, fetched=fetched)
        told = await unless_gone(request, self._inference.count(asked))
        request.state.warnings += told.warnings
        return Response(count.write_count(told.value), media_type=BARE_JSON)


def routes(inference: Inference, settings: Settings, pictures: Pictures) -> list[Route]:
    own = Anthropic(inference, settings, pictures)

    def post(path: str, handler: Handler, summary: str) -> Route:
        limit = settings.max_body_bytes
        return Route("POST", path, handler, summary, "infer", body_limit_bytes=limit, errors=ERRORS, inflates=True)

    return [
        post("/v1/messages", own.messages, "Answer a conversation, in Anthropic's form"),
        post("/v1/messages/count_tokens", own.count_tokens, "Count the tokens of a prompt, in Anthropic's form"),
    ]

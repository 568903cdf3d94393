"""OpenAI's Responses: answers that are kept, and conversations that go on from them. Source: compat-api §8."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.fields import read_body
from ..dialects.openai import errors
from ..dialects.responses import kept
from ..dialects.responses.items import History, Item, references
from ..dialects.responses.kept import Kept
from ..dialects.responses.reading import Asked, previous_id, read
from ..dialects.responses.stream import ResponseWriter
from ..errors import StorageError
from ..messages import Finished, Text, Thinking, ToolCall
from ..responses import Responses as Store
from .answers import BARE_JSON
from .inference import Inference
from .replies import Choices, Part, reply, side_by_side
from .routes import ErrorShape, Handler, Route
from .streams import unless_gone

log = logging.getLogger(__name__)

ANYBODY = ""
"""The owner of what is kept while no keys tell callers apart."""

ERRORS = ErrorShape(
    lambda error, _: errors.write_error(error, prompt="input"),
    errors.ErrorReply,
    errors.status_of,
    errors.headers_of,
    "x-request-id",
    lambda method, path, _: errors.not_found(method, path),
)


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


class Responses:
    def __init__(self, inference: Inference, store: Store, settings: Settings, clock: Callable[[], int]) -> None:
        self._inference = inference
        self._store = store
        self._effort_fallback = settings.effort_fallback
        self._clock = clock

    async def create(self, request: Request, body: bytes) -> Response:
        asked = await self._read(body)
        writer = ResponseWriter(asked, new_id, self._clock)
        stream = asked.request.stream
        written: list[bytes] = []
        steps = side_by_side([self._inference.chat(asked.request)])
        steps = self._keeping(steps if stream else _written(steps, writer, written), asked, writer)
        return await reply(request, steps, writer=writer if stream else None, whole=lambda _: written[0])

    async def count(self, request: Request, body: bytes) -> Response:
        asked = await self._read(body)
        return _json(kept.write_input_tokens(await unless_gone(request, self._inference.count(asked.request))))

    async def get(self, request: Request, body: bytes) -> Response:
        return _json(kept.write_kept(await self._kept(request)))

    async def items(self, request: Request, body: bytes) -> Response:
        return _json(kept.list_input(await self._kept(request), request.query_params))

    async def delete(self, request: Request, body: bytes) -> Response:
        id_ = request.path_params["id"]
        if not await asyncio.to_thread(self._store.delete, ANYBODY, id_):
            raise kept.not_found(id_)
        return _json(kept.write_deleted(id_))

    async def cancel(self, request: Request, body: bytes) -> Response:
        await self._kept(request)
        raise kept.cannot_cancel()

    async def _read(self, body: bytes) -> Asked:
        fields = read_body(body)
        earlier: Sequence[Item] = ()
        if (id_ := previous_id(fields)) is not None:
            before = await asyncio.to_thread(self._store.get, ANYBODY, id_)
            if before is None:
                raise kept.previous_not_found(id_)
            earlier = before.conversation
        referenced = await asyncio.to_thread(self._store.items, ANYBODY, references(fields))
        history = History(earlier=earlier, referenced=referenced)
        return read(fields, history, can_keep=self._store.can_keep, effort_fallback=self._effort_fallback)

    async def _kept(self, request: Request) -> Kept:
        id_ = request.path_params["id"]
        found = await asyncio.to_thread(self._store.get, ANYBODY, id_)
        if found is None:
            raise kept.not_found(id_)
        return found

    async def _keeping(self, steps: Choices, asked: Asked, writer: ResponseWriter) -> Choices:
        """The steps; when the writer has had the last one, its response is kept, before the client hears of the end."""
        async with contextlib.aclosing(steps):
            async for step in steps:
                yield step
        if asked.keeps:
            try:
                await asyncio.to_thread(self._store.put, ANYBODY, kept.keep(writer.response, asked.items, new_id))
            except StorageError as error:
                log.warning("a response could not be kept: %s", error)


async def _written(steps: Choices, writer: ResponseWriter, written: list[bytes]) -> Choices:
    """The steps, and at the last one the whole reply."""
    parts: list[Part] = []
    async with contextlib.aclosing(steps):
        async for number, step in steps:
            if isinstance(step, Finished):
                written.append(writer.whole(parts, step))
            elif isinstance(step, Text | Thinking | ToolCall):
                parts.append(step)
            yield number, step


def _json(body: bytes) -> Response:
    return Response(body, media_type=BARE_JSON)


def routes(inference: Inference, store: Store, settings: Settings, clock: Callable[[], int]) -> list[Route]:
    own = Responses(inference, store, settings, clock)

    def route(method: str, path: str, handler: Handler, summary: str) -> Route:
        limit = settings.max_body_bytes
        return Route(method, path, handler, summary, "infer", body_limit_bytes=limit, errors=ERRORS, inflates=True)

    return [
        route("POST", "/v1/responses", own.create, "Answer, and keep the answer, in the form of OpenAI's Responses"),
        route("POST", "/v1/responses/input_tokens", own.count, "Count the tokens of a prompt, in OpenAI's form"),
        route("GET", "/v1/responses/{id}", own.get, "A kept response"),
        route("DELETE", "/v1/responses/{id}", own.delete, "Forget a kept response"),
        route("GET", "/v1/responses/{id}/input_items", own.items, "What a kept response answers"),
        route("POST", "/v1/responses/{id}/cancel", own.cancel, "End a response that runs in the background"),
    ]

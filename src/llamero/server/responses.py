"""OpenAI's Responses: answers that are kept, and conversations that go on from them. Source: compat-api §8."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.fields import read_body
from ..dialects.openai import errors
from ..dialects.responses import kept
from ..dialects.responses.items import History, Item, references, remote_urls
from ..dialects.responses.kept import Kept
from ..dialects.responses.reading import Asked, previous_id, read
from ..dialects.responses.stream import ResponseWriter
from ..errors import BadRequest, Busy, InvalidField, LlameroError, RateLimited, StorageError
from ..messages import Finished, Started, Text, Thinking, ToolCall
from ..pictures import Pictures
from ..responses import Responses as Store
from .answers import BARE_JSON, warning_headers, with_headers
from .background import Background, to_its_end
from .caller import caller
from .inference import Inference
from .replies import Choices, Part, reply, side_by_side
from .routes import ErrorShape, Handler, Route
from .streams import STOPPING, unless_gone

log = logging.getLogger(__name__)

ERRORS = ErrorShape(
    lambda error, _: errors.write_error(error, prompt="input"),
    errors.OpenAIErrorReply,
    errors.status_of,
    errors.headers_of,
    "x-request-id",
    lambda method, path, _: errors.not_found(method, path),
)


def _owner() -> str:
    """Whose is what is kept: the caller's key, or nobody's while there are none."""
    return caller.get().owner


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


class Responses:
    def __init__(
        self,
        inference: Inference,
        store: Store,
        settings: Settings,
        pictures: Pictures,
        background: Background,
        clock: Callable[[], int],
    ) -> None:
        self._inference = inference
        self._background = background
        self._pictures = pictures
        self._store = store
        self._effort_fallback = settings.effort_fallback
        self._clock = clock

    async def create(self, request: Request, body: bytes) -> Response:
        asked = await self._read(request, body)
        writer = ResponseWriter(asked, new_id, self._clock)
        if asked.is_background:
            return await self._detach(asked, writer)
        stream = asked.request.stream
        written: list[bytes] = []
        steps = side_by_side([self._inference.chat(asked.request)])
        steps = self._keeping(steps if stream else _written(steps, writer, written), asked, writer)
        return await reply(request, steps, writer=writer if stream else None, whole=lambda _: written[0])

    async def count(self, request: Request, body: bytes) -> Response:
        asked = await self._read(request, body)
        told = await unless_gone(request, self._inference.count(asked.request))
        request.state.warnings += told.warnings
        return _json(kept.write_input_tokens(told.value))

    async def get(self, request: Request, body: bytes) -> Response:
        if request.query_params.get("stream", "false") != "false":
            raise InvalidField("'stream' is not supported for responses that are kept", "stream")
        return _json(kept.write_kept(await self._kept(request)))

    async def items(self, request: Request, body: bytes) -> Response:
        return _json(kept.list_input(await self._kept(request), request.query_params))

    async def delete(self, request: Request, body: bytes) -> Response:
        id_ = (await self._kept(request)).id
        await self._background.end(id_)
        if not await asyncio.to_thread(self._store.delete, _owner(), id_):
            raise kept.not_found(id_)
        return _json(kept.write_deleted(id_))

    async def cancel(self, request: Request, body: bytes) -> Response:
        """End what still goes on; a response that has ended stays what it is."""
        found = await self._kept(request)
        if not found.response["background"]:
            raise kept.cannot_cancel()
        await self._background.end(found.id)
        return _json(kept.write_kept(await self._kept(request)))

    async def _read(self, request: Request, body: bytes) -> Asked:
        fields = read_body(body)
        earlier: Sequence[Item] = ()
        if (id_ := previous_id(fields)) is not None:
            before = await self._find(id_)
            if before is None:
                raise kept.previous_not_found(id_)
            if before.is_pending:
                raise kept.previous_not_ready(id_)
            earlier = before.conversation
        referenced = await asyncio.to_thread(self._store.items, _owner(), references(fields))
        history = History(earlier, referenced)
        fetched = await unless_gone(request, self._pictures.fetch(lambda: remote_urls(fields, history)))
        history = replace(history, fetched=fetched)
        return read(fields, history, can_keep=self._store.can_keep, effort_fallback=self._effort_fallback)

    async def _kept(self, request: Request) -> Kept:
        id_ = request.path_params["id"]
        found = await self._find(id_)
        if found is None:
            raise kept.not_found(id_)
        return found

    async def _find(self, id_: str) -> Kept | None:
        """What is kept. What a server that is no more was at will never end."""
        goes_on = id_ in self._background  # asked first: what ends meanwhile is kept before it is gone from there
        found = await asyncio.to_thread(self._store.get, _owner(), id_)
        return kept.broken_off(found) if found is not None and found.is_pending and not goes_on else found

    async def _keeping(self, steps: Choices, asked: Asked, writer: ResponseWriter) -> Choices:
        """The steps; when the writer has had the last one, its response is kept, before the client hears of the end."""
        async with contextlib.aclosing(steps):
            async for step in steps:
                yield step
        if asked.keeps:
            await self._keep(kept.keep(writer.response, asked.items, new_id))

    async def _keep(self, entry: Kept) -> None:
        """Has kept it when it returns, and also when it is cancelled: what is kept or deleted next comes after it."""
        await to_its_end(self._put(entry))

    async def _put(self, entry: Kept) -> None:
        try:
            await asyncio.to_thread(self._store.put, _owner(), entry)
        except StorageError as error:
            log.warning("a response could not be kept: %s", error)

    # --- in the background -------------------------------------------------------------------------------------------

    async def _detach(self, asked: Asked, writer: ResponseWriter) -> Response:
        """Say at once that there will be an answer."""
        model = asked.request.model
        await self._inference.model(model, f"model '{model}' not found")
        entry = kept.keep(writer.queued(), asked.items, new_id)
        if not await asyncio.to_thread(self._store.put, _owner(), entry):
            raise kept.too_long()
        try:
            self._background.start(entry.id, self._make(asked, writer, entry), caller.get().party)
        except (Busy, RateLimited):
            await asyncio.to_thread(self._store.delete, _owner(), entry.id)
            raise
        return with_headers(_json(kept.write_kept(entry)), warning_headers(asked.request.warnings))

    async def _make(self, asked: Asked, writer: ResponseWriter, entry: Kept) -> None:
        """Make an answer that nobody waits for. Whatever comes of it is kept."""
        try:
            async with contextlib.aclosing(self._inference.chat(asked.request)) as steps:
                async for step in steps:
                    if isinstance(step, Started):
                        await self._keep(entry.now(writer.response))
                    elif isinstance(step, Finished):
                        writer.finish(step)
                    elif isinstance(step, Text | Thinking | ToolCall):
                        writer.part(step)
        except asyncio.CancelledError:
            if self._background.is_closing:
                writer.failed(STOPPING)
            else:
                writer.cancelled()
        except LlameroError as error:
            writer.failed(error)
        except Exception:
            log.exception("a response in the background failed unexpectedly")
            writer.failed(LlameroError("internal server error"))
        await self._keep(entry.now(writer.response))


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


async def _compact(request: Request, body: bytes) -> Response:
    raise BadRequest(
        "/v1/responses/compact is not supported; with 'truncation' auto a request leaves out what is too long"
    )


def _json(body: bytes) -> Response:
    return Response(body, media_type=BARE_JSON)


def routes(
    inference: Inference,
    store: Store,
    settings: Settings,
    pictures: Pictures,
    background: Background,
    clock: Callable[[], int],
) -> list[Route]:
    own = Responses(inference, store, settings, pictures, background, clock)

    def route(method: str, path: str, handler: Handler, summary: str) -> Route:
        limit = settings.max_body_bytes
        return Route(method, path, handler, summary, "infer", body_limit_bytes=limit, errors=ERRORS, inflates=True)

    return [
        route("POST", "/v1/responses", own.create, "Answer, and keep the answer, in the form of OpenAI's Responses"),
        route("POST", "/v1/responses/input_tokens", own.count, "Count the tokens of a prompt, in OpenAI's form"),
        route("POST", "/v1/responses/compact", _compact, "Refused: conversations are not made shorter"),
        route("GET", "/v1/responses/{id}", own.get, "A kept response"),
        route("DELETE", "/v1/responses/{id}", own.delete, "Forget a kept response"),
        route("GET", "/v1/responses/{id}/input_items", own.items, "What a kept response answers"),
        route("POST", "/v1/responses/{id}/cancel", own.cancel, "End a response that runs in the background"),
    ]

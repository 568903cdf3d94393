"""From steps to HTTP: one object, or a stream of lines that can still fail; and work that ends when its client leaves.

It knows no dialect: writers make the bytes. Source: native-api §1.6, §1.8, §1.9.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import Busy, Cancelled, LlameroError
from ..messages import Finished, Loaded, Rendered, Started, Step, Text, Thinking, ToolCall

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"
BARE_JSON = "application/json"
"""Of single replies from create, pull and push, and of errors that take the place of a stream's first line."""
NDJSON = "application/x-ndjson"

MAX_WARNINGS = 8
MAX_WARNING_CHARS = 200

STOPPING = Busy("the server is stopping")

_T = TypeVar("_T")


class Writer(Protocol):
    """A dialect's way to write one answer."""

    def part(self, part: Text | Thinking | ToolCall) -> bytes: ...

    def end(self, finished: Finished, parts: Sequence[Text | Thinking | ToolCall] = ()) -> bytes: ...

    def single(self, step: Loaded | Rendered) -> bytes: ...


WriteError = Callable[[LlameroError], bytes]


def warning_headers(warnings: Sequence[str]) -> list[tuple[str, str]]:
    """One `Llamero-Warning` line each: ASCII, bounded, nothing that could end the line."""
    return [("Llamero-Warning", _header_text(text)) for text in warnings[:MAX_WARNINGS]]


def _header_text(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:MAX_WARNING_CHARS]


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Do some work for a client; when the client leaves, cancel it, wait until it has let go, and raise Cancelled.

    The request's body must have been read: the next message can then only be the disconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Cancelled
    finally:
        for each in (gone, task):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(
    request: Request, steps: AsyncGenerator[Step, None], writer: Writer, write_error: WriteError, *, stream: bool
) -> Response:
    """The reply for the steps of one answer. Errors before its first byte are raised, later ones are its last line."""
    try:
        return await unless_gone(request, _answer(request, steps, writer, write_error, stream=stream))
    except BaseException:
        await steps.aclose()
        raise


async def _answer(
    request: Request, steps: AsyncGenerator[Step, None], writer: Writer, write_error: WriteError, *, stream: bool
) -> Response:
    first = await anext(steps)
    if isinstance(first, Loaded | Rendered):
        await steps.aclose()  # gives the lease back before the client can ask for the next thing
        return Response(writer.single(first), media_type=JSON)
    assert isinstance(first, Started)
    headers = warning_headers(first.warnings)
    if stream:
        return Lines(_lines(steps, writer), NDJSON, write_error, headers, request)
    parts: list[Text | Thinking | ToolCall] = []
    async for step in steps:
        if isinstance(step, Finished):
            await steps.aclose()
            return with_headers(Response(writer.end(step, parts), media_type=JSON), headers)
        assert isinstance(step, Text | Thinking | ToolCall)
        parts.append(step)
    raise AssertionError("an answer ended without Finished")


async def _lines(steps: AsyncGenerator[Step, None], writer: Writer) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(steps):
        async for step in steps:
            if isinstance(step, Finished):
                yield writer.end(step)
                return
            assert isinstance(step, Text | Thinking | ToolCall)
            yield writer.part(step)


def with_headers(response: Response, headers: Sequence[tuple[str, str]]) -> Response:
    for name, value in headers:
        response.headers.append(name, value)
    return response


class Lines(Response):
    """A stream of lines, each sent as soon as it exists. Closes its source when it ends, fails, or nobody listens."""

    def __init__(
        self,
        lines: AsyncGenerator[bytes, None],
        content_type: str,
        write_error: WriteError,
        headers: Sequence[tuple[str, str]],
        request: Request,
    ) -> None:
        super().__init__(status_code=200, media_type=content_type)
        del self.headers["content-length"]
        with_headers(self, headers)
        self._lines = lines
        self._write_error = write_error
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await unless_gone(self._request, self._pump(send))
        except Cancelled:
            pass  # nobody is there to read an end
        except asyncio.CancelledError:
            # the server stops, and this answer has had its time: say so, and let the task end
            await send({"type": "http.response.body", "body": self._write_error(STOPPING) + b"\n", "more_body": False})

    async def _pump(self, send: Send) -> None:
        async with contextlib.aclosing(self._lines):
            try:
                async for line in self._lines:
                    await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
            except LlameroError as error:
                await send({"type": "http.response.body", "body": self._write_error(error) + b"\n", "more_body": True})
            except Exception:
                log.exception("a stream failed unexpectedly")
                line = self._write_error(LlameroError("internal server error"))
                await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def nothing(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An empty reply, without a content type."""
    return Response(status_code=status, headers=dict(headers or {}))

"""From the steps of an answer to HTTP: one object, or a stream of lines. It knows no dialect: writers make the bytes.

Source: native-api §1.6, §1.8.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from ..messages import Finished, Loaded, Rendered, Started, Step, Text, Thinking, ToolCall
from .streams import WriteError, lines, unless_gone

JSON = "application/json; charset=utf-8"
BARE_JSON = "application/json"
"""Of single replies from create, pull and push, and of errors that take the place of a stream's first line."""

MAX_WARNINGS = 8
MAX_WARNING_CHARS = 200


class Writer(Protocol):
    """A dialect's way to write one answer."""

    def part(self, part: Text | Thinking | ToolCall) -> bytes: ...

    def end(self, finished: Finished, parts: Sequence[Text | Thinking | ToolCall] = ()) -> bytes: ...

    def single(self, step: Loaded | Rendered) -> bytes: ...


def warning_headers(warnings: Sequence[str]) -> list[tuple[str, str]]:
    """One `Llamero-Warning` line each: ASCII, bounded, nothing that could end the line."""
    return [("Llamero-Warning", _header_text(text)) for text in warnings[:MAX_WARNINGS]]


def _header_text(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:MAX_WARNING_CHARS]


async def answer(
    request: Request, steps: AsyncGenerator[Step, None], writer: Writer, write_error: WriteError, *, stream: bool
) -> Response:
    """The reply for the steps of one answer. Errors before its first byte are raised, later ones are its last line."""
    request.state.streams = stream  # the app writes an error in the place of a stream's first line as one
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
        return with_headers(Response(writer.single(first), media_type=JSON), warning_headers(first.warnings))
    assert isinstance(first, Started)
    headers = warning_headers(first.warnings)
    if stream:
        return lines(_lines(steps, writer), write_error, headers, request)
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


def nothing(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An empty reply, without a content type."""
    return Response(status_code=status, headers=dict(headers or {}))

"""Replies of the dialects under `/v1`: one JSON object, or server-sent events; one answer, or several to one prompt.

It knows no dialect: writers make the bytes. Source: compat-api §1.4, §2.4, §5.1 (`n`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from ..errors import LlameroError
from ..messages import Finished, Started, Step, Text, Thinking, ToolCall
from .answers import BARE_JSON, warning_headers, with_headers
from .streams import Stream, unless_gone

EVENTS = "text/event-stream"

Part = Text | Thinking | ToolCall
Choices = AsyncGenerator[tuple[int, Step], None]
"""Steps of several answers, each with the answer's number."""

MAX_AHEAD = 64
"""Steps of all answers that a slow client may leave waiting."""

MAX_AT_ONCE = 8
"""Answers of one request that are made at the same time: a thousand prompts must not fill the queue for all others."""


class EventWriter(Protocol):
    """A dialect's way to stream."""

    def begin(self, started: Started) -> bytes: ...

    def part(self, part: Part, choice: int = 0) -> bytes: ...

    def finish(self, finished: Finished, choice: int = 0) -> bytes: ...

    def end(self, finished: Sequence[Finished]) -> bytes: ...

    def failed(self, error: LlameroError) -> bytes: ...

    def idle(self) -> bytes: ...


WriteWhole = Callable[[Sequence[tuple[Sequence[Part], Finished]]], bytes]


async def reply(
    request: Request,
    steps: Choices,
    *,
    count: int = 1,
    writer: EventWriter | None,
    whole: WriteWhole,
    content_type: str = BARE_JSON,
) -> Response:
    """The reply for `count` answers; without a `writer`, as one object. Errors before its first byte are raised."""
    try:
        return await unless_gone(request, _reply(request, steps, count, writer, whole, content_type))
    except BaseException:
        await steps.aclose()
        raise


async def _reply(
    request: Request,
    steps: Choices,
    count: int,
    writer: EventWriter | None,
    whole: WriteWhole,
    content_type: str,
) -> Response:
    _, started = await anext(steps)
    assert isinstance(started, Started)
    headers = warning_headers(started.warnings)
    if writer is not None:
        events = _events(started, steps, count, writer)
        return Stream(events, EVENTS, writer.failed, headers, request, writer.idle)
    parts: list[list[Part]] = [[] for _ in range(count)]
    ends: dict[int, Finished] = {}
    async with contextlib.aclosing(steps):
        async for number, step in steps:
            if isinstance(step, Finished):
                ends[number] = step
            elif isinstance(step, Text | Thinking | ToolCall):
                parts[number].append(step)
    body = whole([(parts[number], ends[number]) for number in range(count)])
    said = dict.fromkeys(text for end in ends.values() for text in end.warnings)
    return with_headers(Response(body, media_type=content_type), warning_headers([*said]) or headers)


async def _events(started: Started, steps: Choices, count: int, writer: EventWriter) -> AsyncGenerator[bytes, None]:
    ends: dict[int, Finished] = {}
    async with contextlib.aclosing(steps):
        yield writer.begin(started)
        async for number, step in steps:
            if isinstance(step, Finished):
                ends[number] = step
                yield writer.finish(step, number)
            elif isinstance(step, Text | Thinking | ToolCall):
                yield writer.part(step, number)
        yield writer.end([ends[number] for number in range(count)])


async def side_by_side(runs: Sequence[AsyncGenerator[Step, None]]) -> Choices:
    """Several answers at once, their steps as they come. One that fails ends them all."""
    if len(runs) == 1:
        async with contextlib.aclosing(runs[0]) as steps:
            async for step in steps:
                yield 0, step
        return
    queue: asyncio.Queue[tuple[int, Step] | BaseException | None] = asyncio.Queue(MAX_AHEAD)
    turns = asyncio.Semaphore(MAX_AT_ONCE)
    tasks = [asyncio.create_task(_forward(number, run, turns, queue)) for number, run in enumerate(runs)]
    try:
        running = len(tasks)
        while running:
            told = await queue.get()
            if isinstance(told, BaseException):
                raise told
            if told is None:
                running -= 1
            else:
                yield told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(
    number: int,
    run: AsyncGenerator[Step, None],
    turns: asyncio.Semaphore,
    queue: asyncio.Queue[tuple[int, Step] | BaseException | None],
) -> None:
    try:
        async with turns, contextlib.aclosing(run) as steps:
            async for step in steps:
                await queue.put((number, step))
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)

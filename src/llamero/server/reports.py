"""Progress of long work as a reply: pull and create tell their steps, one line each, or only the last one.

Work runs in a thread; its reports cross over to the event loop. Several clients may follow one piece of work.
Source: native-api §1.8, §3.11, §3.14.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects.gojson import encode
from ..dialects.native import write_error
from ..messages import Found, Progress
from .answers import BARE_JSON
from .streams import lines, unless_gone

log = logging.getLogger(__name__)

Report = Callable[[Progress], None]
Work = Callable[[Report, Callable[[], bool]], object]
"""Called in a thread with where to report to and a way to ask whether it was cancelled."""

MAX_WORK = 64
"""Pieces of work that go on at once, each on a thread of its own, perhaps for hours. More wait, so that the threads of
the process are never all taken."""

_free = asyncio.Semaphore(MAX_WORK)


class ProgressLine(msgspec.Struct, omit_defaults=True):
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0
    subject: str = ""
    """With the next two, in our own reports: what was found about one model or file."""
    level: str = ""
    advice: str = ""


class Shared:
    """One piece of work and everybody who follows it. It begins with the first one, and is cancelled after the last."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, Progress] = {}
        """The latest report of each status and digest, for those who join late."""
        self._followers: set[asyncio.Queue[Progress | None]] = set()
        self._cancelled = threading.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def joinable(self) -> bool:
        """Whether it still runs and is meant to."""
        return not (self._cancelled.is_set() or (self._task is not None and self._task.done()))

    @property
    def latest(self) -> Progress | None:
        """The last report, if there was one, with the bytes of everything together."""
        steps = list(self._seen.values())
        if not steps:
            return None
        return Progress(
            steps[-1].status,
            total_bytes=sum(step.total_bytes for step in steps),
            completed_bytes=sum(step.completed_bytes for step in steps),
        )

    def cancel(self) -> None:
        """End it for everybody who follows: they get the error of work that was cancelled."""
        self._cancelled.set()

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """All reports so far and to come; raises what the work raises."""
        task = self._task = self._task or self._begin()
        queue: asyncio.Queue[Progress | None] = asyncio.Queue()
        for progress in self._seen.values():
            queue.put_nowait(progress)
        if task.done():
            queue.put_nowait(None)
        self._followers.add(queue)
        try:
            while (step := await queue.get()) is not None:
                yield step
            await asyncio.shield(task)
        finally:
            self._followers.discard(queue)
            if not self._followers and not task.done():
                self._cancelled.set()

    def _begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there to hear it
        return task

    async def _run(self) -> None:
        try:
            async with _free:
                await asyncio.to_thread(self._work, self._report, self._cancelled.is_set)
        finally:
            for queue in self._followers:
                queue.put_nowait(None)

    def _report(self, progress: Progress) -> None:
        self._loop.call_soon_threadsafe(self._tell, progress)

    def _tell(self, progress: Progress) -> None:
        key = f"{progress.status} {progress.digest} {_subject(progress)}"
        if progress.completed_bytes and self._seen.get(key) == progress:
            return  # by the clock, and again at the end of a layer: the second says nothing
        self._seen[key] = progress
        for queue in self._followers:
            queue.put_nowait(progress)


async def report(request: Request, steps: AsyncGenerator[Progress, None], *, stream: bool) -> Response:
    """The reply for some work: a line per step, or (not streaming) the last step alone."""
    try:
        return await unless_gone(request, _report(request, steps, stream))
    except BaseException:
        await steps.aclose()
        raise


async def _report(request: Request, steps: AsyncGenerator[Progress, None], stream: bool) -> Response:
    first = await anext(steps)
    if stream:
        return lines(_lines(first, steps), write_error, (), request)
    last = first
    async with contextlib.aclosing(steps):
        async for each in steps:
            last = each
    return Response(_line(last), media_type=BARE_JSON)


async def _lines(first: Progress, steps: AsyncGenerator[Progress, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(steps):
        yield _line(first)
        async for step in steps:
            yield _line(step)


def _line(progress: Progress) -> bytes:
    line = ProgressLine(progress.status, progress.digest, progress.total_bytes, progress.completed_bytes)
    if isinstance(progress, Found):
        line.subject, line.level, line.advice = progress.subject, progress.level, progress.advice
    return encode(line)


def _subject(progress: Progress) -> str:
    return progress.subject if isinstance(progress, Found) else ""


def every(interval_s: float, tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """`tell(completed, total)`, called no more often than this, but in any case at the end."""
    next_s = 0.0

    def throttled(completed: int, total: int) -> None:
        nonlocal next_s
        if completed >= total or time.monotonic() >= next_s:
            next_s = time.monotonic() + interval_s
            tell(completed, total)

    return throttled

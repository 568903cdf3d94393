"""Runs registry work, which is asyncio, inside a thread of its own: hashing and file writes never hold a server up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import Cancelled

_T = TypeVar("_T")

POLL_S = 0.1
"""How soon a cancelled transfer ends."""


def run(work: Coroutine[Any, Any, _T], cancelled: Callable[[], bool]) -> _T:
    """Run `work` to its end on the calling thread, in an event loop that exists for it alone.

    `cancelled` is asked ten times a second; once it says yes the work is cancelled, and Cancelled is raised.
    """
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        return runner.run(_watched(work, cancelled))


async def _watched(work: Coroutine[Any, Any, _T], cancelled: Callable[[], bool]) -> _T:
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=POLL_S)
            if done:
                return task.result()
            if cancelled():
                raise Cancelled
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)  # takes note of how it ended, too


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop

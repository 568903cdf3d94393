"""Work that goes on while no client waits for it, by the id under which its result can be asked for.

It knows neither requests nor what the work is. Source: compat-api §8.9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from ..errors import Busy, RateLimited

MAX_AT_ONCE = 64
"""Answers wait in the same queue as everybody's: so many of them leave most of it to clients that are there."""

_T = TypeVar("_T")


async def to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Do what cannot be stopped halfway, such as work in a thread. Whoever is cancelled meanwhile is so afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


class Background:
    """`most_each` is LLAMERO_MAX_CONCURRENT_PER_KEY: nobody waits for this work, and still it is somebody's."""

    def __init__(self, max_at_once: int = MAX_AT_ONCE, *, most_each: int = 0) -> None:
        self._max_at_once = max_at_once
        self._most_each = most_each
        self._parties: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.is_closing = False
        """Whether work that is cancelled is so because the server stops."""

    def __contains__(self, id_: str) -> bool:
        return id_ in self._tasks

    def start(self, id_: str, work: Coroutine[Any, Any, None], party: str = "") -> None:
        """Raises Busy when there is as much as there may be, RateLimited when `party` has as much as one may."""
        if self.is_closing or len(self._tasks) >= self._max_at_once:
            work.close()
            raise Busy
        if self._most_each and [*self._parties.values()].count(party) >= self._most_each:
            work.close()
            raise RateLimited(f"too much in the background: {self._most_each} may run at once; let one end first")
        task = asyncio.create_task(work)
        self._tasks[id_] = task
        self._parties[id_] = party
        task.add_done_callback(lambda _: self._forget(id_))

    def _forget(self, id_: str) -> None:
        del self._tasks[id_], self._parties[id_]

    async def end(self, id_: str) -> None:
        """Cancel a piece of work, if it still goes on, and wait until it has put its things away."""
        await _end([self._tasks[id_]] if id_ in self._tasks else [])

    async def close(self) -> None:
        self.is_closing = True
        await _end([*self._tasks.values()])


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Each is cancelled once, by whoever comes first: it must be able to put its things away."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()
    if tasks:
        await asyncio.wait(tasks)

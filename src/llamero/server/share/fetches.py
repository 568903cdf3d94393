"""Models that were asked for and are not here yet: each is fetched once, however many wait for it.

How to fetch is the library's business. Source: store-registry GAP-12 (`LLAMERO_SHARE=through`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...errors import Busy, LlameroError, ModelNotFound, NotFound
from ...names import ModelName
from .errors import Unavailable

Fetch = Callable[[ModelName], Awaitable[None]]
"""Bring a model here from its own registry. ModelNotFound when that has no such model; other errors are passed on with
their text. The name is a stranger's: it must not lead to private addresses (security §10.1)."""

MAX_FETCHES = 4
"""Whoever may read can start one, so their number is bounded."""


async def fetch_nothing(name: ModelName) -> None:
    """The `Fetch` of a share that gives only what it has."""
    raise ModelNotFound(f"model '{name}' not found")


class Fetches:
    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._running: dict[str, asyncio.Task[None]] = {}

    async def wait(self, name: ModelName) -> None:
        """Until the model is here. NotFound, Busy, or Unavailable with the reason.

        A fetch goes on when nobody waits any more: clients give up soon, and find the model when they ask again.
        """
        key = name.full.lower()
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= MAX_FETCHES:
                raise Busy("other models are being fetched, try again later")
            task = self._running[key] = asyncio.create_task(self._run(name))
            task.add_done_callback(lambda done: self._forget(key, done))
        await asyncio.shield(task)

    async def _run(self, name: ModelName) -> None:
        try:
            await self._fetch(name)
        except (NotFound, Busy):
            raise
        except LlameroError as error:
            raise Unavailable(str(error)) from error

    def _forget(self, key: str, done: asyncio.Task[None]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # nobody may be left to hear it

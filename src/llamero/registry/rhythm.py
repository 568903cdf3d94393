"""Work that is repeated while something else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def every(interval_s: float, work: Callable[[], object]) -> None:
    """Call `work` again and again, until this is cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        work()

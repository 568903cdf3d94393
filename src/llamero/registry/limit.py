"""How fast bytes may pass: limits that several transfers share and that change while they run.

It knows nothing of what is transferred. Source: store-registry GAP-14.
"""

from __future__ import annotations

import asyncio
import threading
import time

BURST_S = 0.1
"""So many seconds' worth of bytes may pass at once after a pause: it evens out the rhythm of reads, no more."""

LOOK_AGAIN_S = 0.25
"""How long a transfer sleeps at most before it asks again: a limit that was raised holds after this time."""


class RateLimit:
    """A token bucket that any thread may use. 0 bytes per second is no limit.

    Whoever finds it not empty takes all it has come for and may leave a debt, which the next ones wait for. So a block
    of any size passes, and the rate holds over time.
    """

    def __init__(self, bytes_per_s: int = 0) -> None:
        self._lock = threading.Lock()
        self._bytes_per_s = bytes_per_s
        self._tokens = 0.0
        self._filled_at = time.monotonic()

    @property
    def bytes_per_s(self) -> int:
        return self._bytes_per_s

    @bytes_per_s.setter
    def bytes_per_s(self, value: int) -> None:
        with self._lock:
            self._fill()
            self._bytes_per_s = value
            # what was saved up or owed at another rate would be wrong by the ratio of the two
            self._tokens = 0.0

    def try_take(self, n_bytes: int) -> float:
        """Take `n_bytes`: 0 when that succeeded, or the seconds after which it may."""
        with self._lock:
            if self._bytes_per_s <= 0:
                return 0.0
            self._fill()
            if self._tokens < 0:
                return -self._tokens / self._bytes_per_s
            self._tokens -= n_bytes
            return 0.0

    def _fill(self) -> None:
        now = time.monotonic()
        full = self._bytes_per_s * BURST_S
        self._tokens = min(full, self._tokens + (now - self._filled_at) * self._bytes_per_s)
        self._filled_at = now


class Pace:
    """The limits of one transfer: everybody's and its own, say. Without any it never waits."""

    def __init__(self, *limits: RateLimit) -> None:
        self._limits = limits

    async def take(self, n_bytes: int) -> None:
        """Wait until all limits let these bytes pass."""
        for limit in self._limits:
            await _take(limit, n_bytes)


async def _take(limit: RateLimit, n_bytes: int) -> None:
    while True:
        wait_s = limit.try_take(n_bytes)
        if not wait_s:
            return
        await asyncio.sleep(min(wait_s, LOOK_AGAIN_S))

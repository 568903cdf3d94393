"""Wrong keys: after ten a minute an address has to wait before the next one. A right key is never held back.

Source: security §6.2 no. 5.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..durations import SECOND
from ..errors import LlameroError, RateLimited
from . import addresses
from .rates import Buckets, Rate

WRONG_KEYS = Rate(10, "m")


class Attempts:
    """`clock` gives nanoseconds of any origin. Threads may share it."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._buckets = Buckets()
        self._lock = threading.Lock()

    def failed(self, address: str, error: LlameroError) -> LlameroError:
        """Count a wrong key. Returns how it is answered: as it would have been, or with when to come again."""
        with self._lock:
            wait_ns = self._buckets.take(addresses.party(address), WRONG_KEYS, self._clock())
        if not wait_ns:
            return error
        return RateLimited("too many wrong API keys from this address", retry_after_s=-(-wait_ns // SECOND))

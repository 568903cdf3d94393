"""Whether a request may begin now, by how many its caller makes: LLAMERO_RATE_LIMIT and what goes on at once.

Source: security §6.6.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..durations import SECOND
from ..errors import BadRequest, RateLimited
from .rates import Buckets, Crowd, Rate, read_rate


class Admission:
    """`rate` is of whoever has none of its own, None is no limit; `most_at_once` goes for everybody, 0 is no limit."""

    def __init__(
        self, rate: Rate | None = None, most_at_once: int = 0, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`clock` tells nanoseconds."""
        self._rate = rate
        self._most_at_once = most_at_once
        self._clock = clock
        self._buckets = Buckets()
        self._crowd = Crowd()

    @contextmanager
    def of(self, party: str, own_rate: Rate | None = None) -> Iterator[None]:
        """For the length of a request, its reply included. Raises RateLimited, which costs its caller nothing."""
        rate = own_rate or self._rate
        if self._most_at_once and self._crowd[party] >= self._most_at_once:
            raise RateLimited(f"too many requests at once: {self._most_at_once} may run; let one end first")
        if rate is not None and (wait_ns := self._buckets.take(party, rate, self._clock())):
            raise RateLimited(f"too many requests: {rate} are allowed", retry_after_s=math.ceil(wait_ns / SECOND))
        with self._crowd.one_more(party):
            yield


def open_admission(rate: str, most_at_once: int) -> Admission:
    """What LLAMERO_RATE_LIMIT and LLAMERO_MAX_CONCURRENT_PER_KEY say. Raises BadRequest for a rate that is none."""
    try:
        return Admission(read_rate(rate) if rate else None, most_at_once)
    except BadRequest as error:
        raise BadRequest(f"LLAMERO_RATE_LIMIT: {error}") from None

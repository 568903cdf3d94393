"""How quickly the tokens of one answer came. It is told of each as it arrives, and knows nothing else.

A token costs a look at the clock and a search among fourteen bounds: a third of a microsecond.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the classes that gaps are counted in; a last class has none."""

_BOUNDS_NS = [int(bound * 1e9) for bound in BOUNDS_S]


class Pace:
    """Of one answer, over all its runs. `clock` counts nanoseconds and never goes back."""

    __slots__ = ("_clock", "_last_ns", "_tokens", "first_ns", "gaps", "gaps_ns")

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._tokens = 0
        self._last_ns = 0
        self.first_ns = 0
        """When the first token came; 0: none has."""
        self.gaps = [0] * (len(BOUNDS_S) + 1)
        """Tokens by the time since the one before them, in the classes of `BOUNDS_S`; the first one is in none."""
        self.gaps_ns = 0
        """Of all gaps together."""

    def begin(self) -> None:
        """The answer has begun, whatever was told of its tokens."""
        self.first_ns = self.first_ns or self._clock()
        self._last_ns = self._last_ns or self.first_ns

    def hear(self, tokens: int) -> None:
        """So many have come by now. Several at once share the gap before them."""
        new = tokens - self._tokens
        if new <= 0:
            return
        now_ns = self._clock()
        if not self.first_ns:
            self.first_ns = self._last_ns = now_ns
        gap_ns = now_ns - self._last_ns
        counted = new if self._tokens else new - 1
        if counted:
            self.gaps[bisect_left(_BOUNDS_NS, gap_ns // counted)] += counted
            self.gaps_ns += gap_ns
        self._last_ns = now_ns
        self._tokens = tokens

"""How often a key may have a model loaded: whoever takes turns with models or windows would have all others wait.

Source: security §5 (model thrash).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..durations import SECOND
from ..errors import RateLimited
from ..scheduler.loop import Scheduler
from ..scheduler.plan import Wanted, must_reload
from .caller import Caller
from .rates import Buckets, Rate

RELOADS = Rate(6, "m")


class Reloads:
    def __init__(self, scheduler: Scheduler, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock` tells nanoseconds."""
        self._scheduler = scheduler
        self._clock = clock
        self._buckets = Buckets()
        self._to_come: defaultdict[str, list[Wanted]] = defaultdict(list)
        """What each party asked for that was not loaded then, in their order."""

    @contextmanager
    def admitted(self, who: Caller, wanted: Wanted) -> Iterator[None]:
        """For the length of a request. Raises RateLimited when it takes one load more than its caller may have.

        1. A loaded engine serves it: nothing is loaded.
        2. It follows one of the same caller's that has the same loaded: both will use it. One further back is no help:
           what is loaded between the two may take its place.
        3. Else it is a load. The scheduler decides a moment later: one too many or too few may be counted.
        """
        if who.rights == "admin" or self._is_loaded(wanted):  # 1
            yield
            return
        before = self._to_come.get(who.party)
        if not (before and _serves(before[-1], wanted)):  # 2
            self._count(who.party)  # 3
        to_come = self._to_come[who.party]
        to_come.append(wanted)
        try:
            yield
        finally:
            to_come.remove(wanted)
            if not to_come:
                self._to_come.pop(who.party, None)

    def _is_loaded(self, wanted: Wanted) -> bool:
        return any(_serves(view.wanted, wanted) for view in self._scheduler.snapshot().loaded)

    def _count(self, party: str) -> None:
        if wait_ns := self._buckets.take(party, RELOADS, self._clock()):
            raise RateLimited(
                f"too many models to load: without an admin key no more than {RELOADS.count} loads in a minute",
                retry_after_s=math.ceil(wait_ns / SECOND),
            )


def _serves(loaded: Wanted, wanted: Wanted) -> bool:
    return loaded.plan.key == wanted.plan.key and not must_reload(loaded, wanted)

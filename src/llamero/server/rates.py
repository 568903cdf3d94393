"""How often, and how many at once: token buckets and counts of what runs, one for each party.

It reads no clock and refuses nothing: whoever asks says what time it is, and gets to hear how long to wait. A party is
a key, or an address while there are no keys. Source: security §6.2 no. 5, §6.6.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..durations import HOUR, MINUTE, SECOND
from ..errors import BadRequest

MAX_PARTIES = 10_000
"""That are remembered; a party takes some 200 bytes. Beyond, the one that was not seen for longest is forgotten."""

_PERIODS_NS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": 24 * HOUR}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period, all of which may come at once."""

    count: int
    unit: str
    """`s`, `m`, `h` or `d`."""

    @property
    def period_ns(self) -> int:
        return _PERIODS_NS[self.unit]

    @property
    def interval_ns(self) -> int:
        """After which one more may come."""
        return self.period_ns // self.count

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def read_rate(text: str) -> Rate:
    """`60/m`: sixty in a minute. Raises BadRequest."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is not a rate: write for example 60/m; the units are s, m, h and d")
    return Rate(int(match[1]), match[2])


class Buckets:
    """A bucket of tokens for each party, full at first. Of each only the moment is kept at which it is full again."""

    def __init__(self, most: int = MAX_PARTIES) -> None:
        self._most = most
        self._full_at_ns: OrderedDict[str, int] = OrderedDict()

    def wait_ns(self, party: str, rate: Rate, now_ns: int) -> int:
        """How long until there is a token; 0: there is one. None is taken."""
        return max(0, self._full_at(party, now_ns) + rate.interval_ns - rate.period_ns - now_ns)

    def take(self, party: str, rate: Rate, now_ns: int) -> int:
        """Take a token if there is one. Returns 0 then, else how long until there is one."""
        wait_ns = self.wait_ns(party, rate, now_ns)
        self._full_at_ns[party] = self._full_at(party, now_ns) + (0 if wait_ns else rate.interval_ns)
        self._full_at_ns.move_to_end(party)
        if len(self._full_at_ns) > self._most:
            self._full_at_ns.popitem(last=False)
        return wait_ns

    def __len__(self) -> int:
        return len(self._full_at_ns)

    def _full_at(self, party: str, now_ns: int) -> int:
        return max(now_ns, self._full_at_ns.get(party, now_ns))


class Crowd:
    """How many things of each party go on."""

    def __init__(self) -> None:
        self._going_on: Counter[str] = Counter()

    def __getitem__(self, party: str) -> int:
        return self._going_on[party]

    @contextmanager
    def one_more(self, party: str) -> Iterator[None]:
        self._going_on[party] += 1
        try:
            yield
        finally:
            self._going_on[party] -= 1
            if not self._going_on[party]:
                del self._going_on[party]

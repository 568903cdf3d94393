"""How many of our cores other programs keep busy. Only Linux tells; elsewhere nobody is ever seen.

An engine whose threads wait for one another loses most of its speed when one of them shares its core with somebody
else. It is told when that happens (`waits`), and spins less; when they stay, it gets a thread for each core that is
left (bench/README.md).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAUSE_S = 0.25
MOMENT, RECENT, SPAN, SPANS = 2, 4, 20, 12
"""In looks: half a second, a second, five; and a minute in fives. Who was busy in all of that is there to stay, and who
was in none of the last five seconds has gone."""
BUSY_CORES = 0.4
"""Whoever reads what we write takes less."""
AT_WORK_CORES = 0.5
"""With so much of our own work in a look, an engine of ours was answering."""
ENOUGH_WORK_S = 0.5
"""In a span, for what others did meanwhile to say more of it than what they did in all of it."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """Ticks since the machine's start, and those of us and of everybody on the cores that we may use."""

    at: float
    ours: int
    everybodys: int
    at_work: float = 0.0
    """Of the time until then, the looks in which our engines worked, and what others did in those."""
    others_meanwhile: float = 0.0

    def then(self, at: float, ours: int, everybodys: int) -> _Sample:
        """The next one."""
        new = _Sample(at, ours, everybodys, self.at_work, self.others_meanwhile)
        passed = at - self.at
        if ours - self.ours < AT_WORK_CORES * passed:
            return new
        return replace(
            new,
            at_work=self.at_work + passed,
            others_meanwhile=self.others_meanwhile + _others(self, new) * passed,
        )


def _others(first: _Sample, last: _Sample) -> float:
    """Cores' worth of work that others did from one look to another."""
    others = (last.everybodys - first.everybodys) - (last.ours - first.ours)
    return max(0.0, others / max(1.0, last.at - first.at))


def _in_our_way(first: _Sample, last: _Sample) -> float:
    """The same, but for what they did while we did not want the cores: who takes turns with us is in nobody's way."""
    at_work = last.at_work - first.at_work
    if at_work < ENOUGH_WORK_S * TICKS_PER_S:
        return _others(first, last)
    return (last.others_meanwhile - first.others_meanwhile) / at_work


class Neighbours:
    """`engines` gives the processes that compute for us. `watch` samples for as long as it runs."""

    def __init__(self, engines: Callable[[], Iterable[int]], proc: Path = Path("/proc")) -> None:
        self._engines = engines
        self._proc = proc
        self._samples: deque[_Sample] = deque(maxlen=SPAN * SPANS + 1)

    @property
    def busy_cores(self) -> tuple[float, float]:
        """Cores' worth of work that others do, at least and at most: for they come and go."""
        looks = list(self._samples)
        spans = [_in_our_way(*pair) for pair in zip(looks[::-SPAN][1:], looks[::-SPAN], strict=False)]
        least = min(spans) if len(spans) == SPANS else 0.0
        return min(least, self._since(MOMENT)), max(self._since(RECENT), self._since(SPAN))

    @property
    def are_busy(self) -> bool:
        """Whether others do something worth mentioning at this moment."""
        return self._since(MOMENT) >= BUSY_CORES

    def _since(self, looks: int) -> float:
        """Over so many looks, or as many as there were."""
        if len(self._samples) <= MOMENT:
            return 0.0
        return _others(self._samples[max(-1 - looks, -len(self._samples))], self._samples[-1])

    async def watch(self, each_time: Callable[[], object]) -> None:
        while self.sample():
            each_time()
            await asyncio.sleep(PAUSE_S)

    def sample(self) -> bool:
        """Look once. False where there is nothing to see."""
        try:
            at = float((self._proc / "uptime").read_text().split()[0]) * TICKS_PER_S
            everybodys = self._everybodys()
            # a child that has ended counts on in its parent's figures
            ours = sum(self._ticks(str(os.getpid()))) + sum(sum(self._ticks(str(pid))[:2]) for pid in self._engines())
        except (OSError, ValueError, IndexError, AttributeError):
            return False
        new = _Sample(at, ours, everybodys)
        self._samples.append(self._samples[-1].then(at, ours, everybodys) if self._samples else new)
        return True

    def _everybodys(self) -> int:
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        rows = [line.split() for line in (self._proc / "stat").read_text().splitlines() if line.startswith("cpu")]
        # user, nice and system; neither what waits nor what the machine below us took
        return sum(sum(map(int, row[1:4])) for row in rows if row[0] in usable)

    def _ticks(self, pid: str) -> list[int]:
        """User, system, and the same of children that have ended."""
        try:
            text = (self._proc / pid / "stat").read_text()
        except OSError:  # it has just ended
            return [0, 0, 0, 0]
        return [int(field) for field in text.rpartition(")")[2].split()[11:15]]

"""How long an engine's threads wait for a core: whether somebody else is in their way. Only Linux tells.

Busy neighbours alone prove nothing: they may have cores of their own, or have just ended. Source: the kernel's
documentation of /proc/PID/task/TID/schedstat: nanoseconds on a core, and nanoseconds of waiting for one.
"""

from __future__ import annotations

import os
from pathlib import Path

MIN_WANTED_NS = 50_000_000
"""A thread that wanted to run for less since the last look says nothing."""


class Waits:
    """What was seen of each engine when it was last looked at."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._seen: dict[int, dict[str, tuple[int, int]]] = {}

    def share(self, pid: int) -> float:
        """Of the time in which it wanted to run since it was last asked for, what the thread waited that waited most;
        0 where nothing is known."""
        before, now = self._seen.get(pid, {}), self._look(pid)
        self._seen[pid] = now
        shares = [_share(before[thread], times) for thread, times in now.items() if thread in before]
        return max(shares, default=0.0)

    def forget(self, pid: int) -> None:
        self._seen.pop(pid, None)

    def _look(self, pid: int) -> dict[str, tuple[int, int]]:
        folder = self._proc / str(pid) / "task"
        found = {}
        try:
            for thread in os.listdir(folder):
                ran, waited, _ = (folder / thread / "schedstat").read_text().split()
                found[thread] = int(ran), int(waited)
        except (OSError, ValueError):  # it has just ended, or this kernel does not tell
            pass
        return found


def _share(before: tuple[int, int], now: tuple[int, int]) -> float:
    ran, waited = now[0] - before[0], now[1] - before[1]
    return waited / (ran + waited) if ran + waited >= MIN_WANTED_NS else 0.0

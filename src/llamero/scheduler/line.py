"""Who is next: a line in which everybody takes turns.

Interactive requests go before batch ones, until one of those has waited long enough to count as interactive. Inside a
class the parties (API keys, or addresses while there are none) take turns, and each party's requests keep their order.
Source: scheduler §4.7.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

BATCH_PATIENCE_S = 30.0
"""After so long a batch request waits no longer than anybody else."""

MAX_PARTIES_REMEMBERED = 1024
"""Parties that stand in no line, whose last turn is still known."""


class Waiter(Protocol):
    @property
    def party(self) -> str: ...
    @property
    def is_batch(self) -> bool: ...
    @property
    def asked_at_s(self) -> float: ...


W = TypeVar("W", bound=Waiter)


class Line(Generic[W]):
    """Requests in waiting. Looking at the first of n costs n log n steps."""

    def __init__(self) -> None:
        self._places = itertools.count()
        self._waiting: dict[W, int] = {}
        """Each with its place by arrival; in order of arrival, but for those put back."""
        self._turns: dict[str, int] = {}
        """When each party was served last, counted in turns."""
        self._turn = itertools.count(1)
        self._front = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, waiter: W) -> bool:
        return waiter in self._waiting

    def add(self, waiter: W) -> None:
        self._waiting[waiter] = next(self._places)

    def put_back(self, waiters: Iterable[W]) -> None:
        """Those who had been let in somewhere already stand before everybody who came meanwhile, in their order."""
        returned = list(waiters)
        self._front -= len(returned)
        self._waiting |= {waiter: self._front + index for index, waiter in enumerate(returned)}

    def remove(self, waiter: W) -> None:
        del self._waiting[waiter]

    def clear(self) -> None:
        self._waiting.clear()

    def first(self, now_s: float) -> W | None:
        """Who is next now; nobody when the line is empty."""
        return next(self.in_order(now_s), None)

    def serve(self, waiter: W) -> None:
        """It is this one's turn: out of the line, and its party behind the others."""
        del self._waiting[waiter]
        self._turns.pop(waiter.party, None)
        self._turns[waiter.party] = next(self._turn)
        if len(self._turns) > MAX_PARTIES_REMEMBERED:
            del self._turns[next(iter(self._turns))]

    def in_order(self, now_s: float) -> Iterator[W]:
        """Everybody, as they would be served now if nobody else came."""
        classes: dict[tuple[bool, bool], dict[str, deque[W]]] = {}
        for waiter in sorted(self._waiting, key=self._waiting.__getitem__):
            is_new = self._waiting[waiter] >= 0
            gives_way = waiter.is_batch and now_s - waiter.asked_at_s < BATCH_PATIENCE_S
            classes.setdefault((is_new, gives_way), {}).setdefault(waiter.party, deque()).append(waiter)
        turns = dict(self._turns)
        for _, parties in sorted(classes.items()):
            yield from self._taking_turns(parties, turns)

    def _taking_turns(self, parties: dict[str, deque[W]], turns: dict[str, int]) -> Iterator[W]:
        later = itertools.count(1 + max(turns.values(), default=0))
        heap = [(turns.get(party, 0), self._waiting[waiting[0]], party) for party, waiting in parties.items()]
        heapq.heapify(heap)
        while heap:
            _, _, party = heapq.heappop(heap)
            waiting = parties[party]
            yield waiting.popleft()
            turns[party] = next(later)
            if waiting:
                heapq.heappush(heap, (turns[party], self._waiting[waiting[0]], party))

    def __iter__(self) -> Iterator[W]:
        return iter(list(self._waiting))

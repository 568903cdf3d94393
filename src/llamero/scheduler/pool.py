"""The slots of one engine and the KV cache that they share: who sits where, and how much of it everybody may fill.

A full cache makes the engine fail every running request, so nobody is let in unless the reservations of all together
fit. It knows neither engines nor requests. Lengths are tokens. Source: scheduler §9.5, §9.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Trail = Sequence[int]
"""Chained hashes of a conversation's text, block by block: two that begin alike have begun alike."""


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the engine's, and what is known of the text that it last held."""

    index: int
    owner: str = ""
    """Whose prompt it holds: an API key, or nothing while there are none."""
    trail: Trail = ()
    used_at_s: float = 0.0
    tokens: int = 0
    """That it holds, as far as answers told; every one of them is looked at for each token of everybody's answers."""
    fresh_tokens: int = 0
    """Prefilled and in no file yet."""
    holding: Any = None
    """What whoever saves prompts must know of this one; the scheduler never looks inside."""
    turns: int = 0
    """How often it may have got something else to hold."""

    def empty(self) -> None:
        """It holds nothing any more."""
        self.trail, self.tokens, self.fresh_tokens, self.holding = (), 0, 0, None
        self.turns += 1


@dataclass(eq=False, slots=True)
class Seat:
    """A place in an engine, as long as a request lasts."""

    slot: Slot
    tokens: int
    """Of the cache, reserved."""
    common_blocks: int = 0
    """How many blocks of its trail the slot held when it was taken."""
    is_shared: bool = True
    """Whether what the slot holds may be gone on from: it belongs to the same owner."""


@dataclass(slots=True)
class Pool:
    """`tokens` is the length of the cache; `seats` the number of requests at a time.

    Texts of at most `short_tokens` give their slot up easily: the engine keeps a copy of them elsewhere.
    """

    tokens: int
    seats: int
    short_tokens: int = 0
    _free: list[Slot] = field(init=False)
    _taken: set[Seat] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._free = [Slot(index) for index in range(self.seats)]

    @property
    def reserved(self) -> int:
        return sum(seat.tokens for seat in self._taken)

    @property
    def taken_seats(self) -> int:
        return len(self._taken)

    @property
    def free_seats(self) -> int:
        return len(self._free)

    @property
    def idle(self) -> tuple[Slot, ...]:
        """Slots that nobody uses now."""
        return tuple(self._free)

    def has_room(self, tokens: int) -> bool:
        """Whether a request that may fill so much can begin now. One that is alone always can."""
        return bool(self._free) and (not self._taken or self.reserved + tokens <= self.tokens)

    def take(self, tokens: int, owner: str, trail: Trail, now_s: float) -> Seat:
        """The slot of this owner whose text goes the furthest along with the trail; else one for a new text."""
        mine = [slot for slot in self._free if slot.owner == owner]
        slot = max(mine, key=lambda each: (common(each.trail, trail), -each.used_at_s), default=None)
        if slot is None or not common(slot.trail, trail):
            slot = self._for_new_text(owner)
        seat = Seat(slot, tokens, common(slot.trail, trail), slot.owner == owner or not slot.used_at_s)
        if not seat.is_shared:
            seat.common_blocks = slot.fresh_tokens = 0
        slot.owner, slot.trail, slot.used_at_s = owner, trail, now_s
        slot.turns += 1
        self._free.remove(slot)
        self._taken.add(seat)
        return seat

    def _for_new_text(self, owner: str) -> Slot:
        """The slot that this owner used last, if what it holds is short: whoever asks one short thing after another
        shall not fill all slots with them. Else an empty slot; else the longest unused."""
        short = [slot for slot in self._free if slot.owner == owner and 0 < slot.tokens <= self.short_tokens]
        if short:
            return max(short, key=lambda slot: slot.used_at_s)
        return min(self._free, key=lambda slot: (slot.tokens > 0 or bool(slot.trail), slot.used_at_s))

    def settle(self, seat: Seat, tokens: int) -> None:
        """What a request really may fill, now that its prompt has been counted."""
        seat.tokens = tokens

    def give_back(self, seat: Seat, now_s: float) -> None:
        """The end of a request. Safe to call twice."""
        if seat in self._taken:
            self._taken.remove(seat)
            self._free.append(seat.slot)
            seat.slot.used_at_s = now_s


def common(one: Trail, other: Trail) -> int:
    """How many blocks two trails share. They are chained: where two blocks are alike, so are all before them."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[middle - 1] == other[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low

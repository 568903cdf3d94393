"""Our records of one engine: who waits for it, who uses it, and under what terms. `loop.py` alone changes them.

Source: scheduler §3, §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ..engines import Engine
from . import plan
from .line import Line
from .plan import Wanted
from .pool import Pool, Seat, Trail

QUICK_LOAD_S = 1.0
"""A load that took no longer may be done again to suit what other programs leave of the machine."""


class State(Enum):
    LOADING = auto()
    READY = auto()
    STOPPING = auto()


@dataclass(eq=False, slots=True)
class Runner:
    """Our record of one engine. Compared by identity: a replaced runner's late events must not touch its successor."""

    wanted: Wanted
    model: Any
    """Whatever the caller wants to be shown for it; the scheduler never looks inside."""
    keep_alive_ns: int
    pool: Pool
    visitors: int = 0
    """Requests that take no slot."""
    state: State = State.LOADING
    engine: Engine | None = None
    waiting: Line[Ticket] = field(default_factory=Line)
    expires_at_ns: int | None = None
    """None until it was idle for the first time."""
    makes_way_for: Ticket | None = None
    """Who was first in the load queue when it was told to go as soon as nobody uses it."""
    makes_way_since_s: float = 0.0
    progress: float = 0.0
    load_began_s: float = 0.0
    load_ended_s: float = 0.0
    loading: asyncio.Task[Engine] | None = None
    cancel_timer: Callable[[], None] | None = None
    cancel_saves: dict[int, Callable[[], None]] = field(default_factory=dict)
    """By slot: the timers of those that will be saved when they stay idle."""

    @property
    def key(self) -> str:
        return self.wanted.plan.key

    @property
    def refs(self) -> int:
        """Requests that use it now."""
        return self.pool.taken_seats + self.visitors

    @property
    def seat_tokens(self) -> int:
        """The most that one request can fill."""
        return self.wanted.plan.seat_tokens

    @property
    def usable(self) -> bool:
        return self.state is State.READY and self.engine is not None and self.engine.alive

    def serves(self, wanted: Wanted) -> bool:
        """Whether it suits a request now, or will as soon as it is loaded."""
        if not (self.usable or self.state is State.LOADING) or plan.must_reload(self.wanted, wanted):
            return False
        return not (self.is_quick_to_load and plan.has_wrong_threads(self.wanted, wanted))

    @property
    def is_quick_to_load(self) -> bool:
        """Whether nobody uses it, and to load it again takes no longer than people notice."""
        is_idle = self.state is State.READY and not self.refs and not self.waiting
        return is_idle and self.load_ended_s - self.load_began_s <= QUICK_LOAD_S


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself to those who share an engine with it."""

    tokens: int = 0
    """Of the KV cache that it may fill, its prompt and its answer; 0: its whole window."""
    party: str = ""
    """Who takes turns with whom: an API key, or an address while there are none."""
    owner: str = ""
    """Whose prompts may be gone on from: an API key, or nothing while there are none."""
    is_batch: bool = False
    """Whether it gives way to everybody who waits at a screen."""
    trail: Trail = ()
    visits: bool = False
    """It asks for nothing that takes a slot, and waits for none."""


NOTHING_CLAIMED = Claim()


@dataclass(eq=False, slots=True)
class Ticket:
    """One request's wish for a model, until it is granted, refused or given up."""

    wanted: Wanted
    model: Any
    keep_alive_ns: int | None
    claim: Claim
    future: asyncio.Future[Lease]
    asked_at_s: float
    lease: Lease | None = None

    @property
    def party(self) -> str:
        return self.claim.party

    @property
    def is_batch(self) -> bool:
        return self.claim.is_batch


@dataclass(frozen=True, eq=False, slots=True)
class Lease:
    """The right to use a loaded engine until it is released."""

    runner: Runner
    engine: Engine
    seat: Seat | None
    """None for a visit."""
    settle: Callable[[int], None]
    """Say how many tokens the request may fill, once its prompt is counted: others may have the rest."""
    queued_s: float = 0.0
    """Waited for a slot, for the loader, for room: for everything but this engine's load."""
    load_s: float = 0.0
    """Waited for this engine's load."""

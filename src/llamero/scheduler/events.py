"""What happens to the scheduler: its task reads these one at a time. Source: scheduler §4."""

from __future__ import annotations

from dataclasses import dataclass

from ..engines import Engine
from ..errors import LlameroError
from .pool import Slot
from .runner import Lease, Runner, Ticket


@dataclass(frozen=True, slots=True)
class Asked:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class GaveUp:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Released:
    lease: Lease


@dataclass(frozen=True, slots=True)
class Settled:
    lease: Lease
    tokens: int


@dataclass(frozen=True, slots=True)
class Loaded:
    runner: Runner
    engine: Engine


@dataclass(frozen=True, slots=True)
class LoadFailed:
    runner: Runner
    error: LlameroError


@dataclass(frozen=True, slots=True)
class Expired:
    runner: Runner


@dataclass(frozen=True, slots=True)
class SaveDue:
    runner: Runner
    slot: Slot


@dataclass(frozen=True, slots=True)
class Died:
    runner: Runner


@dataclass(frozen=True, slots=True)
class Stopped:
    runner: Runner


@dataclass(frozen=True, slots=True)
class Measured:
    """What `Effects.machine` tells is up to date."""


@dataclass(frozen=True, slots=True)
class RanOut:
    """A request was broken off for want of memory."""


@dataclass(frozen=True, slots=True)
class Unload:
    key: str


@dataclass(frozen=True, slots=True)
class Close:
    """Take nothing on any more."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop every engine, also those in use."""


Event = (
    Asked
    | GaveUp
    | Released
    | Settled
    | Loaded
    | LoadFailed
    | Expired
    | SaveDue
    | Died
    | Stopped
    | Measured
    | RanOut
    | Unload
    | Close
    | End
)

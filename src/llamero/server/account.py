"""What requests and answers took, told when they are over: to metrics, traces and the access log.

Figures and names only, never a word of a prompt or an answer. Instants are the monotonic clock's, in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from ..messages import Delays, Usage
from .pace import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One piece of work on an engine: an answer, or texts that became vectors or scores."""

    model: str
    """Its name in the store."""
    began_ns: int
    ready_ns: int
    """When the model was ready for it."""
    ended_ns: int
    delays: Delays
    usage: Usage
    pace: Pace | None = None
    """None: nothing is generated."""
    is_finished: bool = True
    """Or else broken off, by its client or by what went wrong."""

    @property
    def first_ns(self) -> int:
        """When its first token was there; 0 where none came."""
        return self.pace.first_ns if self.pace is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its reply."""

    method: str
    route: str
    """Its path in THE table of routes, with the names of parameters; empty when it is none of them."""
    status: int
    """0: the client left before there was one."""
    key: str
    """The name of the API key; empty without."""
    began_ns: int
    ended_ns: int
    trace_parent: str = ""
    """The header `traceparent`: the client's own span, as W3C Trace Context writes it."""
    accounts: Sequence[Account] = ()


MAX_ACCOUNTS = 64
"""Of one request that are kept for its trace: some send a thousand texts at once."""

accounts: ContextVar[list[Account] | None] = ContextVar("accounts", default=None)
"""Of the request that is being answered; None while there is none."""


def begin() -> list[Account]:
    """A request begins. Returns where its accounts will be at its end."""
    kept: list[Account] = []
    accounts.set(kept)
    return kept


def keep(account: Account) -> None:
    """Put it down for the request that it belongs to."""
    kept = accounts.get()
    if kept is not None and len(kept) < MAX_ACCOUNTS:
        kept.append(account)

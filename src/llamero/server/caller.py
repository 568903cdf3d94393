"""Who makes the request that is being answered: what the scheduler needs to know of a client to be fair.

A context variable, since it belongs to the connection and not to what is asked in any dialect. Source: scheduler §4.7.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

PRIORITY_HEADER = "llamero-priority"


@dataclass(frozen=True, slots=True)
class Caller:
    party: str = ""
    """Who takes turns with whom: a key, or an address while there are none."""
    owner: str = ""
    """The key whose prompts may be gone on from; empty while there are none."""
    is_batch: bool = False
    """Whether it can wait: `Llamero-Priority: batch`."""


NOBODY = Caller()

caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)

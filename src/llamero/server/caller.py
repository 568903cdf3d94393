"""Who makes the request that is being answered: what it may do, and what the scheduler needs to know to be fair.

A context variable, since it belongs to the connection and not to what is asked in any dialect. Source: scheduler §4.7,
security §6.3.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Rights = Literal["infer", "admin"]
"""What a caller may do (security §6.3)."""

PRIORITY_HEADER = "llamero-priority"


@dataclass(frozen=True, slots=True)
class Caller:
    party: str = ""
    """Who takes turns with whom: a key, or while there are none the party of an address."""
    owner: str = ""
    """The key whose prompts may be gone on from; empty while there are none."""
    is_batch: bool = False
    """Whether it can wait: `Llamero-Priority: batch`."""
    key: str = ""
    """The name of its API key; empty for whoever needed none."""
    rights: Rights = "admin"
    models: tuple[str, ...] = ()
    """The only ones that it may use, as its key names them; empty: all of them."""
    address: str = ""
    """Of the client, as far as trusted proxies tell it; empty on a unix socket."""


NOBODY = Caller()

caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)

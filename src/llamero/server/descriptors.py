"""How many files the system lets us have open: every connection is one, and many systems begin with 1,024."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger(__name__)

OWN = 256
"""For what is not a client's connection: engines, transfers, files of the store."""


def provide(connections: int) -> None:
    """Make room for so many connections, as far as the system allows; a warning says when that is not far enough."""
    if sys.platform == "win32":
        return  # has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS promises more than it gives
        allowed = soft
    if allowed < wanted:
        log.warning(
            "only %d files may be open at once: about %d connections can be served (raise ulimit -n, or LimitNOFILE=)",
            allowed,
            max(0, allowed - OWN),
        )

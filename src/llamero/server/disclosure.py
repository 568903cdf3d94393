"""What a stranger may read of our own failures: no folder of this machine, no address in its memory, no traceback.

Source: security §9.5, X-90. Whose mistake a request is (4xx) is told in that request's own words, and stays as it is.
"""

from __future__ import annotations

import logging
import re

from ..errors import EngineError, LlameroError

log = logging.getLogger(__name__)

INTERNAL = "internal server error"

_PRIVATE = re.compile(
    r"(?<![\w./\\])(?:[A-Za-z]:[/\\]|[/\\])(?!api/|v1/|v2/)(?=[^\s/\\'\"])(?:[^\s/\\'\"]+[/\\])*"
    r"|(?<=file:)//(?:[^\s/'\"]*/)*"
    r"|\b0[xX][0-9a-fA-F]{6,}"
)
"""Of a path all but its last part, unless it is one of ours or of a URL; and addresses in memory."""

_TRACEBACK = "Traceback (most recent call last)"


def discreet(error: LlameroError) -> LlameroError:
    """The error, its text as it may be shown."""
    if error.status < 500:
        return error
    said = str(error)
    shown = INTERNAL if _TRACEBACK in said else _PRIVATE.sub("", said)
    if shown != said:
        if not isinstance(error, EngineError):  # what an engine says may hold a client's words, which no log may
            log.warning("a failure is told without its details: %s", said)
        error.args = (shown or INTERNAL,)
    return error

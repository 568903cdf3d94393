"""Signals to a server from its first moment on, about half a second before it can heed them.

None of them ends it by accident, and none is lost. What a running server does with them is `process`'s.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

STOP = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    STOP.append(signal.SIGBREAK)


class Signals:
    """Those of this process, from here on: who asks it to stop has it stop, a SIGHUP is kept for later."""

    def __init__(self) -> None:
        self.had_terminal = on_terminal()
        self.was_hung_up = False
        for number in STOP:
            signal.signal(number, _stop)
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self.was_hung_up = True


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit  # status 0, as of a server that runs; whatever is open is closed on the way out


def on_terminal() -> bool:
    return any(os.isatty(descriptor) for descriptor in range(3))

"""Which server runs in the background for an address: a file with its process id, locked for as long as it lives.

The lock is what counts: it is handed to the server when it is started and goes when the server does, however it ends,
so a number that now belongs to another process is never believed. Windows hands no locks on: there the number alone
is known, and whoever believes it asks first whether a server answers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

from ..config import Settings
from ..errors import LlameroError

STOP_LIMIT_S = 30.0
"""A server is done in five seconds; a machine that swaps may need longer."""
POLL_S = 0.05


class PidFile:
    def __init__(self, settings: Settings) -> None:
        """Of the server that commands with these settings talk to."""
        self.path = settings.home / "llamero" / f"background-{settings.host.port}.pid"

    @contextlib.contextmanager
    def held(self) -> Iterator[int | None]:
        """A descriptor to hand to the server that is started inside; None where another server has it, or none can."""
        try:
            self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield None  # a server that `service stop` does not find is better than none
            return
        try:
            yield descriptor if _lock(descriptor) else None
        finally:
            os.close(descriptor)

    def pid(self) -> int | None:
        """Of the server, if it is there."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except OSError:
            return None
        try:
            if _lock(descriptor) and sys.platform != "win32":
                return None
            text = os.read(descriptor, 32).strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(descriptor)

    def stop(self) -> int | None:
        """Ask the server to leave and wait for it. Returns the process id that it had, or None without a server."""
        pid = self.pid()
        if pid is None:
            return None
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_S
        while sys.platform != "win32" and self.pid() == pid:
            if time.monotonic() > deadline:
                raise LlameroError(f"the server (pid {pid}) did not stop within {STOP_LIMIT_S:.0f} s")
            time.sleep(POLL_S)
        self.path.unlink(missing_ok=True)
        return pid


def write_pid(descriptor: int, pid: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{pid}\n".encode())


def _lock(descriptor: int) -> bool:
    """Whether the lock could be had; it goes with the last copy of the descriptor."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

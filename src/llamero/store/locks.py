"""Advisory locks between processes, each on a file of its own. They order our own programs; no other one looks at them.

Source: security §9.2, store-registry GAP-17.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Busy
from .files import FULL, make_private_folder

log = logging.getLogger(__name__)

_POLL_S = 0.01
_WAIT_S = 60.0
"""Changes of the store take milliseconds, a start-up prune of a large one seconds; beyond this its holder hangs."""

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file for this descriptor alone, without waiting. Closing the descriptor releases it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock an open file for this descriptor alone, without waiting. Closing the descriptor releases it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise
            # some network file systems know no locks; one server alone is still the usual case there
            log.warning("this file system has no locks: run one server only on this models folder")
        return True


class FileLock:
    """One lock file. Threads of one process exclude each other with it as processes do.

    On a disk that is too full to make it, the folder `stand_in` is locked instead, where the system can: otherwise
    nothing could be removed there either.
    """

    def __init__(self, path: Path, stand_in: Path | None = None) -> None:
        self._path = path
        self._stand_in = stand_in
        self._threads = threading.Lock()
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; it stays ours until `release` or the end of the process."""
        if not self._threads.acquire(blocking=False):
            return False
        try:
            self._descriptor = self._open_locked()
        finally:
            if self._descriptor is None:
                self._threads.release()
        return self._descriptor is not None

    @property
    def is_ours(self) -> bool:
        """Whether this object holds the lock, in whatever thread."""
        return self._descriptor is not None

    def release(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            self._threads.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it inside the block. Raises Busy after a minute."""
        deadline = time.monotonic() + _WAIT_S
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise Busy("another process holds the lock of the models folder", retry_after_s=10)
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            self.release()

    def _open_locked(self) -> int | None:
        descriptor = self._open()
        locked = False
        try:
            locked = try_lock(descriptor)
        finally:
            if not locked:
                os.close(descriptor)
        return descriptor if locked else None

    def _open(self) -> int:
        try:
            make_private_folder(self._path.parent)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as error:
            if self._stand_in is None or os.name != "posix" or error.errno not in FULL:
                raise
            return os.open(self._stand_in, os.O_RDONLY)

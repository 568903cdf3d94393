"""The sha256 of a file that is still being written: a thread follows its finished beginning.

So a download is verified nearly as soon as its last byte is there. hashlib and reads let other threads run meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable

from ..names import Digest

_BLOCK_BYTES = 1 << 20


class Follower:
    """`read_into(buffer, offset)` reads what is there and returns how much that was, as `os.preadv` does."""

    def __init__(self, read_into: Callable[[memoryview, int], int]) -> None:
        self._read_into = read_into
        self._hash = hashlib.sha256()
        self._end = 0
        self._closed = False
        """Whether `_end` is final."""
        self._error: Exception | None = None
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
        self._thread.start()

    def advance(self, end: int) -> None:
        """Everything before `end` is written and will not change."""
        with self._moved:
            self._end = end
            self._moved.notify()

    async def finish(self) -> Digest:
        """The digest of all up to where `advance` was. Raises what reading raised."""
        with self._moved:
            self._closed = True
            self._moved.notify()
        await asyncio.to_thread(self._thread.join)
        if self._error is not None:
            raise self._error
        return Digest(self._hash.hexdigest())

    def stop(self) -> None:
        """Give up and wait for the thread, which reads at most one more block."""
        with self._moved:
            self._closed, self._end = True, 0
            self._moved.notify()
        self._thread.join()

    def _run(self) -> None:
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        position = 0
        try:
            while (end := self._wait_beyond(position)) > position:
                read = self._read_into(buffer[: end - position], position)
                if not read:
                    raise EOFError("the file became shorter")
                self._hash.update(buffer[:read])
                position += read
        except Exception as error:  # the outermost loop of a thread: `finish` raises it where it is awaited
            self._error = error

    def _wait_beyond(self, position: int) -> int:
        with self._moved:
            while self._end <= position and not self._closed:
                self._moved.wait()
            return self._end

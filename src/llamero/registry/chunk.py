"""A run of a blob's bytes as the body of requests: paced, hashed and counted on its way, and ready to be sent again.

It knows no protocol: what an answer means is `upload.py`'s. Source: store-registry §4.1, security §10.1.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from ..errors import LlameroError, RegistryError, StorageError
from ..names import Digest
from ..store import files
from ..store.blobs import Blobs
from .limit import Pace
from .session import Answer

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 128 << 10
"""Read, hashed and sent at once. Small, because a block that takes longer than `stall_s` counts as a stall."""

Blocks = Callable[[], AsyncIterator[bytes]]
"""Gives the body afresh, as often as it is wanted."""


class Chunk:
    """`size_bytes` of a blob from `offset_bytes` on. `count` is told by how many bytes more, or fewer, are sent."""

    def __init__(
        self,
        blobs: Blobs,
        digest: Digest,
        offset_bytes: int,
        size_bytes: int,
        *,
        pace: Pace,
        stall_s: float,
        count: Callable[[int], None],
    ) -> None:
        self.offset_bytes = offset_bytes
        self.size_bytes = size_bytes
        self.arrived_bytes = 0
        """Kept by the other side: what is sent next begins behind them."""
        self.md5 = b""
        """Of the whole run, known when it has been read to its end."""
        self._blobs = blobs
        self._digest = digest
        self._pace = pace
        self._stall_s = stall_s
        self._count = count
        self._sent_bytes = 0
        self._failure: LlameroError | None = None

    async def send(self, request: Callable[[Blocks], Awaitable[Answer]]) -> Answer:
        """One try: the answer to a request that carries what has not arrived yet. An answer below 300 says it now has.

        Otherwise its progress is taken back. Raises what the request raises, BlobNotFound and StorageError when the
        blob cannot be read, and RegistryError when nothing goes out for too long.
        """
        self._failure = None
        try:
            with ExitStack() as self._opened:
                async with asyncio.timeout(None) as self._deadline:
                    answer = await request(self._blocks)
            if answer.status < 300:
                if not self.md5:
                    raise RegistryError("the registry answered before it had everything", retryable=True)
                self.arrived_bytes = self.size_bytes
            return answer
        except TimeoutError:
            raise RegistryError(f"no data could be sent for {self._stall_s:.0f} s", retryable=True) from None
        except RegistryError:
            if self._failure is not None:  # the HTTP client could only say that the connection broke
                raise self._failure from None
            raise
        finally:
            self._settle()

    def resume(self, arrived_bytes: int) -> None:
        """Take the other side's word for how much of the run it kept."""
        self.arrived_bytes = arrived_bytes
        self._settle()

    def _settle(self) -> None:
        """Only what has arrived counts as sent."""
        self._count(self.arrived_bytes - self._sent_bytes)
        self._sent_bytes = self.arrived_bytes

    async def _blocks(self) -> AsyncIterator[bytes]:
        """All is read, for the md5 is of all; only what has not arrived is handed out."""
        self._settle()
        now = asyncio.get_running_loop().time
        md5 = hashlib.md5(usedforsecurity=False)
        read_bytes = 0
        try:
            # closed by `send`: an early answer leaves this generator where it stands, be it inside a read
            file = self._opened.enter_context(self._blobs.open(self._digest))
            file.seek(self.offset_bytes)
            while read_bytes < self.size_bytes:
                block = await asyncio.to_thread(self._read, file, self.size_bytes - read_bytes, md5)
                fresh = block[max(self.arrived_bytes - read_bytes, 0) :]
                read_bytes += len(block)
                if read_bytes == self.size_bytes:
                    self.md5 = md5.digest()
                if not fresh:
                    continue
                self._deadline.reschedule(None)  # waiting for our own pace is no stall
                await self._pace.take(len(fresh))
                self._deadline.reschedule(now() + self._stall_s)
                yield fresh
                self._sent_bytes += len(fresh)
                self._count(len(fresh))
            self._deadline.reschedule(None)  # from here on the session's patience with the answer counts
        except LlameroError as failure:
            self._failure = failure
            raise

    def _read(self, file: BinaryIO, left_bytes: int, md5: _Hash) -> bytes:
        wanted_bytes = min(BLOCK_BYTES, left_bytes)
        with files.translated("read blob"):
            block = file.read(wanted_bytes)
        if len(block) < wanted_bytes:
            raise StorageError(f'blob "{self._digest}" became shorter while it was sent')
        md5.update(block)
        return block

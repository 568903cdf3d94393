"""Blobs: files named by the sha256 of their content, whole and verified or not there. They know no models.

Source: store-registry §2, security §9.2. Many readers, writers and removers may work at once: a file appears by a
rename after its digest was checked, and what somebody holds is not removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import BadRequest, BlobNotFound, DiskFull, StorageError, TooLarge
from ..names import Digest
from . import files
from .staging import StagedFile, Staging

log = logging.getLogger(__name__)

RESERVE_BYTES = 2 << 30
RESERVE_SHARE = 20
"""Uploads leave this much of the disk free: 2 GiB, or a twentieth when that is less (security §5)."""

_ADOPT_BLOCK_BYTES = 4 << 20

_LOOK_EVERY_BYTES = 64 << 20
"""How much an upload may write between two looks at the free space: well below the reserve."""


class Writer:
    """Content on its way to become a blob: `write` as often as needed, then `commit`, inside a `with` block.

    Left without a commit, nothing of it remains.
    """

    def __init__(
        self,
        blobs: Blobs,
        staged: StagedFile,
        expected: Digest | None,
        size_limit_bytes: int | None,
        keep_reserve: bool,
    ) -> None:
        self._blobs = blobs
        self._staged = staged
        self._expected = expected
        self._size_limit_bytes = size_limit_bytes
        self._look_at_bytes = _LOOK_EVERY_BYTES if keep_reserve else None
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises TooLarge, DiskFull, StorageError."""
        self.size_bytes += len(data)
        if self._size_limit_bytes is not None and self.size_bytes > self._size_limit_bytes:
            raise TooLarge(self._size_limit_bytes)
        with files.translated("write blob"):
            if self._look_at_bytes is not None and self.size_bytes >= self._look_at_bytes:
                self._look_at_bytes = self.size_bytes + _LOOK_EVERY_BYTES
                keep_reserve(self._blobs.folder)
            self._staged.write(data)
        self._hash.update(data)

    def commit(self) -> Digest:
        """Check the digest and make the blob visible. BadRequest when the content is not what was promised."""
        digest = Digest(self._hash.hexdigest())
        if self._expected is not None and digest != self._expected:
            raise BadRequest(f'digest mismatch, expected "{self._expected}", got "{digest}"')
        with files.translated("write blob"):
            self._staged.place(self._blobs.path(digest))
        return digest

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._staged.discard()


def keep_reserve(folder: Path, announced_bytes: int = 0) -> None:
    """DiskFull when `announced_bytes` more would leave less than the reserve free."""
    usage = shutil.disk_usage(folder)
    reserve_bytes = min(RESERVE_BYTES, usage.total // RESERVE_SHARE)
    if usage.free - announced_bytes < reserve_bytes:
        raise DiskFull(f"not enough disk space: {usage.free} bytes are free, {reserve_bytes} of them a reserve")


def _blocks(path: Path, between: Callable[[], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_ADOPT_BLOCK_BYTES):
            between()
            yield block


class Blobs:
    def __init__(self, folder: Path, staging: Staging) -> None:
        self._folder = folder
        self._staging = staging
        self._held: Counter[Digest] = Counter()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        return self._folder

    def path(self, digest: Digest) -> Path:
        """Where a blob is or belongs. No other code builds such a path (security §2).

        Digests of either case were valid in older manifests, and a file may still carry the upper-case one.
        """
        path = self._folder / digest.file_name
        if not os.path.lexists(path):
            older = self._folder / f"sha256-{digest.hex.upper()}"
            if os.path.lexists(older):
                return older
        return path

    def exists(self, digest: Digest) -> bool:
        return files.is_regular(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Bytes of content. Raises BlobNotFound."""
        with self.open(digest) as file:
            return os.fstat(file.fileno()).st_size

    def has(self, digest: Digest, size_bytes: int) -> bool:
        """Whether it is there in this size. Another one is a damage that its name does not tell (GAP-11)."""
        return self.exists(digest) and self.size(digest) == size_bytes

    def open(self, digest: Digest) -> BinaryIO:
        """The content, to be closed by the caller. BlobNotFound, or StorageError for a pipe, folder or device."""
        with files.translated("open blob"):
            try:
                return files.open_regular(self.path(digest))
            except FileNotFoundError:
                raise BlobNotFound(str(digest)) from None

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """The whole content of a small blob. StorageError when it is larger than the limit."""
        with self.open(digest) as file, files.translated("read blob"):
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise StorageError(f'blob "{digest}" is larger than {limit_bytes} bytes')
        return data

    def stage(
        self,
        expected: Digest | None = None,
        *,
        size_limit_bytes: int | None = None,
        announced_bytes: int = 0,
        reserve: bool = False,
    ) -> Writer:
        """Begin a new blob. With `reserve` (uploads), using the last of the disk is DiskFull, now or on the way."""
        with files.translated("write blob"):
            files.make_folder(self._folder)
            if reserve:
                keep_reserve(self._folder, announced_bytes)
            staged = self._staging.file(self._folder)
        return Writer(self, staged, expected, size_limit_bytes, reserve)

    def put(self, data: bytes) -> Digest:
        """Store some bytes that we made ourselves."""
        with self.stage() as writer:
            writer.write(data)
            return writer.commit()

    def adopt(self, path: Path, between_blocks: Callable[[], None] = lambda: None) -> Digest:
        """Make a finished file of our own a blob by renaming it; on another file system its content is copied.

        Nobody may write to the file any more. What `between_blocks` raises ends the work.
        """
        with files.translated("adopt file"):
            files.make_folder(self._folder)
            if os.stat(path).st_dev != os.stat(self._folder).st_dev:
                with self.stage() as writer:
                    for block in _blocks(path, between_blocks):
                        writer.write(block)
                    return writer.commit()
            content_hash = hashlib.sha256()
            for block in _blocks(path, between_blocks):
                content_hash.update(block)
            digest = Digest(content_hash.hexdigest())
            files.place(path, self.path(digest))
        return digest

    def require_space(self, needed_bytes: int) -> None:
        """DiskFull, naming both figures, when so much more would use the last of the disk (store-registry GAP-09)."""
        with files.translated("look at the disk"):
            files.make_folder(self._folder)
            usage = shutil.disk_usage(self._folder)
        free_bytes = usage.free - min(RESERVE_BYTES, usage.total // RESERVE_SHARE)
        if needed_bytes > max(0, free_bytes):
            raise DiskFull(f"not enough disk space: {needed_bytes} bytes are needed, {max(0, free_bytes)} are free")

    def touch(self, digest: Digest) -> None:
        """Make a blob young, so that no program prunes it before its manifest is written. BlobNotFound."""
        with files.translated("touch blob"):
            try:
                path = self.path(digest)
                if path.lstat().st_nlink == 1:  # the times of a hard link are those of somebody's own file
                    files.touch(path)
            except FileNotFoundError:
                raise BlobNotFound(str(digest)) from None

    @contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Inside the block none of these is removed: somebody in this process relies on them (security §9.2)."""
        held = Counter(set(digests))
        with self._lock:
            self._held += held
        try:
            yield
        finally:
            with self._lock:
                self._held -= held

    def is_held(self, digest: Digest) -> bool:
        with self._lock:
            return digest in self._held

    def remove(self, digest: Digest, reason: str) -> int:
        """Unlink a blob (a link itself, not what it leads to). Returns bytes freed: 0 when it is gone or held.

        Whether a manifest still lists it is the caller's business.
        """
        path = self.path(digest)
        with self._lock, files.translated("remove blob"):
            if digest in self._held:
                log.info("kept blob %s: in use", digest)
                return 0
            try:
                return files.unlink(path, reason)
            except FileNotFoundError:
                return 0

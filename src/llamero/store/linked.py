"""Blobs that share their bytes with a file somewhere else: reflinks, hard links, links, and what became of the source.

A user's own GGUF becomes a blob without a second copy of it (store-registry GAP-02, S-102). Only the command line does
this, with files that its user named; a server never opens a path that came over the network (security §2).
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import StorageError
from ..names import Digest
from . import files
from .blobs import Blobs
from .staging import Staging

log = logging.getLogger(__name__)

How = Literal["reflink", "hard link", "link", "copy"]

_BLOCK_BYTES = 1 << 20
_FICLONE = 0x40049409
"""The ioctl of Linux that makes one file share another's blocks, on btrfs, XFS and bcachefs."""
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES})
_MAX_RECORD_BYTES = 64 << 10


class Source(msgspec.Struct, frozen=True):
    """The file that a blob shares its bytes with, as it was when it was hashed."""

    path: str
    size_bytes: int
    mtime_ns: int
    how: str


class Linked:
    def __init__(self, blobs: Blobs, staging: Staging, records: Path) -> None:
        self._blobs = blobs
        self._staging = staging
        self._records = records
        self._noticed: dict[Digest, tuple[int, int]] = {}
        """Size and time of changed sources, so that each change is followed by one new check and not by many."""

    def place(
        self, path: Path, *, in_place: bool = False, report: Callable[[int, int], None] = lambda completed, total: None
    ) -> tuple[Digest, How]:
        """Hash a file and make a blob of it that takes no second place on the disk, if the disk allows.

        A reflink, else a hard link, else a copy; with `in_place` a link, so that the blob is the file. A source that
        changes meanwhile is a StorageError. `report(completed, total)` counts bytes.
        """
        with files.translated("link file"):
            path = path.resolve()
            with files.open_regular(path) as file:
                before = os.fstat(file.fileno())
                digest = self._hash(file.fileno(), before.st_size, report)
                if self._blobs.has(digest, before.st_size):
                    how: How = "copy"
                    self._blobs.touch(digest)
                else:
                    files.make_folder(self._blobs.folder)
                    target = self._blobs.path(digest)
                    how = self._link(path, target) if in_place else self._share(path, file.fileno(), target, digest)
                after = os.stat(path)
            if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
                self._blobs.remove(digest, "its source changed while it was linked")
                raise StorageError(f"{path.name} changed while it was read")
            if how in ("link", "hard link"):
                self._remember(digest, Source(str(path), after.st_size, after.st_mtime_ns, how))
        return digest, how

    def warning(self, digest: Digest) -> str:
        """What to tell whoever uses a blob whose source was changed since; empty when all is well."""
        source = self._source(digest)
        if source is None:
            return ""
        status = self._shared(digest)
        if status is None:
            return f"the model uses {Path(source.path).name} in place, and that file is gone"
        if (status.st_size, status.st_mtime_ns) == (source.size_bytes, source.mtime_ns):
            return ""
        return f"the model uses {Path(source.path).name} in place, and that file was changed: create the model again"

    def changed(self, digest: Digest) -> bool:
        """Whether the blob's source was changed, and nobody has asked since it was."""
        if not self.warning(digest):
            return False
        status = self._shared(digest)
        now = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        is_news = self._noticed.get(digest) != now
        self._noticed[digest] = now
        return is_news

    def forget(self, digest: Digest) -> None:
        """The blob is gone."""
        self._noticed.pop(digest, None)
        with suppress(OSError):
            files.remove_record(self._record(digest))

    def _hash(self, descriptor: int, total_bytes: int, report: Callable[[int, int], None]) -> Digest:
        seen, completed_bytes = hashlib.sha256(), 0
        while completed_bytes <= total_bytes and (block := os.read(descriptor, _BLOCK_BYTES)):
            seen.update(block)
            completed_bytes += len(block)
            report(completed_bytes, total_bytes)
        return Digest(seen.hexdigest())

    def _link(self, path: Path, target: Path) -> How:
        target.unlink(missing_ok=True)
        target.symlink_to(path)
        files.touch(target)
        return "link"

    def _share(self, path: Path, descriptor: int, target: Path, digest: Digest) -> How:
        with self._staging.file(self._blobs.folder) as staged:
            if _reflink(descriptor, staged.descriptor):
                staged.place(target)
                return "reflink"
        try:
            target.unlink(missing_ok=True)
            # the times stay the source's: they are compared later, and belong to the user
            os.link(path, target)
            if os.stat(target).st_mode & stat.S_IROTH or os.stat(self._blobs.folder).st_uid == os.geteuid():
                return "hard link"
            target.unlink()
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
        with self._blobs.stage(digest) as writer, path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                writer.write(block)
            writer.commit()
        return "copy"

    def _shared(self, digest: Digest) -> os.stat_result | None:
        """What the blob leads to; None for nothing, as when its source was removed."""
        try:
            return os.stat(self._blobs.path(digest))
        except OSError:
            return None

    def _remember(self, digest: Digest, source: Source) -> None:
        record = self._record(digest)
        files.make_inner_folder(record.parent)
        with self._staging.file(record.parent) as staged:
            staged.write(msgspec.json.encode(source))
            staged.place(record)

    def _source(self, digest: Digest) -> Source | None:
        """The file that the blob shares its bytes with now: another program may have replaced the blob by a copy."""
        try:
            with files.open_regular(self._record(digest)) as file:
                source = msgspec.json.decode(file.read(_MAX_RECORD_BYTES), type=Source)
            status = os.lstat(self._blobs.path(digest))
        except (OSError, msgspec.MsgspecError):
            return None
        return source if stat.S_ISLNK(status.st_mode) or status.st_nlink > 1 else None

    def _record(self, digest: Digest) -> Path:
        return self._records / f"{digest.hex}.json"


def _reflink(source: int, target: int) -> bool:
    """Whether the target now shares the source's blocks: only some file systems of Linux can."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True

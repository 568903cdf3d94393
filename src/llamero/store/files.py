"""Opening, making and flushing files with care: the system calls that the rest of the store is built on.

It knows neither blobs nor manifests. Source: security §9.2. Reads follow links (store-registry §2 lets blobs be links)
but accept regular files only; writes never pass through a link.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import DiskFull, StorageError

log = logging.getLogger(__name__)

FOLDER_MODE = 0o755
FILE_MODE = 0o644
PRIVATE_MODE = 0o700
RECORD_MODE = 0o600

FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""How the system says that the disk, or the user's share of it, is full."""

_BINARY = getattr(os, "O_BINARY", 0)
_NO_HANG = getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_PATH_PROBLEMS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})


def _storage_error(error: OSError, doing: str) -> StorageError:
    """Our error for one of the system's. The path goes to the log only: a client learns no paths (security §9.5)."""
    log.error("%s failed: %s", doing, error)
    reason = (error.strerror or "input/output error").lower()
    if error.errno in FULL:
        return DiskFull(f"{doing}: {reason}")
    if error.errno in _PATH_PROBLEMS:
        return StorageError(f"{doing}: {reason}: ensure path elements are traversable")
    return StorageError(f"{doing}: {reason}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the system's errors inside the block into ours. `doing` names the work for a person."""
    try:
        yield
    except OSError as error:
        raise _storage_error(error, doing) from error


def is_regular(path: Path) -> bool:
    """Whether a regular file is there, at the end of links if need be."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BinaryIO:
    """Open for reading. A pipe, socket, device or folder is an OSError at once, never a hang.

    Looking first keeps a device from being touched at all; looking again at what was opened defeats a swap in between.
    """
    _insist_regular(os.stat(path).st_mode, path)
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_HANG)
    try:
        _insist_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _insist_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def create(path: Path, mode: int = FILE_MODE) -> int:
    """A new file for writing that did not exist before. From its mode the umask is taken."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY | _NO_LINK, mode)


def make_folder(path: Path) -> None:
    """Make a folder of the store, and its missing parents."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)


def make_private_folder(path: Path) -> None:
    """Make a folder for us alone. A link in its place may lead anywhere and is refused."""
    make_folder(path.parent)
    path.mkdir(PRIVATE_MODE, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a link", str(path))


def make_inner_folder(path: Path) -> None:
    """Make a folder inside the one that is for us alone, and that one too."""
    make_private_folder(path.parent)
    make_private_folder(path)


def remove_record(path: Path) -> None:
    """Remove a file out of such a folder, if it is there. Where either folder is a link, nothing is removed."""
    if not (path.parent.is_symlink() or path.parent.parent.is_symlink()):
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make a rename inside it survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(path: Path, target: Path) -> None:
    """Flush a finished file of ours and put it where it belongs, replacing what is there in one step."""
    descriptor = os.open(path, os.O_RDWR | _BINARY | _NO_LINK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(path, target)
    touch(target)
    sync_folder(target.parent)


def touch(path: Path) -> None:
    """Set the times to now; of a link itself, not of what it leads to."""
    os.utime(path, follow_symlinks=os.utime not in os.supports_follow_symlinks)


def unlink(path: Path, reason: str) -> int:
    """Remove a file or a link, and say why in the log. Returns bytes freed; folders, pipes and devices stay, for 0.

    Source: store-registry GAP-17 (every deletion is logged with its reason).
    """
    status = os.lstat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        log.warning("%s stays: it is no file", path.name)
        return 0
    path.unlink()
    log.info("removed %s (%d bytes): %s", path.name, status.st_size, reason)
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0

"""Blobs on their way: files under Ollama's own names in which a download can be interrupted and resumed.

They are bytes and states of parts here; what the states say is the business of who downloads. Source: store-registry
§2, §3.3, §3.5; security §9.2. Whoever works on one holds its lock, also against other processes of ours; stock Ollama
knows no such lock.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from ..names import Digest
from . import files
from .blobs import Blobs, keep_reserve
from .locks import try_lock

Suffix = Literal["-partial", ".tmp"]
"""`-partial`: fetched in parts, at its full length from the start. `.tmp`: written from its beginning to its end."""

_OPEN = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""No link is followed, and a pipe in the file's place does not hang us."""

_MAX_STATE_BYTES = 4096
"""A state is a line of some 80 bytes."""


class Partial:
    """An unfinished blob, ours alone until `close`. Made by `claim`. Methods raise StorageError, DiskFull."""

    def __init__(self, blobs: Blobs, path: Path, target: Path, descriptor: int) -> None:
        self._blobs = blobs
        self._path = path
        self._target = target
        self._descriptor = descriptor
        self._seek = threading.Lock()
        """Only where the system cannot read and write at an offset in one step."""

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def allocate(self, size_bytes: int) -> None:
        """Give the file its full length, sparse. DiskFull when what it still lacks would touch the disk's reserve."""
        with files.translated("write blob"):
            # systems without `st_blocks` count every byte again: on the safe side
            there_bytes = 512 * getattr(os.fstat(self._descriptor), "st_blocks", 0)
            self._blobs.require_space(max(0, size_bytes - there_bytes))
            os.ftruncate(self._descriptor, size_bytes)

    def keep_reserve(self) -> None:
        """DiskFull when the disk's reserve is touched by now."""
        with files.translated("write blob"):
            keep_reserve(self._path.parent)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        rest = memoryview(data)
        with files.translated("write blob"):
            while rest:
                written = self._write_at(rest, offset)
                rest, offset = rest[written:], offset + written

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read from `offset` on. Returns how many bytes; 0 at the end."""
        with files.translated("read blob"):
            return self._read_at(buffer, offset)

    def flush(self) -> None:
        """Bring to the disk what was written. May run on another thread, even beyond `close`."""
        with files.translated("write blob"):
            own = os.dup(self._descriptor)
            try:
                os.fsync(own)
            finally:
                os.close(own)

    def states(self) -> dict[int, bytes]:
        return _states(self._path)

    def save_state(self, number: int, content: bytes) -> None:
        """Write a part's state over the older one. A kill at any moment leaves one of them: it is one small write."""
        with files.translated("write blob"):
            descriptor = os.open(_state_path(self._path, number), _OPEN | os.O_CREAT, files.FILE_MODE)
            try:
                os.write(descriptor, content)
                if os.fstat(descriptor).st_size > len(content):
                    os.ftruncate(descriptor, len(content))
            finally:
                os.close(descriptor)

    def clear(self) -> None:
        """Forget content and states, to start anew."""
        with files.translated("write blob"):
            self._remove_states()
            os.ftruncate(self._descriptor, 0)

    def place(self) -> None:
        """Make it the blob, whatever stood in that place. The caller has verified every byte."""
        with files.translated("write blob"):
            os.fsync(self._descriptor)
            if not _is_at(self._descriptor, self._path):
                raise OSError(errno.ENOENT, "replaced while it was being written", str(self._path))
            if sys.platform == "win32":  # renames no open file
                self.close()
            os.replace(self._path, self._target)
            files.touch(self._target)
            # last: without its states a finished file could not be told from an empty one of full length
            self._remove_states()
            files.sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove it with its states."""
        with files.translated("remove blob"):
            self._remove_states()
            if sys.platform == "win32":
                self.close()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it. What is there stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remove_states(self) -> None:
        for number in _numbers(self._path):
            _state_path(self._path, number).unlink(missing_ok=True)

    if sys.platform == "win32":

        def _write_at(self, data: memoryview, offset: int) -> int:
            with self._seek:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.write(self._descriptor, data)

        def _read_at(self, buffer: memoryview, offset: int) -> int:
            with self._seek:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                data = os.read(self._descriptor, len(buffer))
            buffer[: len(data)] = data
            return len(data)
    else:

        def _write_at(self, data: memoryview, offset: int) -> int:
            return os.pwrite(self._descriptor, data, offset)

        def _read_at(self, buffer: memoryview, offset: int) -> int:
            return os.preadv(self._descriptor, [buffer], offset)


def claim(blobs: Blobs, digest: Digest, suffix: Suffix = "-partial") -> Partial | None:
    """What is there of this blob, or a new empty file; None while somebody else has it."""
    target = blobs.path(digest)
    path = target.with_name(target.name + suffix)
    with files.translated("write blob"):
        files.make_folder(path.parent)
        descriptor = os.open(path, _OPEN | os.O_CREAT, files.FILE_MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            # whoever had the lock before us may have renamed or removed the file that we opened
            if not try_lock(descriptor) or not _is_at(descriptor, path):
                os.close(descriptor)
                return None
        except OSError:
            os.close(descriptor)
            raise
    return Partial(blobs, path, target, descriptor)


def is_busy(path: Path) -> bool:
    """Whether somebody of ours works on an unfinished blob right now."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def states(blobs: Blobs, digest: Digest) -> dict[int, bytes]:
    """What somebody else who works on this blob has written down: part number and content of each state file."""
    target = blobs.path(digest)
    return _states(target.with_name(target.name + "-partial"))


def lacking_bytes(blobs: Blobs, digest: Digest, size_bytes: int) -> int:
    """What the disk must still take in of a blob: an interrupted download has its place already.

    Systems that do not tell count every byte again: on the safe side.
    """
    target = blobs.path(digest)
    found_bytes = 0
    for suffix in ("-partial", ".tmp"):
        with suppress(OSError):  # most often there is none
            found_bytes += 512 * getattr(os.lstat(target.with_name(target.name + suffix)), "st_blocks", 0)
    return max(0, size_bytes - found_bytes)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _states(path: Path) -> dict[int, bytes]:
    """What cannot be read is there and empty: it says nothing, and stands in nobody's way."""
    found = {}
    with files.translated("read blob"):
        for number in _numbers(path):
            try:
                with files.open_regular(_state_path(path, number)) as file:
                    found[number] = file.read(_MAX_STATE_BYTES)
            except OSError:
                found[number] = b""
    return found


def _numbers(path: Path) -> list[int]:
    """Which parts have a state file."""
    pattern = re.compile(re.escape(path.name) + r"-(0|[1-9][0-9]{0,8})")
    return [int(match[1]) for name in os.listdir(path.parent) if (match := pattern.fullmatch(name))]


def _state_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-{number}")

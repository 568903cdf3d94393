"""Files in the making: written aside, flushed, then renamed into place. Nothing else in the store writes content.

Source: security §9.2. A staged file lies in `.llamero/tmp/`, or in the folder of its target when that is another file
system, under a staging name that stock Ollama knows and clears away (store-registry §2).
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import files
from .locks import try_lock

log = logging.getLogger(__name__)

_FOLDER_LOCK = ".lock"
"""A file in a folder in the making, held while somebody works there."""


class StagedFile:
    """A file being written. Its lock tells a later start of any server that somebody still works on it."""

    def __init__(self, path: Path, mode: int = files.FILE_MODE) -> None:
        self._path = path
        self._descriptor = files.create(path, mode)
        self._open = True
        with suppress(OSError):  # without a lock it is at risk only while another server starts
            try_lock(self._descriptor)

    @property
    def descriptor(self) -> int:
        """For what `write` cannot do."""
        return self._descriptor

    def write(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def place(self, target: Path) -> None:
        """Put the finished file where it belongs, replacing what is there in one step."""
        os.fsync(self._descriptor)
        self._close()
        os.replace(self._path, target)
        files.touch(target)
        files.sync_folder(target.parent)

    def discard(self) -> None:
        """Remove what was not placed; harmless afterwards."""
        self._close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


class Staging:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, target_folder: Path) -> StagedFile:
        """A new file on the file system of `target_folder`, which exists. Unless placed, it is gone after its block."""
        self._make()
        if os.stat(self._folder).st_dev == os.stat(target_folder).st_dev:
            return StagedFile(self._folder / secrets.token_hex(16))
        return StagedFile(target_folder / f"sha256-{secrets.randbelow(10**18)}")

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A private folder for work that needs several files. It is gone after its block, with all that lies in it."""
        self._make()
        path = self._folder / secrets.token_hex(16)
        path.mkdir(files.PRIVATE_MODE)
        try:
            with StagedFile(path / _FOLDER_LOCK, files.RECORD_MODE):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> int:
        """Remove what a crash left behind and nobody works on. Returns bytes freed."""
        freed_bytes = 0
        if not self._folder.is_dir():
            return 0
        self._make()  # refuses a link, behind which everything would be swept away
        for path in list(self._folder.iterdir()):
            try:
                freed_bytes += _remove_abandoned(path)
            except OSError as error:
                log.warning("temporary file %s stays: %s", path.name, error)
        return freed_bytes

    def _make(self) -> None:
        files.make_inner_folder(self._folder)


def _remove_abandoned(path: Path) -> int:
    if path.is_symlink():
        return files.unlink(path, "a link in the place of a temporary file")
    if path.is_dir():
        return _remove_abandoned_folder(path)
    with files.open_regular(path) as file:
        if not try_lock(file.fileno()):
            return 0
    # closed first, because Windows removes no open file
    return files.unlink(path, "left in the making by a crash")


def _remove_abandoned_folder(path: Path) -> int:
    with suppress(FileNotFoundError), files.open_regular(path / _FOLDER_LOCK) as file:
        if not try_lock(file.fileno()):
            return 0
    freed_bytes = sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
    shutil.rmtree(path)
    log.info("removed %s (%d bytes): left in the making by a crash", path.name, freed_bytes)
    return freed_bytes

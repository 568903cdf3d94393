"""`export`: a model out of the server's store into one file, or down a pipe (store-registry GAP-13).

The file grows as `FILE.partial` and has its name only when it is whole and every digest in it has been checked; what a
broken export leaves is gone on with. The archive is checked as it arrives, in one pass.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Self

from ..client import UPLOAD_BLOCK_BYTES, Client, Download
from ..errors import BadRequest, ClientError, DiskFull, LlameroError, ServerAnswered
from ..names import Digest
from ..sizes import human_bytes
from ..store import files, layout, tar
from ..store.layout import Verified
from ..store.locks import try_lock
from .app import App
from .progress import Display, steps

_BEGINNING = tar.header(layout.MARK_FILE, len(layout.MARK))
"""How every archive of ours begins: by this a partial file is told from somebody else's."""


def export_model(app: App, name: str, file: str, *, force: bool = False, quiet: bool = False) -> None:
    client = app.connect()
    if file == "-":
        _to_stdout(app, client, name, quiet=quiet)
        return
    target = Path(file)
    _insist_free(target, force=force)
    with steps(app.terminal, quiet=quiet) as display, Partial(target.with_name(f"{target.name}.partial")) as partial:
        _to_partial(client, name, partial, display)
        _insist_free(target, force=force)
        partial.place(target)
    app.terminal.out(f"exported '{name}' to '{file}'\n")


def _to_stdout(app: App, client: Client, name: str, *, quiet: bool) -> None:
    if app.terminal.stdout.isatty():
        raise BadRequest("a model is not written to a terminal: redirect the output, or name a file")
    output = app.terminal.stdout.buffer

    def write(block: bytes) -> None:
        output.write(block)

    with steps(app.terminal, quiet=quiet) as display, client.export(name) as download:
        _check(_Copied(download, write), display)
        output.flush()


def _to_partial(client: Client, name: str, partial: Partial, display: Display) -> None:
    held_bytes, etag = partial.held()
    try:
        with client.export(name, held_bytes=held_bytes, etag=etag) as download:
            if held_bytes and not download.start_bytes:
                display.status(f"{partial.path.name} is of another state of the model: starting again")
            _check(partial.completed_by(download), display, damaged=partial.cut)
    except ServerAnswered as error:
        if error.status == 416:
            raise LlameroError(f"{partial.path} is longer than the archive: remove it") from error
        raise


def _check(stream: tar.Readable, display: Display, *, damaged: Callable[[int], None] = lambda offset: None) -> None:
    """Read an archive to its end. `damaged` is told where the member begins whose digest is wrong."""
    is_empty = True
    for member in tar.members(stream):
        digest = layout.blob_digest(member.name)
        if digest is not None:
            is_empty = False
            try:
                _check_blob(member, digest, display)
            except BadRequest:
                damaged(member.offset_bytes)
                raise
    while stream.read(UPLOAD_BLOCK_BYTES):
        pass
    if is_empty:
        raise ClientError("the server sent no model")


def _check_blob(member: tar.Member, digest: Digest, display: Display) -> None:
    def report(done_bytes: int) -> None:
        display.bar(str(digest), f"exporting {digest.short}:", done_bytes, member.size_bytes)

    Verified(member, digest, report).exhaust()


class _Copied:
    """A stream of which everything that is read is written elsewhere too."""

    def __init__(self, stream: tar.Readable, write: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._write = write

    def read(self, size: int = UPLOAD_BLOCK_BYTES, /) -> bytes:
        block = self._stream.read(size)
        self._write(block)
        return block


# --- a file that grows ---------------------------------------------------------------------------------------------


class Partial:
    """`FILE.partial`, ours alone inside its block. It stays when the block fails, to be gone on with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _translated("open", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._file = FileIO(descriptor, "r+")
        with self._closed_on_failure():
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LlameroError(f"{path} is not a file")
            if not try_lock(descriptor):
                raise LlameroError(f"{path} is being written by another export")
            if not _BEGINNING.startswith(self._file.read(len(_BEGINNING))):
                raise LlameroError(f"{path} is there and no unfinished export: remove it, or name another file")

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()

    def held(self) -> tuple[int, str]:
        """How many bytes are there to go on from, and the etag of the archive they are from; (0, "") for none."""
        with _translated("read", self.path):
            self._file.seek(0)
            try:
                for member in tar.members(self._file):
                    if member.name == layout.INDEX_FILE:
                        index = member.whole(layout.MAX_INDEX_BYTES)
                        # one byte is fetched again, so that there always is something to ask for
                        return os.fstat(self._file.fileno()).st_size - 1, layout.etag(index)
            except BadRequest:
                pass  # it broke off before its index was there
            return 0, ""

    def completed_by(self, download: Download) -> _Resumed:
        """The archive from its first byte on, ready to be read once. Raises DiskFull when the rest has no room."""
        with _translated("write", self.path):
            self._file.truncate(download.start_bytes)
            self._file.seek(0)
            free_bytes = shutil.disk_usage(self.path.parent).free
            if download.size_bytes > free_bytes:
                needed, free = human_bytes(download.size_bytes), human_bytes(free_bytes)
                raise DiskFull(f"not enough space for {self.path}: {needed} are needed, {free} are free")
        return _Resumed(self.path, self._file, download)

    def cut(self, offset_bytes: int) -> None:
        """Forget what follows; the next export goes on from here."""
        self._file.truncate(offset_bytes)

    def place(self, target: Path) -> None:
        with _translated("write", self.path):
            os.fsync(self._file.fileno())
            self._file.close()  # some systems rename no open file
            os.replace(self.path, target)
            files.sync_folder(target.parent)


class _Resumed:
    """What a partial file holds, and then what the server sends, which is written behind it."""

    def __init__(self, path: Path, file: FileIO, download: Download) -> None:
        self._path = path
        self._file = file
        self._held_bytes = download.start_bytes
        self._download = download

    def read(self, size: int = UPLOAD_BLOCK_BYTES, /) -> bytes:
        if self._held_bytes:
            with _translated("read", self._path):
                block = self._file.read(min(size, self._held_bytes))
            self._held_bytes -= len(block)
            return block
        try:
            block = self._download.read(size)
        except ClientError as error:
            raise ClientError(f"{error}; the same command again goes on from there") from error
        with _translated("write", self._path):
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]
        return block


def _insist_free(target: Path, *, force: bool) -> None:
    if target.exists() and not target.is_file():
        raise BadRequest(f"{target} is not a file; - writes to standard output")
    if target.exists() and not force:
        raise BadRequest(f"{target} already exists; --force replaces it")


@contextmanager
def _translated(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LlameroError(f"{doing} {path}: {error.strerror or error}") from error

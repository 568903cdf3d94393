"""Hashes files, links or sends those that the server lacks, several at once (cli §3.2). Which ones `collect` says."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Self, TypeVar

from ..client import UPLOAD_BLOCK_BYTES, Client
from ..errors import Cancelled, LlameroError
from ..names import Digest
from .place import Placer
from .progress import Display

_T = TypeVar("_T")
_R = TypeVar("_R")


class Uploader:
    """Leaving it, for whatever reason, ends what its threads still do."""

    def __init__(self, client: Client, display: Display, placer: Placer) -> None:
        self._client = client
        self._display = display
        self._placer = placer
        self._is_cancelled = threading.Event()
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_cancelled.set()

    def digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Name to digest, as the request has it."""
        hashed = self._all(self._digest, list(files.values()))
        self._paths |= dict(zip(hashed, files.values(), strict=True))
        return dict(zip(files, hashed, strict=True))

    def upload(self) -> None:
        self._all(self._send, list(self._paths))

    def _all(self, work: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """`work` of every item, in the items' order, several at once. The first failure is raised.

        After it, or after a Ctrl+C, nobody waits for the other threads: they end at their next block, or with the
        process. An executor of the standard library would wait for a server that does not answer.
        """
        results: SimpleQueue[tuple[int, _R | None, Exception | None]] = SimpleQueue()
        left = deque(enumerate(items))

        def run() -> None:
            with suppress(IndexError):
                while not self._is_cancelled.is_set():
                    index, item = left.popleft()
                    try:
                        results.put((index, work(item), None))
                    except Exception as error:
                        results.put((index, None, error))

        for _ in range(min(len(items), max(1, (os.cpu_count() or 2) - 1))):
            threading.Thread(target=run, daemon=True).start()
        done: list[Any] = [None] * len(items)
        for _ in items:
            index, done[index], error = results.get()
            if error is not None:
                raise error
        return done

    def _digest(self, path: Path) -> str:
        """Hash a file; where files can be linked into the store, that too, and nothing is left to send."""

        def report(read_bytes: int, total_bytes: int) -> None:
            self._check()
            self._display.copying(f"reading {path.name}", read_bytes, total_bytes)

        placed = self._placer.place(path, report)
        if placed is not None:
            return str(placed)
        hashed = sha256()
        with _open(path) as file:
            while block := file.read(UPLOAD_BLOCK_BYTES):
                self._check()
                hashed.update(block)
        return str(Digest(hashed.hexdigest()))

    def _send(self, digest: str) -> None:
        if self._client.has_blob(digest):
            return
        path = self._paths[digest]
        with _open(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size

            def report(sent_bytes: int) -> None:
                self._check()
                self._display.copying(f"copying file {digest}", sent_bytes, size_bytes)

            self._client.upload_blob(digest, _Sending(path, file, size_bytes, report), size_bytes)

    def _check(self) -> None:
        if self._is_cancelled.is_set():
            raise Cancelled


class _Sending:
    """A file that is read exactly as far as was promised, telling how far that is."""

    def __init__(self, path: Path, file: IO[bytes], size_bytes: int, report: Callable[[int], None]) -> None:
        self._path = path
        self._file = file
        self._left_bytes = size_bytes
        self._size_bytes = size_bytes
        self._report = report

    def read(self, size: int = -1, /) -> bytes:
        self._report(self._size_bytes - self._left_bytes)
        block = self._file.read(min(size, self._left_bytes) if size >= 0 else self._left_bytes)
        if not block and self._left_bytes:
            raise LlameroError(f"{self._path} became shorter while it was sent")
        self._left_bytes -= len(block)
        return block


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise LlameroError(f"open {path}: {error.strerror}") from error

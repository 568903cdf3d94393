"""GGUF headers of stored blobs: parsed once, remembered, and fully checked once per digest.

It opens blobs and hands their bytes to `gguf`; what the bytes mean is decided there. Source: security §4 (cost row).
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .. import gguf
from ..gguf import Gguf
from ..names import Digest
from . import files
from .blobs import Blobs

_REMEMBERED = 64
"""Headers kept in memory: more models than one machine serves in turn, at some 100 kB each."""

_CHECK_VERSION = 1
"""Raised when `check_model` learns to refuse more: older records then count for nothing."""


class Headers:
    def __init__(self, blobs: Blobs, records: Path) -> None:
        self._blobs = blobs
        self._records = records
        self._known: OrderedDict[Digest, Gguf] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, digest: Digest) -> Gguf:
        """The header of a blob. Raises BlobNotFound, StorageError, InvalidModelFile."""
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return self._known[digest]
        with self.content(digest) as buffer:
            header = gguf.read_header(buffer)
        with self._lock:
            self._known[digest] = header
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return header

    @contextmanager
    def content(self, digest: Digest) -> Iterator[mmap.mmap | bytes]:
        """The bytes of a blob, mapped into memory for the length of the block."""
        with self._blobs.open(digest) as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # an empty file cannot be mapped
                yield b""
                return
        with mapped:
            yield mapped

    def check(self, digest: Digest) -> Gguf:
        """Everything that can be found wrong with a model file, found before an engine opens it: InvalidModelFile.

        The first time costs seconds for a large vocabulary. What passed is recorded and not checked again.
        """
        header = self.read(digest)
        record = self._record(digest)
        if not record.exists():
            with self.content(digest) as buffer:
                gguf.check_model(header, buffer)
            with suppress(OSError):  # a folder that cannot be written costs a second check, nothing else
                files.make_inner_folder(record.parent)
                os.close(files.create(record, files.RECORD_MODE))
        return header

    def forget(self, digest: Digest) -> None:
        """The blob is gone."""
        with self._lock:
            self._known.pop(digest, None)
        with suppress(OSError):
            files.remove_record(self._record(digest))

    def _record(self, digest: Digest) -> Path:
        return self._records / f"{digest.hex}.{_CHECK_VERSION}"

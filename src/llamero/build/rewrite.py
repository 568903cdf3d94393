"""Writes a GGUF anew: one file's metadata with some keys changed, and tensors out of one or several files.

What is not changed passes through unread, byte for byte and in its order. It decides nothing: `shards`, `projector` and
`quantize` say what the new file is made of. Source: store-registry §6.4, §6.6, §7.1.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from .. import gguf
from ..errors import InvalidModelFile
from ..gguf import Gguf, Span, Tensor

BLOCK_BYTES = 4 << 20
"""Read and handed on at once: all that is ever in memory."""

_STRING, _U32 = 8, 4
"""Ids of the two kinds of values that are written anew."""


class Source:
    """An open GGUF file with its header, and where in it the records stand. One thread uses it at a time."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises InvalidModelFile. The file stays the caller's to close."""
        self._file = file
        if not os.fstat(file.fileno()).st_size:
            raise InvalidModelFile(gguf.CUT_SHORT)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            self.header: Gguf = gguf.read_header(content)
            self.records = gguf.read_records(content)

    def blocks(self, start: int, size_bytes: int) -> Iterator[bytes]:
        end = start + size_bytes
        while start < end:
            self._file.seek(start)
            block = self._file.read(min(end - start, BLOCK_BYTES))
            if not block:  # somebody cut the file short meanwhile
                raise InvalidModelFile(gguf.CUT_SHORT)
            start += len(block)
            yield block

    def span(self, span: Span) -> Iterator[bytes]:
        return self.blocks(span[0], span[1] - span[0])

    @property
    def parts(self) -> list[Part]:
        return [Part(self, tensor) for tensor in self.header.tensors]


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor for the new file, and the file it is taken from."""

    source: Source
    tensor: Tensor

    def record(self, offset: int, order: str) -> bytes:
        """Its entry in the index, which ends with the offset."""
        raw = b"".join(self.source.span(self.source.records.tensors[self.tensor.name]))
        return raw[:-8] + struct.pack(order + "Q", offset)

    def data(self) -> Iterator[bytes]:
        return self.source.blocks(self.source.header.data_offset + self.tensor.offset, self.tensor.size_bytes)


def rewrite(base: Source, parts: Sequence[Part], changes: Mapping[str, str | int | None]) -> Iterator[bytes]:
    """The new file, block by block: the metadata of `base` under `changes`, then the `parts` in their order.

    A changed key keeps its place and a new one comes last; None takes a key away. An integer is written as u32. Between
    the tensors there are only zeros. All sources share a byte order. Raises InvalidModelFile.
    """
    order = ">" if base.header.big_endian else "<"
    if any(part.source.header.big_endian != base.header.big_endian for part in parts):
        raise InvalidModelFile("files of different byte orders")
    alignment = base.header.alignment
    offsets = [0, *accumulate(_aligned(part.tensor.size_bytes, alignment) for part in parts)]
    written = 0
    for block in _head(base, parts, offsets, changes, order):
        written += len(block)
        yield block
    yield bytes(_aligned(written, alignment) - written)
    for part in parts:
        yield from part.data()
        yield bytes(-part.tensor.size_bytes % alignment)


def _head(
    base: Source, parts: Sequence[Part], offsets: Sequence[int], changes: Mapping[str, str | int | None], order: str
) -> Iterator[bytes]:
    new = {key: _pair(key, value, order) for key, value in changes.items() if value is not None}
    kept = [key for key in base.records.pairs if key not in changes or key in new]
    added = [key for key in new if key not in base.records.pairs]
    yield gguf.MAGIC + struct.pack(order + "IQQ", base.header.version, len(parts), len(kept) + len(added))
    for key in kept:
        yield from [new[key]] if key in new else base.span(base.records.pairs[key])
    yield from (new[key] for key in added)
    for part, offset in zip(parts, offsets, strict=False):
        yield part.record(offset, order)


def _pair(key: str, value: str | int, order: str) -> bytes:
    if isinstance(value, str):
        return _string(key, order) + struct.pack(order + "I", _STRING) + _string(value, order)
    return _string(key, order) + struct.pack(order + "II", _U32, value)


def _string(text: str, order: str) -> bytes:
    raw = text.encode()
    return struct.pack(order + "Q", len(raw)) + raw


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment

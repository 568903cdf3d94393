"""Reads a header from a buffer that may be hostile: metadata and the tensor index, but no weights.

Whatever is counted is bounded before it is read by. Source: store-registry §7 (format and error texts), security §4
(limits).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise, repeat
from operator import attrgetter
from typing import Any, TypeAlias

from ..errors import InvalidModelFile
from .header import MAX_LAYERS, Array, Buffer, Gguf, Tensor, Value, alignment_of
from .kinds import CODES, INTEGER_KINDS, KINDS, TENSOR_TYPES, shortest_f32

MAX_METADATA = 65_536
MAX_TENSORS = 200_000
MAX_NAME_BYTES = 1024
"""Of a key or a tensor's name."""
MAX_STRING_BYTES = 16 << 20
MAX_TEXT_BYTES = 32 << 20
"""Of all names and metadata strings together: decoded, a text may take four times its bytes."""
MAX_ARRAY_ELEMENTS = 64 << 20
MAX_ARRAY_STRINGS = 32 << 20
"""In all arrays together: strings are walked one by one, and this many take some three seconds."""
MAX_LAYER_VALUES = 1 << 18
"""In all arrays of whole numbers that are short enough to be kept; a real file has some hundreds."""
MAX_DIMENSIONS = 4
MAX_OFFSET = (1 << 63) - 1
"""The largest signed 64-bit number: what the engine counts elements and offsets with."""

MAGIC = b"GGUF"
MIN_PAIR_BYTES = 8 + 4 + 1
MIN_TENSOR_BYTES = 8 + 4 + 4 + 8
CUT_SHORT = "unexpected end of file"

RUN_STRINGS = 256
SHORT_STRINGS = re.compile(
    b"(?s:%b){%d}+" % (b"|".join(rb"\x%02x\0{7}.{%d}" % (length, length) for length in range(64)), RUN_STRINGS)
)
"""A run of little-endian strings below 64 bytes: of each the low byte of its length, seven zeros, the text."""


def is_gguf(head: bytes) -> bool:
    """Whether a file that begins like this claims to be a GGUF."""
    return head[:4] == MAGIC


def read_header(buffer: Buffer, *, size_bytes: int | None = None) -> Gguf:
    """Read and check a header.

    `size_bytes` is the file's size when `buffer` holds only its beginning. A buffer that ends within the header is
    refused like a file that does, so a caller with more bytes at hand may simply try again with them.
    """
    if not is_gguf(bytes(buffer[:4])):
        raise InvalidModelFile("invalid file magic")
    cursor = _Cursor(buffer)
    n_tensors, n_pairs = cursor.numbers("II" if cursor.version == 1 else "QQ")
    _check_count("metadata", n_pairs, MAX_METADATA, cursor.remaining_bytes // MIN_PAIR_BYTES)
    _check_count("tensor", n_tensors, MAX_TENSORS, cursor.remaining_bytes // MIN_TENSOR_BYTES)
    metadata = _read_metadata(cursor, n_pairs)
    alignment = alignment_of(metadata)
    tensors = _read_tensors(cursor, n_tensors)
    data_offset = -(-cursor.pos // alignment) * alignment
    file_bytes = len(buffer) if size_bytes is None else size_bytes
    _check_ranges(tensors, alignment, data_offset, file_bytes)
    return Gguf(cursor.version, cursor.order == ">", metadata, tensors, data_offset, file_bytes)


Span: TypeAlias = tuple[int, int]
"""The first byte of something in a file, and the one after its last."""


@dataclass(frozen=True, slots=True)
class Records:
    """Where the records of a header stand, for those who copy them unread: key, type and value; a tensor's entry."""

    pairs: Mapping[str, Span]
    tensors: Mapping[str, Span]


def read_records(buffer: Buffer) -> Records:
    """Find the records of a header that `read_header` has accepted."""
    cursor = _Cursor(buffer)
    n_tensors, n_pairs = cursor.numbers("II" if cursor.version == 1 else "QQ")
    pairs: dict[str, Span] = {}
    tensors: dict[str, Span] = {}
    for _ in range(n_pairs):
        start, key = cursor.pos, cursor.string(MAX_NAME_BYTES)
        cursor.value()
        pairs[key] = start, cursor.pos
    for _ in range(n_tensors):
        start, tensor = cursor.pos, _read_tensor(cursor)
        tensors[tensor.name] = start, cursor.pos
    return Records(pairs, tensors)


class _Cursor:
    """A place in the header. Each read checks that its bytes are there before it makes anything of them."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.pos = len(MAGIC)
        self.order = "<"
        self.version: int = self.numbers("I")[0]
        if self.version & 0xFFFF == 0:
            # The low half of a small number is empty only when a big-endian machine wrote it.
            self.pos = len(MAGIC)
            self.order = ">"
            self.version = self.numbers("I")[0]
        if self.version not in (1, 2, 3):
            raise InvalidModelFile(f"unsupported GGUF version: {self.version}")
        self._text_bytes_left = MAX_TEXT_BYTES
        self._array_strings_left = MAX_ARRAY_STRINGS
        self._layer_values_left = MAX_LAYER_VALUES

    @property
    def remaining_bytes(self) -> int:
        return len(self.buffer) - self.pos

    def skip(self, n_bytes: int) -> int:
        """Step over bytes that must be there; returns the position before the step."""
        if n_bytes > self.remaining_bytes:
            raise InvalidModelFile(CUT_SHORT)
        start = self.pos
        self.pos += n_bytes
        return start

    def numbers(self, codes: str) -> tuple[Any, ...]:
        """The next numbers, by their `struct` codes."""
        layout = self.order + codes
        return struct.unpack_from(layout, self.buffer, self.skip(struct.calcsize(layout)))

    def string(self, max_bytes: int) -> str:
        start, length = self._skip_string(max_bytes)
        self._text_bytes_left -= length
        if self._text_bytes_left < 0:
            raise InvalidModelFile(f"string length of all texts exceeds maximum {MAX_TEXT_BYTES}")
        return bytes(self.buffer[start : start + length]).decode("utf-8", "replace")

    def value(self) -> Value:
        type_id = self.numbers("I")[0]
        kind = KINDS.get(type_id)
        if kind is None:
            raise InvalidModelFile(f"invalid type: {type_id}")
        if kind == "string":
            return self.string(MAX_STRING_BYTES)
        if kind == "array":
            return self._array()
        number: bool | int | float = self.numbers(CODES[kind])[0]
        return shortest_f32(number) if kind == "f32" else number

    def _array(self) -> Array:
        type_id, count = self.numbers("IQ")
        kind = KINDS.get(type_id)
        if kind is None or kind == "array":
            raise InvalidModelFile(f"invalid array type: {type_id}")
        if count > MAX_ARRAY_ELEMENTS:
            raise InvalidModelFile(f"array size {count} exceeds maximum {MAX_ARRAY_ELEMENTS}")
        start, values = self.pos, None
        if kind == "string":
            self._skip_strings(count)
        elif count <= MAX_LAYERS and (kind in INTEGER_KINDS or kind == "bool"):
            values = self._layer_values(kind, count)
        else:
            self.skip(count * struct.calcsize(self.order + CODES[kind]))
        return Array(kind, count, start, self.pos - start, values)

    def _layer_values(self, kind: str, count: int) -> tuple[int, ...]:
        self._layer_values_left -= count
        if self._layer_values_left < 0:
            raise InvalidModelFile(f"array size of all short arrays exceeds maximum {MAX_LAYER_VALUES}")
        return self.numbers(f"{count}{CODES[kind]}")

    def _skip_string(self, max_bytes: int) -> tuple[int, int]:
        """Step over one string; returns where its text begins and the text's length in bytes."""
        length = self.numbers("Q")[0]
        if length > max_bytes:
            raise _too_long(length, max_bytes)
        start = self.skip(length)
        if self.version > 1:
            return start, length
        if length == 0 or self.buffer[self.pos - 1] != 0:
            raise _not_terminated(length)
        return start, length - 1

    def _skip_strings(self, count: int) -> None:
        """Step over the strings of an array. Where each begins is known only from the length of the one before.

        This is where a header's time goes. A loop around `struct` takes 76 ns a string; while the strings are short, as
        those of a vocabulary are, a regular expression steps over a run of them in 45 ns each.
        """
        self._array_strings_left -= count
        if self._array_strings_left < 0:
            raise InvalidModelFile(f"array size of all string arrays exceeds maximum {MAX_ARRAY_STRINGS}")
        common = self.version > 1 and self.order == "<"
        while count > 0:
            step = min(count, RUN_STRINGS)
            run = SHORT_STRINGS.match(self.buffer, self.pos) if common and step == RUN_STRINGS else None
            self.pos = run.end() if run else self._after_strings(step)
            count -= step

    def _after_strings(self, count: int) -> int:
        buffer, pos, length_at = self.buffer, self.pos, struct.Struct(self.order + "Q").unpack_from
        terminated = self.version == 1
        try:
            for _ in repeat(None, count):
                (length,) = length_at(buffer, pos)
                if length > MAX_STRING_BYTES:
                    raise _too_long(length, MAX_STRING_BYTES)
                pos += 8 + length
                if terminated and (length == 0 or buffer[pos - 1] != 0):
                    raise _not_terminated(length)
        except (struct.error, IndexError):
            raise InvalidModelFile(CUT_SHORT) from None
        if pos > len(buffer):
            raise InvalidModelFile(CUT_SHORT)
        return pos


def _too_long(length: int, maximum: int) -> InvalidModelFile:
    return InvalidModelFile(f"string length {length} exceeds maximum {maximum}")


def _not_terminated(length: int) -> InvalidModelFile:
    return InvalidModelFile(f"invalid GGUF v1 string {'terminator' if length else 'length: 0'}")


def _check_count(what: str, count: int, maximum: int, fitting: int) -> None:
    """Refuse a count before anything is read by it: beyond the limit, or more records than the bytes can hold."""
    if count > maximum:
        raise InvalidModelFile(f"{what} count {count} exceeds maximum {maximum}")
    if count > fitting:
        raise InvalidModelFile(CUT_SHORT)


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string(MAX_NAME_BYTES)
        if key in metadata:
            raise InvalidModelFile(f"duplicate key {quoted(key)}")
        metadata[key] = cursor.value()
    return metadata


def _read_tensors(cursor: _Cursor, count: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    n_parameters = 0
    for _ in range(count):
        tensor = _read_tensor(cursor)
        if tensor.name in tensors:
            raise InvalidModelFile(f"duplicate tensor {quoted(tensor.name)}")
        tensors[tensor.name] = tensor
        n_parameters += tensor.elements
        if n_parameters > MAX_OFFSET:
            raise InvalidModelFile("parameter count overflow")
    return tuple(tensors.values())


def _read_tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string(MAX_NAME_BYTES)
    n_dimensions = cursor.numbers("I")[0]
    if n_dimensions > MAX_DIMENSIONS:
        raise _bad_tensor(name, f"dimensions {n_dimensions} exceeds maximum {MAX_DIMENSIONS}")
    *shape, type_id, offset = cursor.numbers(f"{n_dimensions}QIQ")
    n_elements = math.prod(shape)
    if n_elements == 0:
        raise _bad_tensor(name, "has a dimension of 0")
    if n_elements > MAX_OFFSET:
        raise _bad_tensor(name, "elements overflow")
    kind = TENSOR_TYPES.get(type_id)
    if kind is None:
        raise _bad_tensor(name, f"size overflow: unknown type {type_id}")
    row_elements = shape[0] if shape else 1
    if row_elements % kind.block_elements:
        raise _bad_tensor(name, f"size overflow: row of {row_elements} is no multiple of {kind.block_elements}")
    size_bytes = n_elements // kind.block_elements * kind.block_bytes
    if offset + size_bytes > MAX_OFFSET:
        raise _bad_tensor(name, "offset+size overflows")
    return Tensor(name, kind.name, tuple(shape), offset, size_bytes)


def _check_ranges(tensors: Collection[Tensor], alignment: int, data_offset: int, file_bytes: int) -> None:
    for tensor in tensors:
        if tensor.offset % alignment:
            raise _bad_tensor(tensor.name, f"offset {tensor.offset} is no multiple of the alignment {alignment}")
        end = data_offset + tensor.offset + tensor.size_bytes
        if end > file_bytes:
            raise _bad_tensor(tensor.name, f"offset+size ({end}) exceeds file size ({file_bytes})")
    for tensor, following in pairwise(sorted(tensors, key=attrgetter("offset"))):
        if tensor.offset + tensor.size_bytes > following.offset:
            raise _bad_tensor(tensor.name, f"overlaps {quoted(following.name)}")


def _bad_tensor(name: str, reason: str) -> InvalidModelFile:
    return InvalidModelFile(f"tensor {quoted(name)} {reason}")


def quoted(name: str) -> str:
    """A name out of a hostile file, short and safe to print."""
    return json.dumps(name if len(name) <= 64 else name[:64] + "...")

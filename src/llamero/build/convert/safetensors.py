"""Reads the safetensors format: a checked header, and the rows of every tensor on demand. It converts nothing.

A file is 8 bytes of header length (little endian), that many bytes of JSON (name -> dtype, shape, data_offsets), then
the tensors' bytes, back to back. Each claim of the header is checked before a view exists (security §2, CVE-2026-7482:
a range beyond the file read foreign memory), so a `StoredTensor` can be read without further care. Files are read, not
mapped: one that shrinks is an error then, and what was read does not stay in the process's memory.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from ...errors import BadRequest, InvalidModelFile

Array = npt.NDArray[Any]

MAX_HEADER_BYTES = 32 * 1024 * 1024
"""140,000 tensors need about 20 MB, and no published shard holds as many."""

MAX_DIMENSIONS = 8
"""More than any model has; bounds the product that is computed from them."""

MAX_NAME_CHARACTERS = 256
"""Names reach error texts. The longest published ones have about 100."""

_LENGTH_BYTES = 8
_METADATA = "__metadata__"

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip

_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1"}
"""What we can read. numpy has neither bfloat16 nor 8-bit floats, so they stay as their bits."""


class Source(Protocol):
    """A tensor that can be read: one of a file, or one that is computed from such."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The slowest dimension first."""

    def bits(self, start: int = 0, stop: int | None = None) -> Array:
        """The values, or those of the rows `start` to `stop` of the first dimension; BF16 as 16-bit integers.

        Raises BadRequest when values of this type cannot be read.
        """


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: its bytes are `begin` to `end` of the file at `path`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    path: Path

    def bits(self, start: int = 0, stop: int | None = None) -> Array:
        if self.dtype not in _NUMPY:
            raise BadRequest(f"unknown data type: {self.dtype}")
        rows, row_values = (self.shape[0], math.prod(self.shape[1:])) if self.shape else (1, 1)
        start, stop, _ = slice(start, stop).indices(rows)
        count = (stop - start) * row_values
        kind = np.dtype(_NUMPY[self.dtype])
        values = np.fromfile(self.path, kind, count, offset=self.begin + start * row_values * kind.itemsize)
        if values.size != count:
            raise InvalidModelFile("safetensors file became shorter while it was read")
        return values.reshape((stop - start, *self.shape[1:]) if self.shape else ())


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, in the order of their bytes. Raises InvalidModelFile."""
    size = path.stat().st_size
    if not path.is_file() or size < _LENGTH_BYTES:
        raise InvalidModelFile("safetensors header is cut short")
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(_LENGTH_BYTES))
        if header_bytes > MAX_HEADER_BYTES:
            raise InvalidModelFile(f"safetensors header of {header_bytes} bytes exceeds maximum {MAX_HEADER_BYTES}")
        data_begin = _LENGTH_BYTES + header_bytes
        if data_begin > size:
            raise InvalidModelFile("safetensors header is cut short")
        header = _parse_header(file.read(header_bytes))
    header.pop(_METADATA, None)
    tensors = {name: _stored(name, entry, path, data_begin) for name, entry in header.items()}
    return _back_to_back(tensors, data_begin, size)


def _parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise InvalidModelFile("safetensors header is not JSON") from exc
    if not isinstance(header, dict):
        raise InvalidModelFile("safetensors header is not an object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # the last of two equal names would win silently, and another reader may take the first
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidModelFile("safetensors header has a duplicate name")
    return found


def _stored(name: str, entry: Any, path: Path, data_begin: int) -> StoredTensor:
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidModelFile(f"tensor name of {len(name)} characters exceeds maximum {MAX_NAME_CHARACTERS}")
    if not isinstance(entry, dict):
        raise InvalidModelFile(f"tensor {name!r} has no description")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise BadRequest(f"unknown data type: {str(dtype)[:40]}")
    if not _is_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise InvalidModelFile(f"tensor {name!r} has an invalid shape")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise InvalidModelFile(f"tensor {name!r} has invalid offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise InvalidModelFile(f"tensor {name!r} has {end - begin} bytes, which its shape and type contradict")
    return StoredTensor(dtype, tuple(shape), data_begin + begin, data_begin + end, path)


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _back_to_back(tensors: dict[str, StoredTensor], data_begin: int, file_bytes: int) -> dict[str, StoredTensor]:
    """The format allows neither holes nor overlaps, so that each byte belongs to one tensor."""
    ordered = sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end))
    position = data_begin
    for name, tensor in ordered:
        if tensor.begin != position:
            raise InvalidModelFile(f"tensor {name!r} overlaps another one or leaves a hole")
        position = tensor.end
    if position != file_bytes:
        raise InvalidModelFile(f"tensors end at byte {position}, the file at {file_bytes}")
    return dict(ordered)

"""Arrays of a header, decoded when somebody asks: `/api/show` does, and the full check of a vocabulary."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator
from itertools import repeat
from typing import Any

from ..errors import InvalidModelFile
from .header import Array, Buffer, Gguf
from .kinds import CODES, shortest_f32

_INTEGRAL_BELOW = 2.0**53
"""Readers that know floats only, such as JavaScript's, take integers below this as they are."""
MAX_DECODED_ELEMENTS = 4 << 20
MAX_DECODED_BYTES = 64 << 20
"""Of the arrays decoded in one call: several times what the largest real vocabulary needs."""


def read_array(buffer: Buffer, gguf: Gguf, array: Array) -> list[Any]:
    """The elements of an array of `gguf`, which was read from this same buffer.

    Raises InvalidModelFile when they are far more than any real model has.
    """
    _check_decodable([array])
    if array.kind == "string":
        return [text.decode("utf-8", "replace") for text in texts_of(buffer, gguf, array)]
    numbers = numbers_of(buffer, gguf, array)
    return [shortest_f32(number) for number in numbers] if array.kind == "f32" else list(numbers)


def show_metadata(gguf: Gguf, buffer: Buffer, *, verbose: bool, projector: bool = False) -> dict[str, Any]:
    """The metadata as `/api/show` gives it, ready for JSON: `model_info`, or `projector_info` (store-registry §7.5).

    In the order of the keys. Arrays are null unless they are empty or `verbose`; `_plain` says what numbers become.
    """
    if verbose:
        _check_decodable([value for value in gguf.metadata.values() if isinstance(value, Array)])
    shown: dict[str, Any] = {}
    for key, value in gguf.metadata.items():
        if not isinstance(value, Array):
            shown[key] = _plain(value)
        elif verbose or value.count == 0:
            shown[key] = [_plain(element) for element in read_array(buffer, gguf, value)]
        else:
            shown[key] = None
    shown["general.parameter_count"] = gguf.parameter_count
    if not projector:
        for key in ("general.name", "tokenizer.chat_template"):
            shown.pop(key, None)
    return dict(sorted(shown.items()))


def _plain(value: Any) -> Any:
    """A value for JSON: null for a float that is not finite, `10000` for 10000.0, as Go writes it."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < _INTEGRAL_BELOW else value


def _check_decodable(arrays: Collection[Array]) -> None:
    n_elements = sum(array.count for array in arrays)
    n_bytes = sum(array.size_bytes for array in arrays)
    if n_elements > MAX_DECODED_ELEMENTS:
        raise InvalidModelFile(f"array size {n_elements} exceeds maximum {MAX_DECODED_ELEMENTS} to decode")
    if n_bytes > MAX_DECODED_BYTES:
        raise InvalidModelFile(f"array size of {n_bytes} bytes exceeds maximum {MAX_DECODED_BYTES} to decode")


def numbers_of(buffer: Buffer, gguf: Gguf, array: Array) -> tuple[Any, ...]:
    return struct.unpack_from(f"{_order(gguf)}{array.count}{CODES[array.kind]}", buffer, array.offset)


def texts_of(buffer: Buffer, gguf: Gguf, array: Array) -> Iterator[bytes]:
    pos, length_at = array.offset, struct.Struct(_order(gguf) + "Q").unpack_from
    terminator_bytes = 1 if gguf.version == 1 else 0
    for _ in repeat(None, array.count):
        (length,) = length_at(buffer, pos)
        pos += 8 + length
        yield bytes(buffer[pos - length : pos - terminator_bytes])


def _order(gguf: Gguf) -> str:
    return ">" if gguf.big_endian else "<"

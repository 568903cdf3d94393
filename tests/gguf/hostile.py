"""Pieces of files that nobody means well with, and how they are refused."""

from __future__ import annotations

import struct

import pytest

from llamero.errors import InvalidModelFile
from llamero.gguf import check_model, read_header
from tests.gguf_files import Raw, tiny_llama

MIB = 1 << 20
TINY = tiny_llama()


def refusal(data: bytes) -> InvalidModelFile:
    """How a file is refused, by the reader or by the full check."""
    with pytest.raises(InvalidModelFile) as caught:
        check_model(read_header(data), data)
    assert str(caught.value) == f"invalid model file: {caught.value.reason}"
    return caught.value


def array_of(type_id: int, count: int, payload: bytes = b"") -> Raw:
    return Raw(9, struct.pack("<IQ", type_id, count) + payload)

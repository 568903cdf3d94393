"""Compressed archives: read as what is in them, and no further than sense goes (security §2)."""

from __future__ import annotations

import gzip
import io
import os

import pytest

from llamero.errors import BadRequest
from llamero.store.inflate import FREE_BYTES, MAX_RATIO, Inflated


def read(packed: bytes, size: int = 1 << 16) -> bytes:
    inflated = Inflated(io.BytesIO(packed))
    return b"".join(iter(lambda: inflated.read(size), b""))


CONTENT = os.urandom(70_000) + bytes(300_000)


@pytest.mark.parametrize("size", [1000, 1 << 16, 1 << 20])
def test_what_was_packed_comes_out(size: int) -> None:
    assert read(gzip.compress(CONTENT), size) == CONTENT


def test_several_packed_streams_are_one() -> None:
    assert read(gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")) == b"one two"


def test_padding_behind_it_is_nothing() -> None:
    assert read(gzip.compress(b"one") + bytes(1000)) == b"one"


@pytest.mark.parametrize("keep", [3, 11, 60_000, -1])
def test_a_cut_stream(keep: int) -> None:
    with pytest.raises(BadRequest, match=r"^invalid archive: the compressed stream is cut off$"):
        read(gzip.compress(CONTENT)[:keep])


def test_a_damaged_stream() -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-5] ^= 1  # its checksum
    with pytest.raises(BadRequest, match=r"^invalid archive: the compressed stream is damaged$"):
        read(bytes(packed))


def test_a_bomb_is_stopped_early() -> None:
    bomb = gzip.compress(bytes(FREE_BYTES)) * 8  # 64 KB each, half a gigabyte in all
    inflated = Inflated(io.BytesIO(bomb))
    came_bytes = 0

    def take() -> None:
        nonlocal came_bytes
        while block := inflated.read(1 << 20):
            assert len(block) <= 1 << 20
            came_bytes += len(block)

    with pytest.raises(BadRequest, match=f"more than {MAX_RATIO} times"):
        take()
    assert came_bytes < 2 * FREE_BYTES

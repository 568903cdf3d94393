"""The digest of a file that grows."""

from __future__ import annotations

import random

import pytest

from llamero.names import Digest
from llamero.registry.follower import Follower

CONTENT = random.Random(1).randbytes(3_000_000)


def reader(content: bytes, at_most: int = 1 << 30):  # type: ignore[no-untyped-def]
    def read_into(buffer: memoryview, offset: int) -> int:
        data = content[offset : offset + min(len(buffer), at_most)]
        buffer[: len(data)] = data
        return len(data)

    return read_into


@pytest.mark.parametrize("steps", [[3_000_000], [0, 1, 1, 2, 1_048_576, 2_999_999, 3_000_000]], ids=["once", "steps"])
@pytest.mark.parametrize("at_most", [1 << 30, 100_000], ids=["whole reads", "short reads"])
async def test_all_that_was_written_is_hashed_and_no_more(steps: list[int], at_most: int) -> None:
    follower = Follower(reader(CONTENT + b"not yet", at_most))
    for end in steps:
        follower.advance(end)
    assert await follower.finish() == Digest.of(CONTENT)


async def test_nothing_is_a_file_too() -> None:
    assert await Follower(reader(CONTENT)).finish() == Digest.of(b"")


async def test_a_file_that_becomes_shorter_is_an_error() -> None:
    follower = Follower(reader(CONTENT[:10]))
    follower.advance(20)
    with pytest.raises(EOFError):
        await follower.finish()


async def test_what_reading_raises_comes_out_in_the_end() -> None:
    def broken(buffer: memoryview, offset: int) -> int:
        raise OSError("the disk")

    follower = Follower(broken)
    follower.advance(1)
    with pytest.raises(OSError, match="the disk"):
        await follower.finish()


def test_a_follower_that_is_not_needed_any_more_ends() -> None:
    follower = Follower(reader(CONTENT))
    follower.advance(len(CONTENT))
    follower.stop()
    assert not follower._thread.is_alive()

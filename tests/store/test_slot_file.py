"""The head of what an engine wrote when it saved a slot."""

from __future__ import annotations

import io

import pytest

from llamero.store.slot_file import MAX_WORDS, BadSlotFile, HoldsPictures, read_tokens
from tests.slot_files import MARK, slot_bytes, words_of

TOKENS = [1, 2, 3, 49151]


def tokens_of(data: bytes) -> list[int]:
    return list(read_tokens(io.BytesIO(data), len(data)))


@pytest.mark.parametrize("words", [words_of(TOKENS), TOKENS], ids=["with its mark", "of an older engine"])
def test_tokens_are_told_in_two_ways(words: list[int]) -> None:
    assert tokens_of(slot_bytes(words)) == TOKENS


@pytest.mark.parametrize("words", [words_of([]), []], ids=["with its mark", "of an older engine"])
def test_an_empty_slot_has_none(words: list[int]) -> None:
    assert tokens_of(slot_bytes(words)) == []


def test_a_file_cut_anywhere_in_its_head_is_refused() -> None:
    whole = slot_bytes(words_of(TOKENS), b"")
    for length in range(len(whole)):
        with pytest.raises(BadSlotFile):
            tokens_of(whole[:length])


def test_a_file_that_ends_before_it_says_is_refused_though_its_size_is_told_larger() -> None:
    whole = slot_bytes(words_of(TOKENS), b"")
    with pytest.raises(BadSlotFile):
        read_tokens(io.BytesIO(whole[:-4]), len(whole))


@pytest.mark.parametrize(
    "data",
    [
        slot_bytes(words_of(TOKENS), magic=b"ggsq"),
        slot_bytes(words_of(TOKENS), version=99),
        slot_bytes([MARK, 2, *words_of(TOKENS)[2:]]),
        slot_bytes([MARK]),
        slot_bytes([MARK, 1, 2**32 - 1, 5, 0]),
        slot_bytes([MARK, 1, 5, *TOKENS, 0]),
        slot_bytes(words_of([1, MARK, 3])),
        slot_bytes([1, 2**31, 3]),
        b"qsgg" + (4).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little") + bytes(100),
        b"qsgg" + (4).to_bytes(4, "little") + (MAX_WORDS + 1).to_bytes(4, "little"),
        bytes(4096),
        b"GGUF" + bytes(4096),
        b"",
    ],
)
def test_what_no_engine_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(BadSlotFile):
        tokens_of(data)


def test_a_word_count_beyond_reason_reads_nothing() -> None:
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size <= 12
            return super().read(size)

    data = b"qsgg" + (4).to_bytes(4, "little") + (MAX_WORDS + 1).to_bytes(4, "little")
    with pytest.raises(BadSlotFile):
        read_tokens(Unread(data), 1 << 40)


def test_pictures_are_told_apart_from_damage() -> None:
    with pytest.raises(HoldsPictures):
        tokens_of(slot_bytes(words_of([1, MARK, MARK, 2], pictures_at=[1])))

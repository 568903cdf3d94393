"""GGUF files written anew: changed keys, tensors out of several files, everything else byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llamero import gguf
from llamero.build.rewrite import BLOCK_BYTES, Source, rewrite
from llamero.errors import InvalidModelFile
from tests.gguf_files import Raw, TensorSpec, Typed, gguf_file, tiny_llama

ODD = [
    ("general.architecture", "test"),
    ("nan", Raw(6, b"\x01\x00\xc0\x7f")),  # a NaN with a payload
    ("not.utf8", Raw(8, b"\x02\0\0\0\0\0\0\0\xff\xfe")),
    ("wide", Typed("u64", 5)),
    ("tokens", ["a", "", "ü"]),
    ("numbers", Typed("[f32]", [0.1, 1e30])),
]
TENSORS = [TensorSpec("b", (32, 3), "Q8_0", data=bytes(range(102))), TensorSpec("a", (5,), data=bytes(range(20)))]


def source(folder: Path, content: bytes, name: str = "a.gguf") -> Source:
    path = folder / name
    path.write_bytes(content)
    return Source(path.open("rb"))


@pytest.fixture
def rewritten(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Rewrite one file; what it is made of stays open until the end of the test."""

    def run(content: bytes, changes: Mapping[str, str | int | None] | None = None) -> bytes:
        opened = source(tmp_path, content)
        request.addfinalizer(opened._file.close)
        return b"".join(rewrite(opened, opened.parts, changes or {}))

    return run


@pytest.mark.parametrize(
    "content",
    [
        gguf_file(ODD, TENSORS),
        gguf_file(ODD, TENSORS, version=2),
        gguf_file([("general.architecture", "test"), ("wide", Typed("u64", 5))], TENSORS, big_endian=True),
        gguf_file([*ODD, ("general.alignment", 64)], TENSORS, alignment=64),
        gguf_file([*ODD, ("general.alignment", 8)], TENSORS, alignment=8),
        gguf_file(ODD, [TensorSpec(b"\xff\xfe", (4,))]),
        tiny_llama(),
    ],
    ids=["v3", "v2", "big-endian", "alignment 64", "alignment 8", "a name that is no text", "a model"],
)
def test_without_a_change_every_byte_is_the_same(rewritten: Any, content: bytes) -> None:
    assert rewritten(content) == content


def test_a_changed_key_keeps_its_place_and_a_new_one_comes_last(rewritten: Any) -> None:
    pairs = [("general.architecture", "test"), ("one", "1"), ("two", 2), ("three", [3])]
    changed = rewritten(gguf_file(pairs, TENSORS), {"two": "zwei", "one": None, "four": 4, "none": None})
    wanted = [("general.architecture", "test"), ("two", "zwei"), ("three", [3]), ("four", 4)]
    assert changed == gguf_file(wanted, TENSORS)


def test_changes_are_written_in_the_files_byte_order(rewritten: Any) -> None:
    before = gguf_file({"general.architecture": "test"}, TENSORS, big_endian=True)
    after = gguf_file({"general.architecture": "test", "n": 7, "s": "ö"}, TENSORS, big_endian=True)
    assert rewritten(before, {"n": 7, "s": "ö"}) == after


def test_x28_what_stands_between_the_tensors_is_not_carried_over(rewritten: Any) -> None:
    """Partly X-28: the canary lies in a gap, behind the last tensor, and in the padding before the data."""
    canary = b"CANARY!!"
    behind = [TensorSpec("a", (4,), data=bytes(16) + canary * 6), TensorSpec("b", (4,), data=bytes(16) + canary)]
    dirty = bytearray(gguf_file({"general.architecture": "test"}, behind) + canary)
    data_offset = gguf.read_header(dirty).data_offset
    assert dirty[data_offset - 8 : data_offset] == bytes(8), "there is padding to hide in"
    dirty[data_offset - 8 : data_offset] = canary
    assert dirty.count(canary) == 9
    clean = gguf_file({"general.architecture": "test"}, [TensorSpec("a", (4,)), TensorSpec("b", (4,))])
    assert rewritten(bytes(dirty)) == clean


def test_tensors_come_from_several_files(tmp_path: Path) -> None:
    first = source(tmp_path, gguf_file({"general.architecture": "test"}, TENSORS[:1]), "1")
    second = source(tmp_path, gguf_file({"general.architecture": "other", "x": 1}, TENSORS[1:]), "2")
    with first._file, second._file:
        merged = b"".join(rewrite(first, [*first.parts, *second.parts], {}))
    assert merged == gguf_file({"general.architecture": "test"}, TENSORS)


def test_no_more_than_a_block_is_in_memory(tmp_path: Path) -> None:
    size_bytes = 3 * BLOCK_BYTES + 32
    opened = source(tmp_path, gguf_file({"general.architecture": "test"}, [TensorSpec("big", (size_bytes // 4,))]))
    with opened._file:
        sizes = [len(block) for block in rewrite(opened, opened.parts, {})]
    assert max(sizes) == BLOCK_BYTES


def test_files_of_two_byte_orders_do_not_mix(tmp_path: Path) -> None:
    little = source(tmp_path, gguf_file({"general.architecture": "test"}, TENSORS[:1]), "1")
    big = source(tmp_path, gguf_file({"general.architecture": "test"}, TENSORS[1:], big_endian=True), "2")
    with little._file, big._file, pytest.raises(InvalidModelFile, match="byte orders"):
        list(rewrite(little, [*little.parts, *big.parts], {}))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all"])
def test_what_is_no_gguf_is_no_source(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(InvalidModelFile):
        Source(file)


def test_a_file_cut_short_meanwhile_is_an_error(tmp_path: Path) -> None:
    opened = source(tmp_path, tiny_llama())
    path = tmp_path / "a.gguf"
    with opened._file, path.open("r+b") as file:
        blocks = rewrite(opened, opened.parts, {})
        next(blocks)
        file.truncate(path.stat().st_size // 2)
        with pytest.raises(InvalidModelFile, match="unexpected end"):
            list(blocks)

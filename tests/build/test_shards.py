"""A GGUF in several files: which belong together, what is wrong with a set, what they make (store-registry §6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llamero import gguf
from llamero.build.rewrite import Source
from llamero.build.shards import GgufFile, grouped, is_shard, merge
from llamero.errors import BadRequest, InvalidModelFile
from llamero.names import Digest
from tests.gguf_files import TensorSpec, Typed, gguf_file, llama_metadata, llama_tensors

WHOLE = [
    TensorSpec(each.name, each.shape, data=bytes([n % 251]) * len(each.payload))
    for n, each in enumerate(llama_tensors())
]


def split_model(
    sizes: Sequence[int] = (4, 7), *, prefix: str = "split.", kind: str = "u16", alignment: int = 32
) -> list[bytes]:
    """A tiny model as llama.cpp's tool splits it, `sizes` tensors to a file: the first has all the metadata."""
    files, begin = [], 0
    for index, size in enumerate(sizes):
        metadata: dict[str, Any] = dict(llama_metadata()) if index == 0 else {}
        metadata |= {f"{prefix}no": Typed(kind, index), f"{prefix}count": Typed(kind, len(sizes))}
        metadata |= {f"{prefix}tensors.count": Typed("i32", sum(sizes))}
        if alignment != 32 and index:
            metadata["general.alignment"] = alignment
        files.append(gguf_file(metadata, WHOLE[begin : begin + size], alignment=alignment if index else 32))
        begin += size
    return files


def uploaded(path: str, content: bytes) -> GgufFile:
    return GgufFile(path, Digest.of(content), gguf.read_header(content))


def merged(folder: Path, contents: Sequence[bytes]) -> bytes:
    with ExitStack() as opened:
        sources = []
        for number, content in enumerate(contents):
            (folder / str(number)).write_bytes(content)
            sources.append(Source(opened.enter_context((folder / str(number)).open("rb"))))
        return b"".join(merge(sources))


@pytest.mark.parametrize("kind", ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"])
def test_s76_two_shards_make_the_file_that_was_split(tmp_path: Path, kind: str) -> None:
    assert merged(tmp_path, split_model(kind=kind)) == gguf_file(llama_metadata(), WHOLE)


def test_the_keys_of_a_split_may_stand_under_the_architecture(tmp_path: Path) -> None:
    first, _ = split_model(prefix="llama.split.")
    _, second = split_model()
    assert is_shard(gguf.read_header(first))
    assert merged(tmp_path, [first, second]) == gguf_file(llama_metadata(), WHOLE)


def test_shards_may_be_aligned_differently(tmp_path: Path) -> None:
    assert merged(tmp_path, split_model((4, 4, 3), alignment=64)) == gguf_file(llama_metadata(), WHOLE)


def test_one_of_one_is_no_shard() -> None:
    for count in (0, 1):
        assert not is_shard(gguf.read_header(gguf_file({"split.count": count})))
    assert not is_shard(gguf.read_header(gguf_file({"split.count": "2"})))
    assert is_shard(gguf.read_header(gguf_file({"split.count": 2})))


def test_sets_are_told_apart_by_name_and_count_and_put_in_order() -> None:
    one, two = (gguf_file({"split.count": 2, "split.no": index}) for index in range(2))
    alone = uploaded("z.gguf", gguf_file())
    files = [
        uploaded("b/n-00002-of-00002.gguf", two),
        uploaded("m-00002-of-00002.gguf", two),
        alone,
        uploaded("a/m-00001-of-00002.GGUF", one),
        uploaded("n-00001-of-00002.gguf", one),
    ]
    assert [[file.path for file in group] for group in grouped(files)] == [
        ["n-00001-of-00002.gguf", "b/n-00002-of-00002.gguf"],
        ["a/m-00001-of-00002.GGUF", "m-00002-of-00002.gguf"],
    ]


PATTERN = "must use llama.cpp split filename pattern"

BROKEN_SETS = [
    pytest.param({"m.gguf": (0, 2)}, f'split GGUF "m.gguf" {PATTERN}', id="S-76 a name of another form"),
    pytest.param({"m-1-of-2.gguf": (0, 2)}, f'split GGUF "m-1-of-2.gguf" {PATTERN}', id="S-76 too few digits"),
    pytest.param({"-00001-of-00002.gguf": (0, 2)}, f'split GGUF "-00001-of-00002.gguf" {PATTERN}', id="no prefix"),
    pytest.param(
        {"m-00001-of-00003.gguf": (0, 2)},
        'split GGUF "m-00001-of-00003.gguf" filename count 3 does not match metadata count 2',
        id="S-76 another count",
    ),
    pytest.param(
        {"m-00002-of-00002.gguf": (0, 2)},
        'split GGUF "m-00002-of-00002.gguf" filename index 1 does not match metadata index 0',
        id="S-76 another index",
    ),
    pytest.param(
        {"m-00001-of-00002.gguf": (None, 2)},
        'split GGUF "m-00001-of-00002.gguf" is missing split.no metadata',
        id="S-76 no index",
    ),
    pytest.param(
        {"m-00001-of-00003.gguf": (0, 3), "m-00003-of-00003.gguf": (2, 3)},
        'split GGUF "m" has 2 shards, expected 3',
        id="S-76 one too few",
    ),
    pytest.param(
        {"m-00001-of-00002.gguf": (0, 2), "a/m-00001-of-00002.gguf": (0, 2)},
        'split GGUF "m" has duplicate shard index 0',
        id="S-76 one twice",
    ),
    pytest.param(
        {"m-00002-of-00002.gguf": (1, 2), "m-00003-of-00002.gguf": (2, 2)},
        "split GGUF is missing first shard",
        id="S-76 no first",
    ),
    pytest.param(
        {"m-00001-of-00002.gguf": (0, 2), "m-00003-of-00002.gguf": (2, 2)},
        'split GGUF "m" is missing shard 1',
        id="S-76 a gap",
    ),
    pytest.param({"m-00000-of-00002.gguf": (-1, 2)}, "split.no -1 is outside 0...65535", id="a negative index"),
    pytest.param({"m-00001-of-70000.gguf": (0, 70_000)}, "split.count 70000 is outside 0...65535", id="17 bits"),
]


@pytest.mark.parametrize(("files", "text"), BROKEN_SETS)
def test_broken_sets(files: dict[str, tuple[int | None, int]], text: str) -> None:
    contents = {
        path: gguf_file({"split.count": count} | ({} if index is None else {"split.no": index}))
        for path, (index, count) in files.items()
    }
    with pytest.raises(BadRequest) as caught:
        grouped([uploaded(path, content) for path, content in contents.items()])
    assert str(caught.value).removeprefix("invalid model file: ") == text


def test_shards_of_two_models_do_not_mix(tmp_path: Path) -> None:
    first, _ = split_model()
    with pytest.raises(InvalidModelFile, match=r'duplicate tensor "token_embd\.weight"'):
        merged(tmp_path, [first, gguf_file({"split.no": 1, "split.count": 2}, WHOLE[:7])])
    with pytest.raises(InvalidModelFile, match="split GGUF has 4 tensors, expected 11"):
        merged(tmp_path, [first])

"""The GGUF files we write: their order, their alignment, and that a reader gets back what went in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader

from llamero.build.convert.family import Tensor
from llamero.build.convert.writer import write_gguf
from llamero.errors import BadRequest


def tensor(name: str, values: np.ndarray, kind: Type = Type.F32) -> Tensor:
    return Tensor(name, values.shape, kind, lambda: [values])


def test_the_minimal_file_equals_the_published_vector(tmp_path: Path) -> None:
    """S-96: store-registry appendix A, where this digest stands in the row above the one it belongs to."""
    write_gguf(tmp_path / "x.gguf", "test", {}, [])
    content = (tmp_path / "x.gguf").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()[:12]) == (68, "89a2116c3a82")


def test_keys_are_sorted_and_short_ones_belong_to_the_architecture(tmp_path: Path) -> None:
    """S-96"""
    metadata = {"tokenizer.ggml.model": "bert", "block_count": 3, "general.file_type": 1, "adapter.type": "lora"}
    write_gguf(tmp_path / "x.gguf", "llama", metadata, [])
    keys = [key for key in GGUFReader(tmp_path / "x.gguf").fields if not key.startswith("GGUF.")]
    assert keys == [
        "adapter.type",
        "general.architecture",
        "general.file_type",
        "llama.block_count",
        "tokenizer.ggml.model",
    ]


def test_blocks_come_in_the_order_of_their_numbers_and_the_rest_last(tmp_path: Path) -> None:
    """S-96"""
    names = ["token_embd.weight", "blk.10.b.weight", "blk.2.z.weight", "blk.2.a.weight", "a.weight", "blk.0.x.weight"]
    write_gguf(tmp_path / "x.gguf", "t", {}, [tensor(name, np.ones(2, "<f4")) for name in names])
    assert [found.name for found in GGUFReader(tmp_path / "x.gguf").tensors] == [
        "blk.0.x.weight",
        "blk.2.a.weight",
        "blk.2.z.weight",
        "blk.10.b.weight",
        "a.weight",
        "token_embd.weight",
    ]


@pytest.mark.parametrize("alignment", [32, 64])
def test_a_reader_gets_back_what_was_written(tmp_path: Path, alignment: int) -> None:
    """S-96: odd sizes, so that padding is needed before every tensor but the first."""
    given = {
        "a": (np.arange(7, dtype="<f4"), Type.F32),
        "b": (np.arange(15, dtype="<f2").reshape(3, 5), Type.F16),
        "c": (np.arange(3, dtype="<u2").reshape(1, 3), Type.BF16),
    }
    metadata = {"n": 7, "big": (1 << 32) - 1, "yes": True, "e": 0.5, "words": ["a", "é"], "ids": [3, -1]}
    if alignment != 32:
        metadata["general.alignment"] = alignment
    write_gguf(tmp_path / "x.gguf", "t", metadata, [tensor(name, *what) for name, what in given.items()])
    reader = GGUFReader(tmp_path / "x.gguf")
    for key, value in metadata.items():
        assert reader.fields[key if "." in key else f"t.{key}"].contents() == value
    for found in reader.tensors:
        values, kind = given[found.name]
        assert (found.tensor_type, [int(n) for n in found.shape]) == (kind, list(reversed(values.shape)))
        assert found.data.tobytes() == values.tobytes()
        assert found.data_offset % alignment == 0
    assert (tmp_path / "x.gguf").stat().st_size % alignment == 0


def test_values_are_fetched_block_by_block_as_they_are_written(tmp_path: Path) -> None:
    events: list[object] = []

    def lazily(name: str) -> Callable[[], Iterator[np.ndarray]]:
        def blocks() -> Iterator[np.ndarray]:
            for part in range(2):
                events.append((name, part))
                yield np.zeros(2, "<f4")

        return blocks

    tensors = [Tensor(name, (4,), Type.F32, lazily(name)) for name in ("b", "a")]
    write_gguf(tmp_path / "x.gguf", "t", {}, tensors, lambda completed, total: events.append((completed, total)))
    assert events == [("a", 0), (8, 32), ("a", 1), (16, 32), ("b", 0), (24, 32), ("b", 1), (32, 32)]


def test_two_tensors_of_one_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """partly S-83"""
    twice = [tensor("blk.0.attn_q.weight", np.ones(2, "<f4"))] * 2
    with pytest.raises(BadRequest, match=r"duplicate tensor name 'blk\.0\.attn_q\.weight' was found for this model"):
        write_gguf(tmp_path / "x.gguf", "t", {}, twice)
    assert not (tmp_path / "x.gguf").exists()

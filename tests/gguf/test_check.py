"""What a file must pass once: counts that enter arithmetic, and its vocabulary (security §4)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from llamero.gguf import check_model, read_header
from tests.gguf.hostile import MIB, TINY, array_of, refusal
from tests.gguf_files import TensorSpec, Typed, gguf_file, llama_metadata, llama_tensors, tiny_llama


def test_tiny_model_passes_the_full_check() -> None:
    check_model(read_header(TINY), TINY)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(gguf_file({"general.architecture": "test"}), id="a header alone"),
        pytest.param(gguf_file(), id="nothing at all"),
        pytest.param(gguf_file({"general.type": "mmproj"}, [TensorSpec("v.x", (8,))]), id="projector"),
        pytest.param(gguf_file({"general.type": "adapter"}, [TensorSpec("w.lora_a", (8,))]), id="adapter"),
        pytest.param(gguf_file({"split.no": 1, "split.count": 2}, [TensorSpec("w", (8,))]), id="second shard"),
        pytest.param(tiny_llama({"tokenizer.ggml.model": "none", "tokenizer.ggml.tokens": None}), id="no tokenizer"),
        pytest.param(tiny_llama({"tokenizer.ggml.scores": None, "tokenizer.ggml.token_type": None}), id="bare tokens"),
    ],
)
def test_files_that_may_lack_counts(data: bytes) -> None:
    check_model(read_header(data), data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 0),
        ("llama.embedding_length", 0),
        ("llama.vocab_size", 0),
        ("tokenizer.ggml.tokens", Typed("[string]", [])),
    ],
)
def test_nothing_to_compute_with(key: str, value: Any) -> None:
    """partly X-23: the status of create belongs to it."""
    assert refusal(tiny_llama({key: value})).status == 400


@pytest.mark.parametrize("key", ["llama.attention.head_count", "llama.attention.head_count_kv"])
@pytest.mark.parametrize("value", [0, [0], 65_536, None])
def test_no_heads_are_legitimate(key: str, value: Any) -> None:
    """partly X-23: that nobody divides by them is shown where they divide."""
    data = tiny_llama({key: value})
    check_model(read_header(data), data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", None),
        ("general.architecture", 7),
        ("llama.block_count", None),
        ("llama.block_count", "1"),
        ("llama.block_count", 1.0),
        ("llama.block_count", True),
        ("llama.block_count", [1]),
        ("llama.block_count", -1),
        ("llama.block_count", 10_001),
        ("llama.embedding_length", None),
        ("llama.embedding_length", 1_048_577),
        ("llama.context_length", None),
        ("llama.context_length", 0),
        ("llama.context_length", 1 << 31),
        ("llama.attention.head_count", "4"),
        ("llama.attention.head_count", -1),
        ("llama.attention.head_count", 65_537),
        ("llama.attention.head_count", [4, 4]),
        ("llama.attention.head_count", []),
        ("llama.attention.head_count", [65_537]),
        ("llama.attention.head_count_kv", [0.5]),
        ("llama.attention.head_count_kv", [True]),
        ("llama.attention.head_count_kv", Typed("[i32]", [-1])),
        ("tokenizer.ggml.tokens", None),
        ("tokenizer.ggml.tokens", "abc"),
        ("tokenizer.ggml.tokens", [1, 2, 3]),
        ("tokenizer.ggml.scores", [0.0] * 259),
        ("tokenizer.ggml.scores", ["0"] * 260),
        ("tokenizer.ggml.scores", 0.0),
        ("tokenizer.ggml.token_type", Typed("[i32]", [1] * 261)),
    ],
)
def test_metadata_that_is_missing_or_of_the_wrong_type_or_length(key: str, value: Any) -> None:
    """X-25."""
    error = refusal(tiny_llama({key: value}))
    assert key in error.reason
    assert error.status == 400


def vocabulary(texts: list[str | bytes], types: list[int]) -> bytes:
    scores = [0.0] * len(texts)
    changes = {"tokens": Typed("[string]", texts), "token_type": Typed("[i32]", types), "scores": scores}
    return tiny_llama({f"tokenizer.ggml.{key}": value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (vocabulary(["<0x-1>"], [6]), 'token "<0x-1>" is no byte token'),
        (vocabulary(["<0x-1>"], [1]), 'token "<0x-1>" is no byte token'),
        (vocabulary(["<0x100>"], [6]), "is no byte token"),
        (vocabulary(["<0x4>"], [6]), "is no byte token"),
        (vocabulary(["a"], [6]), "is no byte token"),
        (vocabulary(["<0x41>\n"], [6]), "is no byte token"),
        (vocabulary(["a", "<0x0G>"], [1, 6]), "is no byte token"),
        (vocabulary(["x" * 65_537], [1]), "token length 65537 exceeds maximum 65536"),
        (
            tiny_llama({"tokenizer.ggml.tokens": array_of(8, 1, struct.pack("<Q", 3 << 30) + b"x")}),
            "string length 3221225472 exceeds maximum",
        ),
        (vocabulary(["a", "b"], [1]), "tokenizer.ggml.token_type must have a number for each of 2 tokens"),
        (vocabulary(["a"], [1, 1]), "tokenizer.ggml.token_type must have a number for each of 1 tokens"),
    ],
)
def test_abused_vocabulary(data: bytes, reason: str) -> None:
    """X-29."""
    error = refusal(data)
    assert reason in error.reason
    assert error.status == 400


def test_a_vocabulary_beyond_four_million_is_refused_before_it_is_walked() -> None:
    n = 4 * MIB + 1
    data = gguf_file({"tokenizer.ggml.tokens": array_of(8, n, bytes(8 * n))})
    assert "vocabulary of 4194305 tokens" in refusal(data).reason


def test_byte_tokens_and_long_tokens_of_real_vocabularies_pass() -> None:
    data = vocabulary(
        ["<0xaF>", "x" * 65_536, "<0x", "0x41>", "\udcff".encode("utf-8", "surrogateescape")], [6, 1, 1, 1, 1]
    )
    check_model(read_header(data), data)


def test_version_1_may_be_read_but_not_run() -> None:
    data = gguf_file(llama_metadata(), llama_tensors(), version=1)
    assert refusal(data).reason == "unsupported GGUF version: 1"

"""What the head of a file says: its values, what it is for, its counts for people (store-registry §7)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.gguf import human_count, read_header
from tests.gguf_files import Typed, gguf_file, tiny_llama


@pytest.mark.parametrize("value", ["2", 2.0, True, [2]])
def test_a_file_type_of_another_kind_is_unknown(value: Any) -> None:
    assert read_header(gguf_file({"general.file_type": value})).file_type == "unknown"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (125_000_000, "125M"),
        (500_550_000, "500.55M"),
        (2_850_000_000, "2.9B"),
        (1_000_000_000_000, "1000B"),
        (1_001, "1K"),
        (7_615_616_512, "7.6B"),
        (8_000_000_000, "8B"),
        (334_090_000, "334.09M"),
        (136_700, "137K"),
        (133_700_000, "133.70M"),
        (999, "999"),
        (0, "0"),
    ],
)
def test_parameter_size_text(n: int, text: str) -> None:
    """S-92, L-24: the vectors of §7.4, and those of native-api §2.11 and cli §4.2."""
    assert human_count(n) == text


def test_keys_are_prefixed_by_the_architecture_unless_general_or_tokenizer() -> None:
    header = read_header(
        gguf_file(
            {"general.architecture": "bert", "bert.pooling_type": 1, "general.name": "B", "tokenizer.ggml.pre": "p"}
        )
    )
    assert header.get_int("pooling_type") == 1
    assert header.get_str("general.name") == "B"
    assert header.get_str("tokenizer.ggml.pre") == "p"
    assert header.has("pooling_type")
    assert not header.has("bert.pooling_type")


def test_architecture_is_unknown_when_nothing_says_it() -> None:
    header = read_header(gguf_file({"unknown.context_length": 7}))
    assert (header.architecture, header.get_int("context_length")) == ("unknown", 7)


@pytest.mark.parametrize("kind", ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"])
def test_integers_of_any_width_are_accepted(kind: str) -> None:
    header = read_header(gguf_file({"general.architecture": "llama", "llama.context_length": Typed(kind, 100)}))
    assert header.get_int("context_length") == 100


@pytest.mark.parametrize(
    ("value", "missing_from"),
    [
        (1, ("str", "bool")),
        (True, ("int", "str")),
        (0.5, ("int", "str", "bool")),
        ("1", ("int", "bool")),
        ([1], ("int", "str", "bool")),
    ],
)
def test_a_value_of_another_type_reads_as_missing(value: Any, missing_from: tuple[str, ...]) -> None:
    header = read_header(gguf_file({"general.x": value}))
    assert {kind: getattr(header, f"get_{kind}")("general.x", "default") for kind in missing_from} == dict.fromkeys(
        missing_from, "default"
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3, (3,)),
        ([8, 0, 8], (8, 0, 8)),
        (Typed("[i32]", [-1]), (-1,)),
        ([True, False], (True, False)),
        (Typed("[u32]", [4] * 10_000), (4,) * 10_000),
        (Typed("[u32]", [4] * 10_001), ()),
        ([0.5], ()),
        (["a"], ()),
        (True, ()),
        (None, ()),
    ],
)
def test_numbers_for_the_model_or_for_each_layer(value: Any, read: tuple[int, ...]) -> None:
    """What the memory estimate asks for, after the file is closed: head counts, sliding windows."""
    metadata = {"general.architecture": "jamba"} | ({} if value is None else {"jamba.attention.head_count_kv": value})
    assert read_header(gguf_file(metadata)).get_ints("attention.head_count_kv") == read


@pytest.mark.parametrize(
    ("kind", "metadata"),
    [
        ("adapter", {"general.type": "adapter"}),
        ("projector", {"general.type": "projector"}),
        ("projector", {"general.type": "mmproj"}),
        ("projector", {"general.architecture": "qwen2vl", "qwen2vl.vision.block_count": 2}),
        ("projector", {"general.architecture": "a", "a.block_count": 0, "a.vision.block_count": 2}),
        ("projector", {"general.architecture": "clip", "clip.has_vision_encoder": True}),
        ("projector", {"general.architecture": "clip", "clip.has_audio_encoder": True}),
        ("model", {"general.architecture": "clip", "clip.has_vision_encoder": False}),
        ("model", {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.block_count": 1}),
        ("model", {"general.architecture": "gemma3", "gemma3.block_count": 6, "gemma3.vision.block_count": 2}),
        ("model", {}),
    ],
)
def test_what_a_file_is_for(kind: str, metadata: dict[str, Any]) -> None:
    """The table of store-registry §6.4, row by row."""
    assert read_header(gguf_file(metadata)).kind == kind


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 260),
        ({"llama.vocab_size": None}, 260),
        ({"llama.vocab_size": 300}, 260),
        ({"tokenizer.ggml.tokens": None}, 260),
    ],
)
def test_a_vocabulary_is_as_large_as_its_list_says(changes: dict[str, Any], size: int) -> None:
    # most families have no `vocab_size`, and where it is larger than the list it is padding
    assert read_header(tiny_llama(changes)).vocabulary == size

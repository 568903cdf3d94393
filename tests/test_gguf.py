"""The reader of GGUF headers (store-registry §7) and its limits (security §4)."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero import gguf
from llamero.errors import InvalidModelFile
from llamero.gguf import Array, check_model, human_count, read_array, read_header, show_metadata
from tests.gguf_files import KIND_IDS, Raw, TensorSpec, Typed, gguf_file, llama_metadata, llama_tensors, tiny_llama

MIB = 1 << 20
TINY = tiny_llama()

LAYOUTS = [pytest.param(1, False, id="v1"), pytest.param(2, False, id="v2"), pytest.param(3, False, id="v3")]
LAYOUTS += [pytest.param(2, True, id="v2-big-endian"), pytest.param(3, True, id="v3-big-endian")]


@contextmanager
def at_most(mib: int, seconds: float) -> Iterator[None]:
    """What a hostile file may cost. Python's own allocator counts, so the figure does not depend on the machine."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        yield
        elapsed_s, (_, peak_bytes) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < mib * MIB
    assert elapsed_s < seconds


def refusal(data: bytes) -> InvalidModelFile:
    """How a file is refused, by the reader or by the full check."""
    with pytest.raises(InvalidModelFile) as caught:
        check_model(read_header(data), data)
    assert str(caught.value) == f"invalid model file: {caught.value.reason}"
    return caught.value


def one_value(value: Any, **layout: Any) -> Any:
    return read_header(gguf_file({"k": value}, **layout)).metadata["k"]


# --- what is read ---


def test_minimal_file_equals_the_published_vector() -> None:
    data = gguf_file({"general.architecture": "test"})
    assert (len(data), hashlib.sha256(data).hexdigest()[:12]) == (68, "89a2116c3a82")
    header = read_header(data)
    assert (header.architecture, header.file_type, header.tensors) == ("test", "unknown", ())
    assert human_count(header.parameter_count) == "0"


@pytest.mark.parametrize(("version", "big_endian"), LAYOUTS)
def test_every_version_and_byte_order_says_the_same(version: int, big_endian: bool) -> None:
    """partly S-91: that create refuses version 1 is shown there."""
    data = gguf_file(llama_metadata(), llama_tensors(), version=version, big_endian=big_endian)
    header = read_header(data)
    assert (header.version, header.big_endian, header.size_bytes) == (version, big_endian, len(data))
    assert header.architecture == "llama"
    assert header.get_int("embedding_length") == 32
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert read_array(data, header, tokens) == llama_metadata()["tokenizer.ggml.tokens"]
    assert [tensor.name for tensor in header.tensors] == [spec.name for spec in llama_tensors()]
    assert data[header.data_offset + header.tensors[-1].offset :] == bytes(header.tensors[-1].size_bytes)


@pytest.mark.parametrize(("version", "big_endian"), LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u8", 255),
        ("i8", -128),
        ("u16", 65_535),
        ("i16", -32_768),
        ("u32", (1 << 32) - 1),
        ("i32", -(1 << 31)),
        ("f32", 0.5),
        ("bool", True),
        ("string", "naïve 🦙"),
        ("u64", (1 << 64) - 1),
        ("i64", -(1 << 63)),
        ("f64", math.pi),
    ],
)
def test_every_kind_of_value_alone_and_in_an_array(kind: str, value: Any, version: int, big_endian: bool) -> None:
    layout: dict[str, Any] = {"version": version, "big_endian": big_endian}
    alone = one_value(Typed(kind, value), **layout)
    assert (alone, type(alone)) == (value, type(value))
    data = gguf_file({"k": Typed(f"[{kind}]", [value, value])}, **layout)
    header = read_header(data)
    array = header.metadata["k"]
    assert isinstance(array, Array)
    assert (array.kind, array.count) == (kind, 2)
    assert read_array(data, header, array) == [value, value]


def test_a_file_of_another_writer_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["a", "ä", ""])
    writer.add_token_types([1, 2, 3])
    writer.add_tensor("w", np.ones((3, 8), dtype=np.float16))
    writer.add_tensor("v", np.ones(5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = path.read_bytes()
    header = read_header(data)
    shown = show_metadata(header, data, verbose=True)
    assert (shown["llama.context_length"], shown["llama.attention.layer_norm_rms_epsilon"]) == (4096, 1e-5)
    assert shown["tokenizer.ggml.tokens"] == ["a", "ä", ""]
    assert shown["tokenizer.ggml.token_type"] == [1, 2, 3]
    assert [(t.name, t.type, t.shape) for t in header.tensors] == [("w", "F16", (8, 3)), ("v", "F32", (5,))]
    start = header.data_offset + header.tensors[1].offset
    assert data[start : start + 20] == np.ones(5, dtype=np.float32).tobytes()


def test_text_that_is_not_utf8_is_replaced() -> None:
    assert one_value(b"a\xffb") == "a\ufffdb"


def test_tensors_keep_file_order_and_upper_case_types() -> None:
    """partly S-94: the rest is the answer of show."""
    specs = [TensorSpec("a", (256, 3), "Q4_K"), TensorSpec("b", (5,), "F32"), TensorSpec("c", (), "F32", data=bytes(4))]
    header = read_header(gguf_file({}, specs))
    assert [(t.name, t.type, t.shape, t.offset, t.size_bytes) for t in header.tensors] == [
        ("a", "Q4_K", (256, 3), 0, 432),
        ("b", "F32", (5,), 448, 20),
        ("c", "F32", (), 480, 4),
    ]
    assert header.parameter_count == 256 * 3 + 5 + 1


@pytest.mark.parametrize("alignment", [8, 64, 65_536])
def test_data_starts_at_the_stated_alignment(alignment: int) -> None:
    header = read_header(gguf_file({"general.alignment": alignment}, [TensorSpec("t", (4,))], alignment=alignment))
    assert header.data_offset == math.ceil(90 / alignment) * alignment


TENSOR_TABLE = """
0 F32 1/4 · 1 F16 1/2 · 2 Q4_0 32/18 · 3 Q4_1 32/20 · 6 Q5_0 32/22 · 7 Q5_1 32/24 · 8 Q8_0 32/34 · 9 Q8_1 32/36 ·
10 Q2_K 256/84 · 11 Q3_K 256/110 · 12 Q4_K 256/144 · 13 Q5_K 256/176 · 14 Q6_K 256/210 · 15 Q8_K 256/292 ·
16 IQ2_XXS 256/66 · 17 IQ2_XS 256/74 · 18 IQ3_XXS 256/98 · 19 IQ1_S 256/50 · 20 IQ4_NL 32/18 · 21 IQ3_S 256/110 ·
22 IQ2_S 256/82 · 23 IQ4_XS 256/136 · 24 I8 1/1 · 25 I16 1/2 · 26 I32 1/4 · 27 I64 1/8 · 28 F64 1/8 ·
29 IQ1_M 256/56 · 30 BF16 1/2 · 34 TQ1_0 256/54 · 35 TQ2_0 256/66 · 39 MXFP4 32/17 · 40 NVFP4 64/36 · 41 Q1_0 128/18
"""


@pytest.mark.parametrize("row", TENSOR_TABLE.replace("\n", " ").split("·"))
def test_tensor_types_and_their_sizes(row: str) -> None:
    type_id, name, block = row.split()
    block_elements, block_bytes = map(int, block.split("/"))
    (tensor,) = read_header(
        gguf_file({}, [TensorSpec("t", (2 * block_elements, 3), int(type_id), size_bytes=6 * block_bytes)])
    ).tensors
    assert (tensor.type, tensor.size_bytes) == (name, 6 * block_bytes)


LEVELS = """
0 F32 · 1 F16 · 2 Q4_0 · 3 Q4_1 · 7 Q8_0 · 8 Q5_0 · 9 Q5_1 · 10 Q2_K · 11 Q3_K_S · 12 Q3_K_M · 13 Q3_K_L · 14 Q4_K_S ·
15 Q4_K_M · 16 Q5_K_S · 17 Q5_K_M · 18 Q6_K · 19 IQ2_XXS · 20 IQ2_XS · 21 Q2_K_S · 22 IQ3_XS · 23 IQ3_XXS · 24 IQ1_S ·
25 IQ4_NL · 26 IQ3_S · 27 IQ3_M · 28 IQ2_S · 29 IQ2_M · 30 IQ4_XS · 31 IQ1_M · 32 BF16 · 36 TQ1_0 · 37 TQ2_0 ·
38 MXFP4_MOE · 39 NVFP4 · 40 Q1_0 · 4 unknown · 6 unknown · 33 unknown · 35 unknown · 41 unknown · 4294967295 unknown
"""


@pytest.mark.parametrize("row", LEVELS.replace("\n", " ").split("·"))
def test_level_of_every_file_type(row: str) -> None:
    """S-92, with the sizes below."""
    number, level = row.split()
    assert read_header(gguf_file({"general.file_type": int(number)})).file_type == level


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


# --- looking things up ---


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
        (1, ("str", "bool", "float")),
        (True, ("int", "str", "float")),
        (0.5, ("int", "str", "bool")),
        ("1", ("int", "bool", "float")),
        ([1], ("int", "str", "bool", "float")),
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


# --- what show tells ---


def test_show_hides_name_and_template_and_counts_the_parameters() -> None:
    """partly S-93."""
    data = tiny_llama({"general.parameter_count": 1})
    shown = show_metadata(read_header(data), data, verbose=False)
    assert not {"general.name", "tokenizer.chat_template"} & set(shown)
    assert shown["general.parameter_count"] == sum(math.prod(spec.shape) for spec in llama_tensors())
    assert shown["llama.attention.layer_norm_rms_epsilon"] == 1e-5
    assert json.dumps(shown["llama.attention.layer_norm_rms_epsilon"]) == "1e-05"


def test_show_of_a_projector_removes_nothing() -> None:
    data = gguf_file({"general.name": "eye", "tokenizer.chat_template": "t"})
    shown = show_metadata(read_header(data), data, verbose=False, projector=True)
    assert shown == {"general.name": "eye", "tokenizer.chat_template": "t", "general.parameter_count": 0}


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [
        (["a", "b"], None, ["a", "b"]),
        ([0.1, 1e-6, 3.0], None, [0.1, 1e-6, 3.0]),
        ([True, False], None, [True, False]),
        ([], [], []),
        (Typed("[string]", []), [], []),
        ([math.nan, math.inf, 1.0], None, [None, None, 1.0]),
        (math.nan, None, None),
        (-math.inf, None, None),
        (Typed("f64", math.inf), None, None),
        (Typed("f64", 1 / 3), 1 / 3, 1 / 3),
    ],
)
def test_show_of_arrays_and_of_numbers_that_json_cannot_say(value: Any, short: Any, full: Any) -> None:
    data = gguf_file({"k": value})
    header = read_header(data)
    assert show_metadata(header, data, verbose=False)["k"] == short
    assert show_metadata(header, data, verbose=True)["k"] == full


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(database=None, max_examples=500)
def test_shown_f32_reads_back_as_itself_in_at_most_nine_digits(value: float) -> None:
    shown = gguf.shortest_f32(value)
    assert struct.pack("<f", shown) == struct.pack("<f", value)
    assert len(f"{shown!r}".split("e")[0].replace(".", "").strip("-0")) <= 9


@pytest.mark.parametrize("text", ["0.1", "1e-05", "1e-06", "0.3", "0.7071068", "16777216.0", "3.4028235e+38", "-0.0"])
def test_shown_f32_is_the_shortest(text: str) -> None:
    (nearest,) = struct.unpack("<f", struct.pack("<f", float(text)))
    assert repr(gguf.shortest_f32(nearest)) == text


def test_decoding_more_than_any_real_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are cheap to carry and dear to decode: a thousand of them together would fill the memory."""
    data = gguf_file({f"k{n}": [1, 2, 3] for n in range(5)})
    header = read_header(data)
    monkeypatch.setattr(gguf, "MAX_DECODED_ELEMENTS", 14)
    with pytest.raises(InvalidModelFile, match="array size 15 exceeds maximum 14"):
        show_metadata(header, data, verbose=True)
    monkeypatch.setattr(gguf, "MAX_DECODED_ELEMENTS", 15)
    monkeypatch.setattr(gguf, "MAX_DECODED_BYTES", 59)
    with pytest.raises(InvalidModelFile, match="array size of 60 bytes exceeds maximum 59"):
        show_metadata(header, data, verbose=True)


# --- stepping over strings ---


@pytest.mark.parametrize(("version", "big_endian"), LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1100])
def test_strings_of_every_length_are_stepped_over_exactly(count: int, version: int, big_endian: bool) -> None:
    """Short ones are taken in runs of 256, so counts and lengths around the borders matter; zeros look like lengths."""
    short, long = [0, 1, 5, 62, 63], [64, 255, 256, 65_536]
    texts = [b"\0" * (short[n % 5] if n % 400 else long[n // 400]) for n in range(count)]
    data = gguf_file({"a": Typed("[string]", texts), "after": 42}, version=version, big_endian=big_endian)
    header = read_header(data)
    array = header.metadata["a"]
    assert isinstance(array, Array)
    assert array.size_bytes == sum(len(text) + 8 + (version == 1) for text in texts)
    assert [text.encode() for text in read_array(data, header, array)] == texts
    assert header.metadata["after"] == 42


@pytest.mark.parametrize("position", [0, 100, 255, 256, 511, 599])
@pytest.mark.parametrize("length", [1 << 40, (1 << 56) + 3, 0x0100_0000_0000_0003, (16 << 20) + 1])
def test_a_hostile_length_is_found_wherever_it_stands(position: int, length: int) -> None:
    """Its low byte looks like that of a short text; the high bytes must be looked at too."""
    texts = [struct.pack("<Q", 3) + b"abc" for _ in range(600)]
    texts[position] = struct.pack("<Q", length) + b"abc"
    payload = struct.pack("<IQ", KIND_IDS["string"], 600) + b"".join(texts)
    assert f"string length {length} exceeds maximum" in refusal(gguf_file({"a": Raw(9, payload)})).reason


@pytest.mark.parametrize("missing", range(1, 30, 7))
def test_strings_that_end_after_the_file_are_found(missing: int) -> None:
    whole = gguf_file({"a": ["abc"] * 512})
    assert refusal(whole[:-missing]).reason == "unexpected end of file"


# --- what is refused ---


def array_of(type_id: int, count: int, payload: bytes = b"") -> Raw:
    return Raw(9, struct.pack("<IQ", type_id, count) + payload)


def tensors(*specs: TensorSpec, **layout: Any) -> bytes:
    return gguf_file({"general.architecture": "test"}, specs, **layout)


def huge(name: str, *shape: int, offset: int = 0, type_id: int = 24) -> TensorSpec:
    """A tensor (of I8, unless said otherwise) that claims a shape and brings no data."""
    return TensorSpec(name, shape, type_id, offset=offset, data=b"")


MALFORMED = {
    "no file": (b"", "invalid file magic"),
    "3 bytes": (b"GGU", "invalid file magic"),
    "ggml": (b"lmgg" + bytes(20), "invalid file magic"),
    "FUGG, the reference's own marker": (b"FUGG" + bytes(20), "invalid file magic"),
    "version 0": (gguf_file(version=0), "unsupported GGUF version: 0"),
    "version 4": (gguf_file(version=4), "unsupported GGUF version: 4"),
    "version 4, big-endian": (gguf_file(version=4, big_endian=True), "unsupported GGUF version: 4"),
    "string length": (
        gguf_file({"k": Raw(8, struct.pack("<Q", 16 * MIB + 1))}),
        "string length 16777217 exceeds maximum",
    ),
    "string beyond the file": (gguf_file({"k": Raw(8, struct.pack("<Q", 9))}), "unexpected end of file"),
    "key length": (gguf_file({"k" * 1025: 1}), "string length 1025 exceeds maximum 1024"),
    "array size": (gguf_file({"k": array_of(0, 64 * MIB + 1)}), "array size 67108865 exceeds maximum"),
    "array beyond the file": (gguf_file({"k": array_of(10, 3, bytes(23))}), "unexpected end of file"),
    "strings beyond the file": (gguf_file({"k": array_of(8, 3, bytes(23))}), "unexpected end of file"),
    "v1 empty string": (gguf_file({"k": Raw(8, bytes(8))}, version=1), "invalid GGUF v1 string length: 0"),
    "v1 string without NUL": (
        gguf_file({"k": Raw(8, struct.pack("<Q", 2) + b"ab")}, version=1),
        "invalid GGUF v1 string terminator",
    ),
    "v1 array of such": (
        gguf_file({"k": array_of(8, 1, struct.pack("<Q", 2) + b"ab")}, version=1),
        "invalid GGUF v1 string terminator",
    ),
    "unknown type": (gguf_file({"k": Raw(13, b"")}), "invalid type: 13"),
    "unknown array type": (gguf_file({"k": array_of(13, 1)}), "invalid array type: 13"),
    "nested array": (gguf_file({"k": array_of(9, 1)}), "invalid array type: 9"),
    "duplicate key": (gguf_file([("k", 1), ("k", 2)]), 'duplicate key "k"'),
    "too many keys": (gguf_file(n_pairs=65_537), "metadata count 65537 exceeds maximum 65536"),
    "more keys than bytes": (gguf_file({"k": 1}, n_pairs=3), "unexpected end of file"),
    "too many tensors": (gguf_file(n_tensors=200_001), "tensor count 200001 exceeds maximum 200000"),
    "more tensors than bytes": (gguf_file(n_tensors=1), "unexpected end of file"),
    "dimensions": (tensors(huge("t", 1, 1, 1, 1, 1)), "dimensions 5 exceeds maximum 4"),
    "dimension 0": (tensors(huge("t", 4, 0)), "has a dimension of 0"),
    "elements": (tensors(huge("t", 1 << 32, 1 << 31)), "elements overflow"),
    "parameter total": (tensors(huge("a", 1 << 31, 1 << 31), huge("b", 1 << 31, 1 << 31)), "parameter count overflow"),
    "sum of offset and size": (tensors(huge("t", 64, offset=(1 << 63) - 32)), "offset+size overflows"),
    "size in bytes": (tensors(huge("t", 1 << 31, 1 << 31, type_id=0)), "offset+size overflows"),
    "row and block": (tensors(huge("t", 33, 32, type_id=8)), "size overflow"),
    "unknown tensor type": (tensors(huge("t", 32, type_id=99)), "size overflow"),
    "removed tensor type": (tensors(huge("t", 32, type_id=4)), "size overflow"),
    "tensor past the end": (tensors(TensorSpec("t", (8,)))[:-1], "offset+size (160) exceeds file size (159)"),
    "tensor name length": (tensors(TensorSpec("t" * 1025, (8,))), "string length 1025 exceeds maximum 1024"),
    "duplicate tensor": (tensors(TensorSpec("t", (8,)), TensorSpec("t", (8,))), 'duplicate tensor "t"'),
    "alignment 0": (gguf_file({"general.alignment": 0}), "invalid GGUF alignment: 0"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_cheaply(case: str) -> None:
    """S-90."""
    data, reason = MALFORMED[case]
    with at_most(mib=1, seconds=0.5):
        error = refusal(data)
    assert reason in error.reason
    assert error.status == 400


@pytest.mark.parametrize("n_bytes", [0, 4, 8, 23])
def test_a_few_bytes_of_a_file(n_bytes: int) -> None:
    """partly X-21: the statuses of create and show belong to them."""
    assert refusal(TINY[:n_bytes]).reason in ("invalid file magic", "unexpected end of file")


def test_a_file_cut_anywhere_is_refused() -> None:
    data = gguf_file(
        {"general.architecture": "t", "t.list": ["a", "b"], "t.n": [1, 2]}, [TensorSpec("w", (8, 2), "F16")]
    )
    for n_bytes in range(len(data)):
        refusal(data[:n_bytes])


@pytest.mark.parametrize(
    "specs",
    [
        pytest.param([TensorSpec("t", (8,), offset=64)], id="past the end"),
        pytest.param([TensorSpec("a", (16,)), TensorSpec("b", (8,), offset=32)], id="overlap"),
        pytest.param([TensorSpec("b", (8,), offset=0), TensorSpec("a", (16,), offset=0)], id="same place"),
        pytest.param([TensorSpec("a", (8,), offset=32), TensorSpec("b", (32,), offset=0)], id="overlap backwards"),
        pytest.param([TensorSpec("a", (16,)), TensorSpec("b", (4,), offset=16)], id="misaligned"),
        pytest.param([TensorSpec("t", (8,), offset=(1 << 64) - 32)], id="negative offset as unsigned"),
        pytest.param([huge("t", (1 << 64) - 8)], id="negative size as unsigned"),
    ],
)
def test_tensors_outside_their_place(specs: list[TensorSpec]) -> None:
    """X-24."""
    assert refusal(tensors(*specs)).status == 400


@pytest.mark.parametrize(
    "value", [0, 1, 3, 4, 48, 1 << 17, 1 << 31, Typed("i32", -32), True, "32", 32.0, [32]], ids=repr
)
def test_alignment_must_be_a_power_of_two_that_makes_sense(value: Any) -> None:
    """X-27."""
    error = refusal(gguf_file({"general.alignment": value}))
    assert "invalid GGUF alignment" in error.reason
    assert error.status == 400


LENGTHS = [1 << 31, 1 << 62, (1 << 64) - 1]


def hostile_counts() -> Iterator[Any]:
    for n in LENGTHS:
        length = struct.pack("<Q", n)
        for version in (1, 2, 3):
            yield pytest.param(gguf_file({"k": Raw(8, length + b"x")}, version=version), id=f"string {n} v{version}")
            strings = array_of(8, 1, length + b"x")
            yield pytest.param(gguf_file({"k": strings}, version=version), id=f"string in array {n} v{version}")
            for kind in ("u8", "u64", "string"):
                array = array_of(KIND_IDS[kind], n, bytes(64))
                yield pytest.param(gguf_file({"k": array}, version=version), id=f"array of {kind} {n} v{version}")
            claim = min(n, (1 << 32) - 1) if version == 1 else n
            yield pytest.param(gguf_file({"k": 1}, version=version, n_pairs=claim), id=f"keys {n} v{version}")
            yield pytest.param(gguf_file({"k": 1}, version=version, n_tensors=claim), id=f"tensors {n} v{version}")
        yield pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + length + b"k", id=f"key {n}")


@pytest.mark.parametrize("data", list(hostile_counts()))
def test_declared_lengths_cost_nothing(data: bytes) -> None:
    """X-26."""
    with at_most(mib=1, seconds=0.5):
        assert refusal(data).status == 400


def test_the_most_tensors_and_keys_a_file_may_claim_cost_little_when_they_are_not_there() -> None:
    data = gguf_file(n_pairs=65_536, n_tensors=200_000) + bytes(200_000 * 24)
    with at_most(mib=1, seconds=1):
        refusal(data)


@pytest.mark.parametrize(
    ("limit", "value", "metadata"),
    [
        ("MAX_TEXT_BYTES", 99, {"a": "x" * 48, "b": "y" * 50}),
        ("MAX_ARRAY_STRINGS", 5, {"a": ["x"] * 3, "b": ["y"] * 3}),
        ("MAX_LAYER_VALUES", 5, {"a": [1] * 3, "b": [True] * 3}),
    ],
)
def test_many_small_things_together_are_bounded_too(
    limit: str, value: int, metadata: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gguf_file(metadata)
    monkeypatch.setattr(gguf, limit, value)
    assert f"exceeds maximum {value}" in refusal(data).reason
    monkeypatch.setattr(gguf, limit, value + 1)
    assert read_header(data)


def test_a_hostile_name_is_short_and_printable_in_the_error() -> None:
    reason = refusal(tensors(TensorSpec("\n\x1b[31m" + "x" * 1000, (33,), 8, data=b""))).reason
    assert reason.isprintable()
    assert len(reason) < 160


# --- the buffer ---


def test_a_map_can_be_closed_after_success_and_after_failure(tmp_path: Path) -> None:
    """An exported pointer kept by a traceback would make `close` fail."""
    for data in (TINY, TINY[:3000], gguf_file({"k": ["a" * 20] * 300})[:-3]):
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        with path.open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        error = None
        try:
            header = read_header(buffer)
            check_model(header, buffer)
            show_metadata(header, buffer, verbose=True)
        except InvalidModelFile as caught:
            error = caught
        buffer.close()
        assert (error is None) == (data == TINY)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    buffer = kind(TINY)
    header = read_header(buffer)
    check_model(header, buffer)
    assert header == read_header(TINY)


def test_the_beginning_of_a_file_is_enough_when_its_size_is_known() -> None:
    whole = read_header(TINY)
    assert read_header(TINY[: whole.data_offset], size_bytes=len(TINY)) == whole
    with pytest.raises(InvalidModelFile, match="exceeds file size"):
        read_header(TINY[: whole.data_offset])
    with pytest.raises(InvalidModelFile, match="unexpected end of file"):
        read_header(TINY[: whole.data_offset // 2], size_bytes=len(TINY))


# --- the full check ---


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


# --- anything at all ---

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
SCALARS = st.booleans() | NUMBERS | st.floats(width=32, allow_nan=False) | st.text(max_size=20)
ARRAYS = st.lists(st.integers(0, (1 << 32) - 1), max_size=20) | st.lists(st.text(max_size=100), max_size=600)


@given(st.dictionaries(st.text(max_size=12), SCALARS | ARRAYS, max_size=8), st.booleans(), st.sampled_from([1, 2, 3]))
@settings(database=None, deadline=None, max_examples=60)
def test_whatever_was_written_is_read(metadata: dict[str, Any], big_endian: bool, version: int) -> None:
    data = gguf_file(metadata, [TensorSpec("w", (4, 2))], version=version, big_endian=big_endian)
    header = read_header(data)
    read = {k: read_array(data, header, v) if isinstance(v, Array) else v for k, v in header.metadata.items()}
    nearest = {k: struct.unpack("<f", struct.pack("<f", v))[0] if isinstance(v, float) else v for k, v in read.items()}
    assert list(nearest.items()) == list(metadata.items())
    assert header.tensors[0].shape == (4, 2)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four small injuries to a header: bytes, numbers of awkward size, pieces cut out or repeated."""
    numbers = [0, 1, 31, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 62, 1 << 63, (1 << 64) - 1]
    hurt = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(4, len(hurt)), chance.randint(1, 24)
        match chance.randrange(6):
            case 0 | 1:
                hurt[at] = chance.randrange(256)
            case 2:
                hurt[at : at + 8] = struct.pack("<Q", chance.choice(numbers))
            case 3:
                hurt[at : at + 4] = struct.pack("<I", chance.choice(numbers) & 0xFFFF_FFFF)
            case 4:
                del hurt[at : at + length]
            case _:
                hurt[at:at] = hurt[at : at + length]
        if len(hurt) < 8:
            break
    return bytes(hurt)


def test_ten_thousand_injured_files_give_only_clean_errors() -> None:
    """X-30."""
    words = [f"t{n}" for n in range(20)]
    vocabulary = {
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [1] * 20,
        "tokenizer.ggml.scores": [0.5] * 20,
    }
    changes = {**vocabulary, "llama.attention.head_count_kv": [2], "general.alignment": 32}
    layouts: list[dict[str, Any]] = [{}, {"version": 2}, {"version": 1}, {"big_endian": True}]
    specs = [TensorSpec("a", (8, 2)), TensorSpec("b", (32, 2), "Q8_0")]
    whole = [gguf_file(llama_metadata(changes), specs, **layout) for layout in layouts]
    chance = random.Random(20_260_101)
    outcomes = {"read": 0, "refused": 0}
    for n in range(10_000):
        data = mutate(whole[n % len(whole)], chance)
        try:
            header = read_header(data)
            json.dumps(show_metadata(header, data, verbose=True), allow_nan=False)
            check_model(header, data)
        except InvalidModelFile:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert min(outcomes.values()) > 500


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

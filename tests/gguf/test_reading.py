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

from llamero.errors import InvalidModelFile
from llamero.gguf import Array, check_model, human_count, read_array, read_header, reading, show_metadata
from tests.gguf.hostile import MIB, TINY, array_of, refusal
from tests.gguf_files import KIND_IDS, Raw, TensorSpec, Typed, gguf_file, llama_metadata, llama_tensors

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


def one_value(value: Any, **layout: Any) -> Any:
    return read_header(gguf_file({"k": value}, **layout)).metadata["k"]


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
    monkeypatch.setattr(reading, limit, value)
    assert f"exceeds maximum {value}" in refusal(data).reason
    monkeypatch.setattr(reading, limit, value + 1)
    assert read_header(data)


def test_a_hostile_name_is_short_and_printable_in_the_error() -> None:
    reason = refusal(tensors(TensorSpec("\n\x1b[31m" + "x" * 1000, (33,), 8, data=b""))).reason
    assert reason.isprintable()
    assert len(reason) < 160


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

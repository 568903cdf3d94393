"""The safetensors header is believed only after every claim of it was checked."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero.build.convert.safetensors import MAX_HEADER_BYTES, read_safetensors
from llamero.errors import BadRequest, InvalidModelFile
from tests.build.convert.tiny_bert import pack, pack_raw, to_bfloat16


@pytest.fixture
def file(tmp_path: Path):
    def write(content: bytes) -> Path:
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        return path

    return write


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes


def test_tensors_are_read_with_their_shapes_and_values(file) -> None:
    values = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b.weight": np.array([0.5], "f4")}
    found = read_safetensors(file(pack(values)))
    assert list(found) == ["a", "b.weight"]
    for name, expected in values.items():
        np.testing.assert_array_equal(found[name].bits(), expected)


def test_files_of_the_formats_own_library_are_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="needs the extra `build`")
    values = {"x": np.arange(5, dtype="f2"), "y": np.ones((3, 1, 2), "f4"), "scalar": np.array(7, "f4")}
    library.save_file(values, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "model.safetensors")
    assert found.keys() == values.keys()
    for name, expected in values.items():
        np.testing.assert_array_equal(found[name].bits(), expected)


def test_bfloat16_is_given_as_its_bits(file) -> None:
    values = np.array([[1.0, -2.5]], "f4")
    found = read_safetensors(file(pack({"x": values}, "BF16")))["x"]
    assert (found.bits().dtype, found.bits().tobytes()) == (np.dtype("<u2"), to_bfloat16(values))


def test_a_type_without_a_conversion_may_lie_in_the_file_but_not_be_read(file) -> None:
    found = read_safetensors(file(pack_raw({"x": entry(dtype="F64", shape=[2])}, bytes(16))))["x"]
    with pytest.raises(BadRequest, match="unknown data type: F64"):
        found.bits()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "header is cut short", id="empty"),
        pytest.param(b"\x10\0\0\0", "header is cut short", id="half a length"),
        pytest.param(struct.pack("<Q", 100) + b"{}", "header is cut short", id="header beyond the file"),
        pytest.param(struct.pack("<Q", MAX_HEADER_BYTES + 1), "exceeds maximum", id="header beyond the limit"),
        pytest.param(struct.pack("<Q", (1 << 64) - 1) + b"{}", "exceeds maximum", id="largest header length"),
        pytest.param(pack_raw(b"\xff\xfe", b""), "not JSON", id="not UTF-8"),
        pytest.param(pack_raw(b"{", b""), "not JSON", id="not JSON"),
        pytest.param(pack_raw(b"[" * 100_000, b""), "not JSON", id="nesting bomb"),
        pytest.param(pack_raw([], b""), "not an object", id="a list"),
        pytest.param(pack_raw(b'{"x":{},"x":{}}', b""), "duplicate name", id="one name twice"),
        pytest.param(pack_raw({"x": 1}, b""), "'x' has no description", id="entry is a number"),
        pytest.param(pack_raw({"x" * 300: entry()}, bytes(16)), "name of 300 characters", id="long name"),
        pytest.param(pack_raw({"x": {}}, b""), "unknown data type: None", id="no type"),
        pytest.param(pack_raw({"x": entry(dtype="F128")}, bytes(16)), "unknown data type: F128", id="unknown type"),
        pytest.param(pack_raw({"x": entry(dtype=["F32"])}, bytes(16)), "unknown data type", id="type is a list"),
        pytest.param(pack_raw({"x": entry(shape="22")}, bytes(16)), "invalid shape", id="shape is text"),
        pytest.param(pack_raw({"x": entry(shape=[-2, -2])}, bytes(16)), "invalid shape", id="negative dims"),
        pytest.param(pack_raw({"x": entry(shape=[2.0, 2])}, bytes(16)), "invalid shape", id="fractional dims"),
        pytest.param(pack_raw({"x": entry(shape=[True, 4])}, bytes(16)), "invalid shape", id="truth as a dim"),
        pytest.param(pack_raw({"x": entry(shape=[1] * 9)}, bytes(16)), "invalid shape", id="nine dims"),
        pytest.param(pack_raw({"x": entry(shape=[2, 3])}, bytes(16)), "16 bytes, which its shape", id="shape too big"),
        pytest.param(
            pack_raw({"x": entry(shape=[1 << 62, 4])}, bytes(16)), "16 bytes, which", id="a product beyond 64 bits"
        ),
        pytest.param(pack_raw({"x": entry(data_offsets=[0])}, bytes(16)), "invalid offsets", id="one offset"),
        pytest.param(pack_raw({"x": entry(data_offsets=[-16, 0])}, bytes(16)), "invalid offsets", id="negative offset"),
        pytest.param(pack_raw({"x": entry(data_offsets=[16, 0])}, bytes(16)), "-16 bytes, which", id="end first"),
        pytest.param(
            pack_raw({"x": entry(data_offsets=[1 << 63, (1 << 63) + 16])}, bytes(16)), "leaves a hole", id="far away"
        ),
        pytest.param(pack_raw({"x": entry()}, bytes(15)), "tensors end at byte", id="data cut short"),
        pytest.param(pack_raw({"x": entry()}, bytes(17)), "tensors end at byte", id="data left over"),
        pytest.param(pack_raw({"x": entry(), "y": entry()}, bytes(16)), "overlaps", id="two tensors in one place"),
        pytest.param(
            pack_raw({"x": entry(), "y": entry(data_offsets=[12, 28])}, bytes(28)), "overlaps", id="partial overlap"
        ),
        pytest.param(
            pack_raw({"x": entry(), "y": entry(data_offsets=[20, 36])}, bytes(36)), "leaves a hole", id="hole"
        ),
    ],
)
def test_a_header_that_lies_is_refused(file, content: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_safetensors(file(content))


def test_something_that_is_no_regular_file_is_not_even_opened(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    pipe = tmp_path / "model.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(InvalidModelFile):
        read_safetensors(pipe)

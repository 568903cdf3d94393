"""Types of tensors, levels of quantization, and how an f32 is told (store-registry §7)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.gguf import read_header
from llamero.gguf.kinds import shortest_f32
from tests.gguf_files import TensorSpec, gguf_file

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


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(database=None, max_examples=500)
def test_shown_f32_reads_back_as_itself_in_at_most_nine_digits(value: float) -> None:
    shown = shortest_f32(value)
    assert struct.pack("<f", shown) == struct.pack("<f", value)
    assert len(f"{shown!r}".split("e")[0].replace(".", "").strip("-0")) <= 9


@pytest.mark.parametrize("text", ["0.1", "1e-05", "1e-06", "0.3", "0.7071068", "16777216.0", "3.4028235e+38", "-0.0"])
def test_shown_f32_is_the_shortest(text: str) -> None:
    (nearest,) = struct.unpack("<f", struct.pack("<f", float(text)))
    assert repr(shortest_f32(nearest)) == text

"""Kinds of values, types of tensors and levels of quantization, as numbers in the file and as names."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import NamedTuple

KINDS: Mapping[int, str] = dict(enumerate("u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64".split()))
CODES: Mapping[str, str] = dict(
    zip("u8 i8 u16 i16 u32 i32 u64 i64 bool f32 f64".split(), "B b H h I i Q q ? f d".split(), strict=True)
)
"""The `struct` code of each kind of fixed width."""
INTEGER_KINDS = frozenset("u8 i8 u16 i16 u32 i32 u64 i64".split())


class TensorType(NamedTuple):
    name: str
    block_elements: int
    block_bytes: int


TENSOR_TYPES: Mapping[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),  # these two the reference knows by name only, and refuses
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}

FILE_TYPES: Mapping[int, str] = {
    **dict(enumerate("F32 F16 Q4_0 Q4_1".split())),
    **dict(enumerate("Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K".split(), start=7)),
    **dict(enumerate("IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M".split(), start=19)),
    **dict(enumerate("IQ4_XS IQ1_M BF16".split(), start=30)),
    **dict(enumerate("TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0".split(), start=36)),
}
"""The quantization level that `general.file_type` stands for."""


def shortest_f32(value: float) -> float:
    """The shortest decimal that reads back as the same f32: 1e-05, where Python would print 9.999999747378752e-06."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 9):  # every decimal of six digits survives in an f32; nine digits tell any two f32 apart
        candidate = float(f"{value:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", candidate))[0] == value:
            return candidate
    return float(f"{value:.9g}")

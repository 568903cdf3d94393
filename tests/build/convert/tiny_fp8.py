"""Checkpoints of 8-bit floats with a scale for each block, written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tests.build.convert.tiny_bert import pack_raw

LARGEST = 448.0
"""Of the format: 4 bits of exponent, 3 of fraction, no infinities."""


def codes() -> np.ndarray:
    """The positive numbers of the format in the order of their codes."""
    small = [fraction / 8 * 2**-6 for fraction in range(8)]
    rest = [(1 + fraction / 8) * 2.0 ** (exponent - 7) for exponent in range(1, 16) for fraction in range(8)]
    return np.array([*small, *rest][:-1])


def quantized(
    values: np.ndarray, block: tuple[int, int], *, even: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes of a matrix, its scales, and the values that both stand for; vectors stay as they are.

    `even` scales are powers of two, so that BF16 can hold the values.
    """
    if values.ndim != 2:
        return values, np.zeros(0), values
    rows, columns = values.shape
    height, width = min(block[0], rows), min(block[1], columns)
    grid = (math.ceil(rows / height), math.ceil(columns / width))
    scales = np.zeros(grid, "f4")
    for row in range(grid[0]):
        for column in range(grid[1]):
            part = values[row * height : (row + 1) * height, column * width : (column + 1) * width]
            scale = np.abs(part).max() / LARGEST
            scales[row, column] = 2.0 ** math.ceil(math.log2(scale)) if even else scale
    spread = np.repeat(np.repeat(scales, height, 0), width, 1)[:rows, :columns]
    magnitudes = np.abs(values) / spread
    nearest = np.abs(magnitudes[..., None] - codes()).argmin(-1)
    sign = values < 0
    return (nearest + 128 * sign).astype("u1"), scales, (np.where(sign, -1, 1) * codes()[nearest] * spread).astype("f4")


def pack_fp8(
    tensors: Mapping[str, np.ndarray],
    *,
    block: tuple[int, int],
    suffix: str = "_scale_inv",
    without_scale: str = "",
    even: bool = False,
) -> bytes:
    """A safetensors file with every matrix as codes and scales."""
    header, data = {}, b""

    def add(name: str, dtype: str, values: np.ndarray) -> None:
        nonlocal data
        content = values.tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
        data += content

    for name, values in tensors.items():
        values_or_codes, scales, _ = quantized(values, block, even=even)
        add(name, "F8_E4M3" if scales.size else "F32", values_or_codes)
        if scales.size and name != without_scale:
            add(name + suffix, "F32", scales)
    return pack_raw(header, data)

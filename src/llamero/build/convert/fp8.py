"""Matrices of 8-bit floats with their scales, read as the BF16 matrices they stand for (store-registry §6.8, S-84).

A scale belongs to a block of rows and columns, to a row, or to the whole matrix; each value is multiplied by its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import BadRequest
from .safetensors import Array, Source

_FP8 = "F8_E4M3"
_SCALES = ("{}_scale_inv", "{}_scale", "{}.scale_inv", "{}.scale")
"""How publishers name the companion of a tensor. All of them multiply, whatever `inv` once meant."""
_OF_ACTIVATIONS = (".input_scale", ".k_scale", ".v_scale")
"""What other engines quantize while they compute."""

MAX_BLOCK = 1 << 16
"""Published blocks have 128 rows and columns."""


@dataclass(frozen=True, slots=True)
class ScaledTensor:
    """`values`, each times the scale of its block of `block` rows and columns."""

    values: Source
    scales: Source
    block: tuple[int, int]

    @property
    def dtype(self) -> str:
        return "BF16"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def bits(self, start: int = 0, stop: int | None = None) -> Array:
        rows, columns = self.shape
        start, stop, _ = slice(start, stop).indices(rows)
        grid = widened(self.scales).reshape(math.ceil(rows / self.block[0]), -1)
        of_rows = grid[np.arange(start, stop) // self.block[0]]
        scales = np.repeat(of_rows, self.block[1], axis=1)[:, :columns]
        return _bfloat16(_MEANING[self.values.bits(start, stop)] * scales)


def scaled(tensors: Mapping[str, Source], description: Mapping[str, Any]) -> dict[str, Source]:
    """`tensors` with every matrix of 8-bit floats joined with its scale; other tensors stay as they are.

    `description` is the config's `quantization_config`. Raises BadRequest naming a tensor whose scale is missing or
    does not fit.
    """
    names = [name for name, tensor in tensors.items() if tensor.dtype == _FP8]
    if not names:
        return dict(tensors)
    rest = {name: tensor for name, tensor in tensors.items() if not name.endswith(_OF_ACTIVATIONS)}
    block = _block(description)
    for name in names:
        scale_name = next((pattern.format(name) for pattern in _SCALES if pattern.format(name) in rest), None)
        if scale_name is None:
            raise BadRequest(f"tensor {name!r} has 8-bit values, and its scale is missing")
        scales = rest.pop(scale_name)
        rest[name] = ScaledTensor(rest[name], scales, _fitting(name, rest[name].shape, scales.shape, block))
    return rest


def _block(description: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns that share a scale, as the two common descriptions have it; None when they name none."""
    found = description.get("weight_block_size")
    groups = description.get("config_groups")
    if isinstance(groups, dict) and groups:
        weights = next(iter(groups.values()), None)
        weights = weights.get("weights") if isinstance(weights, dict) else None
        found = weights.get("block_structure") if isinstance(weights, dict) else None
    if found is None:
        return None
    if isinstance(found, list) and len(found) == 2 and all(type(n) is int and 0 < n <= MAX_BLOCK for n in found):
        return found[0], found[1]
    raise BadRequest(f"config.json: the block size of the quantization must be two integers from 1 to {MAX_BLOCK}")


def _fitting(
    name: str, shape: tuple[int, ...], scales: tuple[int, ...], block: tuple[int, int] | None
) -> tuple[int, int]:
    if len(shape) != 2:
        raise BadRequest(f"tensor {name!r} has 8-bit values and {len(shape)} dimensions, only 2 are supported")
    rows, columns = shape
    if math.prod(scales) == 1:
        return shape[0], shape[1]
    if scales in ((rows,), (rows, 1)):
        return 1, columns
    if block is not None and scales == (math.ceil(rows / block[0]), math.ceil(columns / block[1])):
        return block
    raise BadRequest(f"tensor {name!r} of shape {list(shape)} does not fit its scale of shape {list(scales)}")


def widened(tensor: Source) -> Array:
    """The values of a small tensor as float32."""
    values = tensor.bits()
    wide: Array = (values.astype("<u4") << 16).view("<f4") if tensor.dtype == "BF16" else values.astype("<f4")
    return wide


def _meaning() -> Array:
    """What each of the 256 codes stands for: a sign, 4 bits of exponent (bias 7), 3 of fraction; no infinities."""
    code = np.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0 ** (exponent - 10.0))
    size[code & 127 == 127] = np.nan
    return np.where(code < 128, size, -size).astype("<f4")


_MEANING = _meaning()


def _bfloat16(values: Array) -> Array:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    bits = values.view("<u4")
    rounded: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded

"""Writes a GGUF file tensor by tensor: a thin order-keeping layer over the `gguf` package.

Source of the order: store-registry §6.8, row `writer`. Equal input gives equal bytes, hence an equal digest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFEndian, GGUFValueType, GGUFWriter

from ...errors import BadRequest
from .family import Metadata, Tensor, Value

_PREFIXES = ("general.", "adapter.", "tokenizer.")
_BLOCK = re.compile(r"blk\.(\d+)\.")
_ITEM: dict[Type, np.dtype[Any]] = {Type.F32: np.dtype("<f4"), Type.F16: np.dtype("<f2"), Type.BF16: np.dtype("<u2")}


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Metadata,
    tensors: Iterable[Tensor],
    report: Callable[[int, int], None] = lambda completed, total: None,
) -> None:
    """Write a whole file; `report(completed, total)` counts bytes of tensor data.

    At most one tensor is in memory. Raises BadRequest when two tensors share a name, OSError when the disk refuses.
    """
    planned = _in_order(tensors)
    writer = GGUFWriter(path, architecture)
    if isinstance(alignment := metadata.get("general.alignment"), int):
        writer.data_alignment = alignment
    for key, value in metadata.items():
        full = key if key.startswith((*_PREFIXES, f"{architecture}.")) else f"{architecture}.{key}"
        writer.add_key_value(full, value, _value_type(value))
    writer.kv_data[0] = dict(sorted(writer.kv_data[0].items()))
    for tensor in planned:
        writer.add_tensor_info(
            tensor.name, tensor.shape, _ITEM[tensor.type], _size_bytes(tensor), raw_dtype=tensor.type
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_values(writer, planned, report)
    finally:
        writer.close()


def _write_values(writer: GGUFWriter, planned: list[Tensor], report: Callable[[int, int], None]) -> None:
    total = sum(map(_size_bytes, planned))
    completed = 0
    for tensor in planned:
        values = tensor.load()
        # the header is written already: a tensor of another size would shift all that follow it
        assert values.shape == tensor.shape, tensor.name
        assert values.dtype == _ITEM[tensor.type], tensor.name
        writer.write_tensor_data(values, tensor_endianess=GGUFEndian.LITTLE)
        completed += values.nbytes
        report(completed, total)


def _in_order(tensors: Iterable[Tensor]) -> list[Tensor]:
    """By block number, what belongs to no block last, then by name."""
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in found:
            raise BadRequest(f"duplicate tensor name {tensor.name!r} was found for this model")
        found[tensor.name] = tensor
    return sorted(found.values(), key=lambda tensor: (_block_number(tensor.name), tensor.name))


def _block_number(name: str) -> float:
    match = _BLOCK.match(name)
    return int(match[1]) if match else math.inf


def _size_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * _ITEM[tensor.type].itemsize


def _value_type(value: Value) -> GGUFValueType:
    """Counts are unsigned, as the engine reads them; the items of a list follow the package's own rule."""
    match value:
        case bool():
            return GGUFValueType.BOOL
        case int():
            return GGUFValueType.UINT32
        case float():
            return GGUFValueType.FLOAT32
        case str():
            return GGUFValueType.STRING
        case list():
            return GGUFValueType.ARRAY

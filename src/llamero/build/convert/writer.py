"""Writes a GGUF file tensor by tensor: a thin order-keeping layer over the `gguf` package.

Source of the order: store-registry §6.8, row `writer`. Equal input gives equal bytes, hence an equal digest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGUFValueType, GGUFWriter

from ...errors import BadRequest
from .family import NUMPY_TYPES, Metadata, Tensor, Value
from .safetensors import Array

_PREFIXES = ("general.", "adapter.", "tokenizer.")
_BLOCK = re.compile(r"blk\.(\d+)\.")


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Metadata,
    tensors: Iterable[Tensor],
    report: Callable[[int, int], None] = lambda completed, total: None,
) -> None:
    """Write a whole file; `report(completed, total)` counts bytes of tensor data.

    At most one block of a tensor is in memory. Raises BadRequest when two tensors share a name, OSError when the disk
    refuses.
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
            tensor.name, tensor.shape, NUMPY_TYPES[tensor.type], tensor.size_bytes, raw_dtype=tensor.type
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_values(writer, planned, report)
    finally:
        writer.close()


def _write_values(writer: GGUFWriter, planned: list[Tensor], report: Callable[[int, int], None]) -> None:
    total = sum(tensor.size_bytes for tensor in planned)
    completed = 0
    assert writer.fout is not None
    (file,) = writer.fout
    for tensor in planned:
        writer.write_padding(file, file.tell())
        written = 0
        # through `map`, so that no name holds on to a block while the next one is made
        for size_bytes in map(partial(_write_block, file, tensor), tensor.blocks()):
            written += size_bytes
            report(completed + written, total)
        # the header is written already: a tensor of another size would shift all that follow it
        assert written == tensor.size_bytes, tensor.name
        completed += written
        writer.write_padding(file, written)


def _write_block(file: BinaryIO, tensor: Tensor, block: Array) -> int:
    assert block.dtype == NUMPY_TYPES[tensor.type], tensor.name
    return file.write(np.ascontiguousarray(block).data)


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
        case list() | bytes():
            return GGUFValueType.ARRAY

"""A model stored as tensors, one safetensors file each: what their headers and its `config.json` tell.

It reads no values and runs nothing. Source: store-registry §2.2, §6.8 (last paragraph), §7.5.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidModelFile
from . import files
from .blobs import Blobs
from .manifests import JSON, TENSOR, Layer, Manifest

MAX_HEADER_BYTES = 1 << 20
"""Of one file. A tensor has some 100 bytes of header; a packed group of a thousand experts some hundred thousand."""
MAX_CONFIG_BYTES = 4 << 20
MAX_DIMENSIONS = 8

_COUNTS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
}
"""The hub's words in `config.json`, and those of GGUF files."""

_LEVEL_BITS = {"int4": 4, "nvfp4": 4, "mxfp4": 4, "int8": 8, "mxfp8": 8}
"""Bits of a value in a quantized tensor, which are packed into 32-bit words."""
_WORD_BITS = 32
_COMPANIONS = (".scale", ".bias")
"""What belongs to a quantized tensor beside its values."""


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    type: str
    """In capitals: `BF16`, or the level of a quantized one, `INT4`."""
    shape: tuple[int, ...]
    """The slowest dimension first, as before it was packed."""


@dataclass(frozen=True, slots=True)
class TensorModel:
    tensors: tuple[Tensor, ...]
    architecture: str
    counts: Mapping[str, int]
    """By the words of GGUF files, without the architecture in front."""

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def level(self) -> str:
        """The type that most of the parameters have; empty when there are none."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + math.prod(tensor.shape)
        return max(sizes, key=sizes.__getitem__, default="")


def read(manifest: Manifest, blobs: Blobs) -> TensorModel:
    """Raises BlobNotFound, and InvalidModelFile with status 500: the files are stored, the client did nothing wrong."""
    try:
        config = _config(manifest, blobs)
        tensors = tuple(tensor for layer in manifest.of_type(TENSOR) for tensor in _tensors(layer, blobs))
    except InvalidModelFile as error:
        error.status = 500
        raise
    counts = {ours: value for theirs, ours in _COUNTS.items() if type(value := config.get(theirs)) is int and value > 0}
    architecture = config.get("model_type")
    return TensorModel(tensors, architecture if isinstance(architecture, str) else "", counts)


def _config(manifest: Manifest, blobs: Blobs) -> dict[str, Any]:
    """The model's `config.json`; that of a model of several kinds has the one for texts inside."""
    for layer in manifest.of_type(JSON):
        if layer.name == "config.json":
            config = _object(blobs.read(layer.digest, MAX_CONFIG_BYTES), layer)
            texts = config.get("text_config")
            return {**texts, **config} if isinstance(texts, dict) else config
    return {}


def _tensors(layer: Layer, blobs: Blobs) -> Iterator[Tensor]:
    header = _header(layer, blobs)
    about = header.pop("__metadata__", None)
    level = about.get("quant_type", "") if isinstance(about, dict) else ""
    for name, entry in header.items():
        if level and name.endswith(_COMPANIONS):
            continue
        yield _tensor(name, entry, level if isinstance(level, str) else "", layer)


def _tensor(name: str, entry: Any, level: str, layer: Layer) -> Tensor:
    kind, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise _broken(layer)
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
        raise _broken(layer)
    if level in _LEVEL_BITS and kind == "U32" and shape:
        return Tensor(name, level.upper(), (*shape[:-1], shape[-1] * (_WORD_BITS // _LEVEL_BITS[level])))
    return Tensor(name, kind.upper(), tuple(shape))


def _header(layer: Layer, blobs: Blobs) -> dict[str, Any]:
    with blobs.open(layer.digest) as file, files.translated("read blob"):
        length = file.read(8)
        size_bytes = struct.unpack("<Q", length)[0] if len(length) == 8 else MAX_HEADER_BYTES + 1
        if size_bytes > MAX_HEADER_BYTES:
            raise _broken(layer)
        return _object(file.read(size_bytes), layer)


def _object(data: bytes, layer: Layer) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _broken(layer) from None
    if not isinstance(document, dict):
        raise _broken(layer)
    return document


def _broken(layer: Layer) -> InvalidModelFile:
    what = "JSON" if layer.media_type == JSON else "tensor"
    return InvalidModelFile(f"layer {layer.digest.short} is no readable {what}")

"""Models stored as tensors, as the other program's experimental create leaves them: a safetensors file for each.

tensor_models.add(root, "m")                                 two tensors, one of them quantized, and a config.json
tensor_models.safetensors({"w": ("BF16", [2, 3])})           the bytes of one file, filled with zeros
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import model_folders as folder

ITEM_BYTES = {"BF16": 2, "F32": 4, "U32": 4, "U8": 1}
CONFIG = {
    "model_type": "qwen3",
    "max_position_embeddings": 4096,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int]]], about: Mapping[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


PLAIN = safetensors({"model.embed_tokens.weight": ("BF16", [10, 64])})
PACKED = safetensors(
    {"w": ("U32", [32, 8]), "w.scale": ("BF16", [32, 2]), "w.bias": ("BF16", [32, 2])},
    {"quant_type": "int4", "group_size": "32"},
)
"""32 rows of 64 values of four bits each."""


def add(
    root: Path,
    name: str,
    tensors: Sequence[bytes] = (PLAIN, PACKED),
    *,
    files: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Returns the manifest. `files` are the JSON layers by their names."""
    layers = [
        folder.layer(root, f"{folder.IMAGE}tensor", content) | {"name": f"tensor{number}"}
        for number, content in enumerate(tensors)
    ]
    for file, document in ({"config.json": CONFIG, "tokenizer.json": {}} if files is None else files).items():
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        layers.append(folder.layer(root, f"{folder.IMAGE}json", content) | {"name": file})
    settings = {"model_format": "safetensors", "capabilities": ["completion"], "requires": "0.14.0"} | dict(
        config or {}
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": folder.layer(root, folder.CONFIG, json.dumps(settings).encode()),
        "layers": layers,
    }
    return folder.write(root, name, json.dumps(manifest, separators=(",", ":")).encode())

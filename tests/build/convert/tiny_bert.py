"""A tiny BERT made of files, and safetensors written by hand so that tests can also write wrong ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, INNER, HEADS, BLOCKS, CONTEXT, TYPES = 8, 12, 2, 2, 16, 2
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "!", "[", "[unused0]"]

_STORED = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}


def pack(tensors: Mapping[str, Any], dtype: str = "F32") -> bytes:
    """A safetensors file. Floating values are stored as `dtype`, integers as I64."""
    header, data = {}, b""
    for name, values in tensors.items():
        kind = dtype if np.issubdtype(values.dtype, np.floating) else "I64"
        content = to_bfloat16(values) if kind == "BF16" else values.astype(_STORED[kind]).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    return pack_raw(header, data)


def pack_raw(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def to_bfloat16(values: np.ndarray) -> bytes:
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


@dataclass
class TinyBert:
    """Everything of a checkpoint; a test changes what it is about, then calls `write`."""

    config: dict[str, Any] = field(
        default_factory=lambda: {
            "architectures": ["BertModel"],
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": HEADS,
            "num_hidden_layers": BLOCKS,
            "max_position_embeddings": CONTEXT,
            "type_vocab_size": TYPES,
            "vocab_size": len(PIECES),
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
        }
    )
    files: dict[str, Any] = field(default_factory=lambda: {"vocab.txt": "\n".join(PIECES) + "\n"})
    tensors: dict[str, np.ndarray] = field(default_factory=lambda: bert_tensors())
    dtype: str = "F32"

    def write(self, folder: Path) -> Path:
        files = {"config.json": self.config, "model.safetensors": pack(self.tensors, self.dtype), **self.files}
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return folder


def bert_tensors(width: int = WIDTH, inner: int = INNER, blocks: int = BLOCKS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(PIECES), width),
        "embeddings.position_embeddings.weight": (CONTEXT, width),
        "embeddings.token_type_embeddings.weight": (TYPES, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    for block in range(blocks):
        layer = f"encoder.layer.{block}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{part}.weight"] = (width, width)
            shapes[f"{layer}.attention.{part}.bias"] = (width,)
        shapes |= {
            f"{layer}.attention.output.LayerNorm.weight": (width,),
            f"{layer}.attention.output.LayerNorm.bias": (width,),
            f"{layer}.intermediate.dense.weight": (inner, width),
            f"{layer}.intermediate.dense.bias": (inner,),
            f"{layer}.output.dense.weight": (width, inner),
            f"{layer}.output.dense.bias": (width,),
            f"{layer}.output.LayerNorm.weight": (width,),
            f"{layer}.output.LayerNorm.bias": (width,),
        }
    tensors: dict[str, np.ndarray] = {"embeddings.position_ids": np.arange(CONTEXT)[None, :]}
    return tensors | {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}

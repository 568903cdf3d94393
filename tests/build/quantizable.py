"""Models with weights that are no zeros, small and yet wide enough for every type of quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.gguf_files import TensorSpec, gguf_file, llama_metadata

WIDTH = 256
"""The number of weights in a block of the K types."""
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}


def weights(name: str, shape: Sequence[int], type: str) -> TensorSpec:
    """A tensor of random numbers, the same at each call."""
    values = np.random.default_rng(len(name)).normal(0, 0.02, math.prod(shape)).astype(np.float32)
    if type == "BF16":
        return TensorSpec(name, shape, 30, data=(values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    return TensorSpec(name, shape, type, data=values.astype(np.float16 if type == "F16" else np.float32).tobytes())


def llama(
    type: str = "F16",
    *,
    n_layers: int = 1,
    width: int = WIDTH,
    tied: bool = True,
    metadata: Mapping[str, Any] | None = None,
    more: Sequence[TensorSpec] = (),
) -> bytes:
    """A whole model of the family `llama`; without `tied`, its output matrix is not that of the embedding."""
    shapes = {
        "attn_norm": (width,),
        "attn_q": (width, width),
        "attn_k": (width, width // 2),
        "attn_v": (width, width // 2),
        "attn_output": (width, width),
        "ffn_norm": (width,),
        "ffn_gate": (width, 2 * width),
        "ffn_up": (width, 2 * width),
        "ffn_down": (2 * width, width),
    }
    blocks = [
        weights(f"blk.{n}.{part}.weight", shape, type if len(shape) > 1 else "F32")
        for n in range(n_layers)
        for part, shape in shapes.items()
    ]
    ends = [weights("output_norm.weight", (width,), "F32")]
    if not tied:
        ends.append(weights("output.weight", (width, 260), type))
    changes = {
        "general.file_type": FILE_TYPES[type],
        "llama.block_count": n_layers,
        "llama.embedding_length": width,
        "llama.feed_forward_length": 2 * width,
        "llama.rope.dimension_count": width // 4,
    }
    tensors = [weights("token_embd.weight", (width, 260), type), *blocks, *ends, *more]
    return gguf_file(llama_metadata({**changes, **(metadata or {})}), tensors)

"""What a GGUF file says, by a reader that is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader


def metadata(path: Path) -> dict[str, Any]:
    fields = GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The values of all tensors as float32, rows first."""
    return {tensor.name: _values(tensor) for tensor in GGUFReader(path).tensors}


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


def _values(tensor: Any) -> np.ndarray:
    if tensor.tensor_type == Type.BF16:
        return (tensor.data.view("<u2").astype("<u4") << 16).view("<f4")
    return tensor.data.astype("f4")

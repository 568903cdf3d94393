"""The tiny published checkpoints of `tests/data/hf-tiny`, to be changed and written anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llamero.build.convert.safetensors import read_safetensors
from tests.build.convert.tiny_bert import pack

DATA = Path(__file__).parents[2] / "data"
NAMES = sorted(path.name for path in (DATA / "hf-tiny").iterdir())


@dataclass
class TinyDecoder:
    """Everything of a checkpoint; a test changes what it is about, then calls `write`."""

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    origin: Path
    dtype: str = "F32"
    files: dict[str, bytes] = field(default_factory=dict)
    """Further files, or others than the origin has."""

    @classmethod
    def load(cls, name: str) -> TinyDecoder:
        origin = DATA / "hf-tiny" / name
        stored = [read_safetensors(path) for path in sorted(origin.glob("*.safetensors"))]
        tensors = {name: tensor.bits() for file in stored for name, tensor in file.items()}
        return cls(json.loads((origin / "config.json").read_text()), tensors, origin)

    @property
    def reference(self) -> dict[str, Any]:
        return json.loads((self.origin / "reference.json").read_text())

    @property
    def prompt(self) -> list[int]:
        return self.reference["prompt_tokens"]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for path in self.origin.glob("tokenizer*"):
            shutil.copy(path, folder)
        files = {
            "config.json": json.dumps(self.config).encode(),
            "model.safetensors": pack(self.tensors, self.dtype),
            **self.files,
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    def without(self, unwanted: Callable[[str], bool]) -> None:
        self.tensors = {name: values for name, values in self.tensors.items() if not unwanted(name)}

    def add(self, name: str, *shape: int, scale: float = 0.3) -> None:
        """A tensor of random values, the same ones every time."""
        random = np.random.default_rng(len(self.tensors))
        self.tensors[name] = (random.normal(size=shape) * scale).astype("f4")

"""A folder as model hubs publish it: `config.json`, tokenizer files, tensors in one or more safetensors files.

It knows no architecture. Every number that a family takes from `config.json` goes through `Config`, which checks it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import BadRequest
from .safetensors import StoredTensor, read_safetensors

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""The largest published tokenizer.json has 33 MB; parsed it takes about ten times its size in memory."""


class Config:
    """`config.json`, or an object inside it. Every accessor raises BadRequest naming the key it cannot use."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @property
    def architecture(self) -> str:
        names = self._values.get("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise BadRequest("unknown architecture")
        return names[0]

    def count(self, key: str, *, most: int, default: int | None = None) -> int:
        """An integer from 1 to `most`."""
        value = self._values.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise BadRequest(f"config.json: {key!r} must be an integer from 1 to {most}")
        return value

    def fraction(self, key: str, *, default: float | None = None) -> float:
        """A number between 0 and 1, such as an epsilon."""
        value = self._values.get(key, default)
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < 1:
            raise BadRequest(f"config.json: {key!r} must be a number between 0 and 1")
        return float(value)

    def only(self, key: str, *allowed: str) -> None:
        """Refuse a model that wants what the engine does not compute. The first one `allowed` is the default."""
        value = self._values.get(key, allowed[0])
        if value not in allowed:
            raise BadRequest(f"config.json: {key} {str(value)[:40]!r} is not supported")


class Checkpoint:
    """`tensors` by name, from all files together. Raises BadRequest when the folder holds no usable model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = Config(self.object("config.json"))
        self.tensors: dict[str, StoredTensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            for name, tensor in read_safetensors(path).items():
                if name in self.tensors:
                    raise BadRequest(f"duplicate tensor name {name!r} was found for this model")
                self.tensors[name] = tensor
        if not self.tensors:
            raise BadRequest("unknown tensor format")

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def text(self, name: str) -> str:
        """A text file's content, "" when it is absent."""
        path = self._path(name)
        if not path.is_file():
            return ""
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise BadRequest(f"{name} is larger than {MAX_TEXT_BYTES} bytes")
        try:
            return path.read_text("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise BadRequest(f"{name} is not UTF-8 text") from exc

    def json(self, name: str) -> Any:
        """A JSON file's value, None when it is absent. `NaN` and `Infinity` read as 0 (store-registry §6.8)."""
        if not self.has(name):
            return None
        try:
            return json.loads(self.text(name), parse_constant=lambda _: 0)
        except (ValueError, RecursionError) as exc:
            raise BadRequest(f"{name} is not valid JSON") from exc

    def object(self, name: str) -> dict[str, Any]:
        """As `json`, for a file that must hold an object; {} when it is absent."""
        value = self.json(name)
        if value is not None and not isinstance(value, dict):
            raise BadRequest(f"{name} is not a JSON object")
        return value or {}

    def _path(self, name: str) -> Path:
        # modules.json names folders, so a name may come from the model's author
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or any(set(part) & set("\\:\0/") for part in parts):
            raise BadRequest(f"file path must be relative: {name[:200]!r}")
        return self._folder.joinpath(*parts)

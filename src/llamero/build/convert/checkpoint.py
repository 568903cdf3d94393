"""A folder as model hubs publish it: `config.json`, tokenizer files, tensors in one or more safetensors files.

It knows no architecture. Every number that a family takes from `config.json` goes through `Config`, which checks it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import BadRequest
from .fp8 import scaled
from .safetensors import Source, read_safetensors

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""The largest published tokenizer.json has 33 MB; parsed it takes about ten times its size in memory."""

_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors")
_INDEX = "model.safetensors.index.json"
_ORIGINAL = "consolidated"
"""Some publishers put the weights a second time beside the first, under names of their own."""


class Config:
    """`config.json` or another settings file, or an object inside it. A key that is null counts as absent.

    Every accessor raises BadRequest naming the key that it cannot use.
    """

    def __init__(self, values: Mapping[str, Any], file: str = "config.json") -> None:
        self.values = values
        self.file = file

    @property
    def architecture(self) -> str:
        names = self.values.get("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise BadRequest("unknown architecture")
        return names[0]

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def count(self, key: str, *, most: int, default: int | None = None) -> int:
        """An integer from 1 to `most`."""
        value = self._get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise BadRequest(f"{self.file}: {key!r} must be an integer from 1 to {most}")
        return value

    def fraction(self, key: str, *, default: float | None = None) -> float:
        """A number between 0 and 1, such as an epsilon."""
        value = self._get(key, default)
        if not _is_number(value) or not 0 < value < 1:
            raise BadRequest(f"{self.file}: {key!r} must be a number between 0 and 1")
        return float(value)

    def positive(self, key: str, *, most: float, default: float | None = None) -> float:
        """A number above 0 and up to `most`."""
        value = self._get(key, default)
        if not _is_number(value) or not 0 < value <= most:
            raise BadRequest(f"{self.file}: {key!r} must be a number above 0 and up to {most:g}")
        return float(value)

    def positives(self, key: str, *, count: int, most: float, default: float | None = None) -> list[float]:
        """A list of `count` such numbers."""
        values = self._get(key, None if default is None else [default] * count)
        if not isinstance(values, list) or len(values) != count:
            raise BadRequest(f"{self.file}: {key!r} must be a list of {count} numbers")
        if not all(_is_number(value) and 0 < value <= most for value in values):
            raise BadRequest(f"{self.file}: {key!r} must hold numbers above 0 and up to {most:g}")
        return [float(value) for value in values]

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise BadRequest(f"{self.file}: {key!r} must be true or false")
        return value

    def text(self, key: str, *, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise BadRequest(f"{self.file}: {key!r} must be a text")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; an absent one is empty."""
        values = self._get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise BadRequest(f"{self.file}: {key!r} must be a list of texts")
        return values

    def object(self, key: str) -> Config:
        """An object inside this one; an absent one is empty."""
        values = self._get(key, {})
        if not isinstance(values, dict):
            raise BadRequest(f"{self.file}: {key!r} must be an object")
        return Config(values, self.file)

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse a model that wants what the engine does not compute. The first one `allowed` is the default."""
        value = self._get(key, allowed[0])
        if value not in allowed:
            raise BadRequest(f"{self.file}: {key} {str(value)[:40]!r} is not supported")

    def over(self, defaults: Mapping[str, Any]) -> Config:
        """This object, with `defaults` for what it leaves open."""
        given = {key: value for key, value in self.values.items() if value is not None}
        return Config({**defaults, **given}, self.file)

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def _missing(name: str) -> BadRequest:
    return BadRequest(f"the file {name[:200]!r} of the checkpoint is missing")


class Checkpoint:
    """`tensors` by name, from all files together. Raises BadRequest when the folder holds no usable model.

    `warnings` says what was found that the engine cannot honour.
    A model of several towers describes its text part in `text_config`: `config` is that part, laid over the rest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.warnings: list[str] = []
        whole = Config(self.object("config.json"))
        text = whole.object("text_config").values
        self.config = Config({**text, "architectures": None}).over(whole.values)
        stored = self._stored()
        self.is_fp8 = any(tensor.dtype == "F8_E4M3" for tensor in stored.values())
        self.tensors = scaled(stored, self._quantization())

    def warn(self, text: str) -> None:
        """Note something that the engine cannot honour; whoever asked for the conversion is told."""
        if text not in self.warnings:
            self.warnings.append(text)

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def content(self, name: str) -> bytes:
        """A small file's content, b"" when it is absent."""
        path = self._path(name)
        if not path.is_file():
            return b""
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise BadRequest(f"{name} is larger than {MAX_TEXT_BYTES} bytes")
        return path.read_bytes()

    def text(self, name: str) -> str:
        """A text file's content with `\n` between lines, "" when it is absent."""
        try:
            return self.content(name).decode("utf-8-sig").replace("\r\n", "\n")
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

    def _stored(self) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for path in self._weights():
            for name, tensor in read_safetensors(path).items():
                if name in found:
                    raise BadRequest(f"duplicate tensor name {name!r} was found for this model")
                found[name] = tensor
        if not found:
            raise BadRequest("unknown tensor format")
        self._check_index(found)
        return found

    def _weights(self) -> list[Path]:
        """The files with weights: those that the index names, or all. Raises BadRequest naming a missing one."""
        there = {path.name: path for path in sorted(self._folder.glob("*.safetensors"))}
        wanted = set(self._index().values()) or {name for name in there if not name.startswith(_ORIGINAL)} or {*there}
        for name in sorted(wanted):
            if name not in there:
                raise _missing(name)
            if shard := _SHARD.fullmatch(name):
                for number in range(1, int(shard["count"]) + 1):
                    if (other := f"{shard['stem']}-{number:05}-of-{shard['count']}.safetensors") not in there:
                        raise _missing(other)
        return [path for name, path in there.items() if name in wanted]

    def _index(self) -> dict[str, str]:
        """The file that each tensor lies in, by the publisher's own word; {} without an index."""
        files = self.object(_INDEX).get("weight_map", {})
        if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
            raise BadRequest(f"{_INDEX}: 'weight_map' must map names of tensors to names of files")
        return files

    def _check_index(self, found: Mapping[str, Source]) -> None:
        for name in self._index():
            if name not in found:
                raise BadRequest(f"tensor {name[:200]!r} is missing: the index has it, no file does")

    def _quantization(self) -> Mapping[str, Any]:
        key = "quantization_config" if self.config.has("quantization_config") else "compression_config"
        return self.config.object(key).values

    def _path(self, name: str) -> Path:
        # modules.json names folders, so a name may come from the model's author
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or any(set(part) & set("\\:\0/") for part in parts):
            raise BadRequest(f"file path must be relative: {name[:200]!r}")
        return self._folder.joinpath(*parts)

"""A GGUF split into several files, as llama.cpp's own tool splits it: grouped by name, checked, and merged into one.

It opens nothing: files come as paths that a client gave, headers and open sources. Indexes count from 0, as `split.no`
does; file names count from 1. Source: store-registry §6.4, row `Split GGUF`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import BadRequest, InvalidModelFile
from ..gguf import Gguf
from ..names import Digest
from .rewrite import Part, Source, rewrite

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_COUNT, _INDEX, _TENSORS = "split.count", "split.no", "split.tensors.count"

MAX_SHARDS = 65_535
"""The format's own limit: the count is 16 bits wide."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF that somebody uploaded."""

    path: str
    """As the client names it."""
    digest: Digest
    header: Gguf


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a shard belongs, by its name and its metadata alike."""

    kind: str
    prefix: str
    count: int
    index: int


def is_shard(header: Gguf) -> bool:
    count = _number(header, _COUNT)
    return count is not None and count > 1


def grouped(files: Sequence[GgufFile]) -> list[list[GgufFile]]:
    """The shards among `files` as complete sets, each in order. Raises BadRequest when one is not complete."""
    groups: dict[tuple[str, str, int], list[tuple[int, GgufFile]]] = {}
    for file in files:
        if is_shard(file.header):
            place = _place(file)
            groups.setdefault((place.kind, place.prefix, place.count), []).append((place.index, file))
    return [_complete(prefix, count, shards) for (_, prefix, count), shards in groups.items()]


def _place(file: GgufFile) -> _Place:
    what = f"split GGUF {json.dumps(file.path)}"
    # without its folder: the same shard in two folders is one too many
    name = _NAME.fullmatch(PurePosixPath(file.path).name)
    if name is None:
        raise BadRequest(f"{what} must use llama.cpp split filename pattern")
    named_count, named_index = int(name[3]), int(name[2]) - 1
    count, index = _number(file.header, _COUNT), _number(file.header, _INDEX)
    if named_count != count:
        raise BadRequest(f"{what} filename count {named_count} does not match metadata count {count}")
    if index is None:
        raise BadRequest(f"{what} is missing split.no metadata")
    if named_index != index:
        raise BadRequest(f"{what} filename index {named_index} does not match metadata index {index}")
    return _Place(file.header.kind, name[1], count, index)


def _complete(prefix: str, count: int, shards: list[tuple[int, GgufFile]]) -> list[GgufFile]:
    what = f"split GGUF {json.dumps(prefix)}"
    found: dict[int, GgufFile] = {}
    for index, file in shards:
        if index in found:
            raise BadRequest(f"{what} has duplicate shard index {index}")
        found[index] = file
    if len(found) != count:
        raise BadRequest(f"{what} has {len(found)} shards, expected {count}")
    if 0 not in found:
        raise BadRequest("split GGUF is missing first shard")
    for index in range(count):
        if index not in found:  # another one counts beyond the end
            raise BadRequest(f"{what} is missing shard {index}")
    return [found[index] for index in range(count)]


def merge(shards: Sequence[Source]) -> Iterator[bytes]:
    """One file with the first shard's metadata and the tensors of all, in order. Raises InvalidModelFile."""
    parts = [part for shard in shards for part in shard.parts]
    _check(shards[0].header, parts)
    changes = {key: None for name in (_COUNT, _INDEX, _TENSORS) for key in _spellings(shards[0].header, name)}
    return rewrite(shards[0], parts, changes)


def _check(first: Gguf, parts: Sequence[Part]) -> None:
    expected = _number(first, _TENSORS, most=None)
    if expected not in (None, len(parts)):
        raise InvalidModelFile(f"split GGUF has {len(parts)} tensors, expected {expected}")
    seen: set[str] = set()
    for part in parts:
        if part.tensor.name in seen:
            raise InvalidModelFile(f"duplicate tensor {json.dumps(part.tensor.name)}")
        seen.add(part.tensor.name)


def _number(header: Gguf, name: str, most: int | None = MAX_SHARDS) -> int | None:
    """An integer of any width under either spelling of its key; None when there is none."""
    for key in _spellings(header, name):
        value = header.metadata.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 0 or (most is not None and value > most):
                raise InvalidModelFile(f"{key} {value} is outside 0...{most or ''}")
            return value
    return None


def _spellings(header: Gguf, name: str) -> tuple[str, str]:
    return name, header.key(name)

"""`import --scan`: GGUF files that other programs have put on this disk, and one of them taken in place.

Read-only: nothing of theirs is moved or changed. Source: store-registry GAP-02, cli §3.16.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..errors import BadRequest, NotFound
from ..sizes import human_bytes
from .app import App
from .format import table

MAX_DEPTH = 6
"""The Hugging Face cache, the deepest, has `models--o--r/snapshots/<commit>/<folder>/<file>`."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_UNFIT = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Found:
    """One model: its file or its shards, and the projectors that lie beside it."""

    name: str
    program: str
    files: tuple[Path, ...]
    projectors: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in (*self.files, *self.projectors))


def folders(env: Mapping[str, str], home: Path) -> list[tuple[str, Path]]:
    """Where each program keeps its models, by its own variables or its habit."""

    def configured(*places: tuple[str, str]) -> list[Path]:
        return [Path(env[name]) / below for name, below in places if env.get(name)]

    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    hub = configured(("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub"))
    return [
        ("LM Studio", home / ".lmstudio" / "models"),
        ("LM Studio", cache / "lm-studio" / "models"),
        ("Hugging Face", hub[0] if hub else cache / "huggingface" / "hub"),
        ("llama.cpp", next(iter(configured(("LLAMA_CACHE", ""))), cache / "llama.cpp")),
        ("llama.cpp", home / "Library" / "Caches" / "llama.cpp"),
    ]


def scan(env: Mapping[str, str], home: Path) -> list[Found]:
    """Every model in those folders, by name; names that occur twice get the folder's in front."""
    found: list[Found] = []
    for program, folder in folders(env, home):
        for parent, names in _gguf_files(folder):
            found += _models(program, parent, names)
    return sorted(_distinct(found), key=lambda each: each.name)


def _gguf_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders below this one with the GGUF files in them. Links to files count: the hub's cache consists of them."""
    for parent, below, names in os.walk(folder):
        below.sort()
        if len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH:
            below.clear()
        ggufs = sorted(name for name in names if name.lower().endswith(".gguf") and (Path(parent) / name).is_file())
        if ggufs:
            yield Path(parent), ggufs


def _models(program: str, parent: Path, names: Iterable[str]) -> Iterator[Found]:
    projectors = tuple(parent / name for name in names if "mmproj" in name.lower())
    for stem, group in groupby((name for name in names if "mmproj" not in name.lower()), _stem):
        shards = [parent / name for name in group]
        match = _SHARD.fullmatch(shards[0].name)
        if match is None or len(shards) == int(match["count"]):  # a set of which parts are missing is no model
            yield Found(model_name(stem), program, tuple(shards), projectors)


def _stem(name: str) -> str:
    match = _SHARD.fullmatch(name)
    return match["stem"] if match else name[: -len(".gguf")]


def model_name(stem: str) -> str:
    """A valid model name as close to a file's as can be."""
    return _UNFIT.sub("-", stem.lower()).strip("-._")[:80] or "model"


def _distinct(found: list[Found]) -> Iterator[Found]:
    counts: dict[str, int] = {}
    for each in found:
        counts[each.name] = counts.get(each.name, 0) + 1
    taken: set[str] = set()
    for each in found:
        name = each.name if counts[each.name] == 1 else model_name(f"{_owner(each)}-{each.name}")
        while name in taken:
            name = f"{name[:78]}-2"
        taken.add(name)
        yield Found(name, each.program, each.files, each.projectors)


def _owner(found: Found) -> str:
    """The folder that tells a person apart whose file it is; the hub's cache has the repository above its commits."""
    parents = found.files[0].parents
    return next((each.name for each in parents if each.name.startswith("models--")), parents[0].name)


def show_scan(app: App, home: Path) -> None:
    found = scan(app.env, home)
    rows = [(each.name, human_bytes(each.size_bytes), each.program, str(each.files[0])) for each in found]
    for line in table(rows, ("NAME", "SIZE", "FROM", "FILE")):
        app.terminal.out(f"{line}\n")


def take(app: App, home: Path, name: str) -> Found:
    """The one of that name. NotFound."""
    found = {each.name: each for each in scan(app.env, home)}
    if not name:
        raise BadRequest("which one? ollama import --scan lists them")
    if name not in found:
        raise NotFound(f"no model '{name}' among those of other programs: ollama import --scan lists them")
    return found[name]

"""`import --scan`: GGUF files that other programs have put on this disk, and one of them taken in place.

Read-only: nothing of theirs is moved or changed. Source: store-registry GAP-02, cli §3.16.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from stat import S_ISREG

from ..errors import NotFound
from ..sizes import human_bytes
from .app import App
from .format import table

MAX_DEPTH = 6
"""The Hugging Face cache, the deepest, has `models--o--r/snapshots/<commit>/<folder>/<file>`."""
MAX_LETTERS = 72
"""Of a model's name or tag, which may have 80: a number may follow."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)
_LEVEL = re.compile(r"(?P<model>.+?)[-_.](?P<level>i?q\d[a-z0-9_]*|tq\d_\d|mxfp4|bf16|fp?16|fp?32)", re.IGNORECASE)
"""A file's name with the quantization level at its end, which makes a good tag."""
_PROJECTOR = "mmproj"
_HUB_REPOSITORY = "models--"
_UNFIT = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class File:
    path: Path
    size_bytes: int
    identity: tuple[int, int]
    """Device and inode: several names may lead to one file."""

    @property
    def stem(self) -> str:
        return self.path.name[: -len(".gguf")]


@dataclass(frozen=True, slots=True)
class Found:
    """One model: its file or its shards, and the projector that lies beside it."""

    name: str
    program: str
    files: tuple[File, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(file.path for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def folders(env: Mapping[str, str], home: Path) -> list[tuple[str, Path]]:
    """Where each program keeps its models, by its own variables or its habit."""

    def configured(*places: tuple[str, str]) -> list[Path]:
        return [Path(env[name]) / below for name, below in places if env.get(name)]

    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    hub = configured(("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub"))
    llama = configured(("LLAMA_CACHE", ""), ("LOCALAPPDATA", "llama.cpp"))
    return [
        ("LM Studio", home / ".lmstudio" / "models"),
        ("LM Studio", cache / "lm-studio" / "models"),
        ("Hugging Face", hub[0] if hub else cache / "huggingface" / "hub"),
        ("llama.cpp", llama[0] if llama else cache / "llama.cpp"),
        ("llama.cpp", home / "Library" / "Caches" / "llama.cpp"),
    ]


def scan(env: Mapping[str, str], home: Path) -> list[Found]:
    """Every model in those folders, once each and by name; names that occur twice get the folder's in front."""
    found = [
        model
        for program, folder in folders(env, home)
        for files in _gguf_files(folder)
        for model in _models(program, files)
    ]
    first = {model.files[0].identity: model for model in reversed(found)}
    return sorted(_distinct(first.values()), key=lambda each: each.name)


def _gguf_files(folder: Path) -> Iterator[list[File]]:
    """The GGUF files of each folder below this one. Links to files count: the hub's cache consists of them."""
    for parent, below, names in os.walk(folder):
        below.sort()
        if len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH:
            below.clear()
        paths = (Path(parent, name) for name in sorted(names) if name.lower().endswith(".gguf"))
        if files := [file for path in paths if (file := _file(path))]:
            yield files


def _file(path: Path) -> File | None:
    """None for a link that leads nowhere, and for what is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return File(path, status.st_size, (status.st_dev, status.st_ino)) if S_ISREG(status.st_mode) else None


def _models(program: str, files: Sequence[File]) -> Iterator[Found]:
    projectors = [file for file in files if _is_projector(file)]
    for stem, group in groupby((file for file in files if not _is_projector(file)), _model_stem):
        shards = tuple(group)
        match = _SHARD.fullmatch(shards[0].stem)
        if match is None or len(shards) == int(match["count"]):  # a set of which parts are missing is no model
            yield Found(model_name(stem), program, (*shards, *_projector_of(stem, projectors)))


def _is_projector(file: File) -> bool:
    return _PROJECTOR in file.stem.lower()


def _model_stem(file: File) -> str:
    match = _SHARD.fullmatch(file.stem)
    return match["stem"] if match else file.stem


def _projector_of(stem: str, projectors: Iterable[File]) -> list[File]:
    """At most one. In a folder of many models the projector's name begins like its model's; F16 runs everywhere."""

    def prefix(file: File) -> str:
        return file.stem.lower().partition(_PROJECTOR)[0]

    fitting = [file for file in projectors if stem.lower().startswith(prefix(file))]
    fitting.sort(key=lambda file: (-len(prefix(file)), not re.search(r"(?<!b)f16", file.stem.lower())))
    return fitting[:1]


def model_name(stem: str) -> str:
    """A valid model name as close to a file's as can be: `Qwen3-8B-Q4_K_M` is `qwen3-8b:q4_k_m`."""
    match = _LEVEL.fullmatch(stem)
    return f"{_word(match['model'])}:{_word(match['level'])}" if match else _word(stem)


def _word(text: str) -> str:
    return _UNFIT.sub("-", text.lower()).strip("-._")[:MAX_LETTERS] or "model"


def _distinct(found: Iterable[Found]) -> Iterator[Found]:
    models = sorted(found, key=lambda each: each.files[0].path)
    counts = Counter(each.name for each in models)
    repeated: Counter[str] = Counter()
    taken: set[str] = set()
    for each in models:
        name = wanted = each.name if counts[each.name] == 1 else _with_owner(each)
        while name in taken:
            repeated[wanted] += 1
            name = f"{wanted}-{repeated[wanted] + 1}"
        taken.add(name)
        yield replace(each, name=name)


def _with_owner(found: Found) -> str:
    """The folder tells a person whose file it is; the hub's cache has the repository above its commits."""
    parents = found.files[0].path.parents
    hub = next((each.name for each in parents if each.name.startswith(_HUB_REPOSITORY)), "")
    owner = hub.removeprefix(_HUB_REPOSITORY).replace("--", "-") or parents[0].name
    model, colon, level = found.name.partition(":")
    return f"{_word(f'{owner}-{model}')}{colon}{level}"


def show_scan(app: App, home: Path) -> None:
    found = scan(app.env, home)
    if not found:
        places = "".join(f"\n  {folder}" for _, folder in folders(app.env, home))
        app.terminal.err(f"No GGUF files of other programs in{places}\n")
        return
    rows = [(each.name, human_bytes(each.size_bytes), each.program, _shown(each.files[0].path)) for each in found]
    for line in table(rows, ("NAME", "SIZE", "FROM", "FILE")):
        app.terminal.out(f"{line}\n")
    app.terminal.err("Take one in place with: ollama import --scan NAME\n")


def _shown(path: Path) -> str:
    """A path as text that every terminal can take."""
    return os.fsencode(path).decode(errors="replace")


def take(app: App, home: Path, name: str) -> Found:
    """The one of that name. NotFound."""
    found = {each.name: each for each in scan(app.env, home)}
    if name not in found:
        raise NotFound(f"no model '{name}' among those of other programs: ollama import --scan lists them")
    return found[name]

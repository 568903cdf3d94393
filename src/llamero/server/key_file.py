"""Changing the key file: a line more or a line less, whoever else changes it at the same time.

What its lines mean is said in `keys`. The server writes through here and, while none runs, the command `key`: in one
step, so that nobody ever reads half a file. Source: security §6.1, §9.2.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadRequest, Busy, NotFound, StorageError
from ..store import files
from ..store.locks import FileLock
from .keys import (
    DIGEST_MARK,
    FILE_MODE,
    BadKeys,
    Key,
    digest_of,
    read_file,
    read_instant,
    read_lines,
    read_words,
    write_instant,
    write_line,
)

SECRET_BYTES = 32
HEADING = "# API keys of this server, one per line: name role secret. `ollama key` changes them.\n"

NAME_IS_TAKEN = "there is a key called {} already: revoke it first, or choose another name"

MAX_EXPIRY_S = 253_402_300_799.0
"""The last second of the year 9999: RFC 3339 knows no later one."""

_LIFETIME = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def make_key(
    name: str, role: str, models: Sequence[str] = (), expires: str = "", rate: str = "", *, now_s: float
) -> tuple[Key, str]:
    """A new key and its secret, which is nowhere else. BadRequest for what no line of the file may say.

    `expires` is a time of RFC 3339 or a span like `30d`, `rate` is like `60/m`; `now_s` counts from 1970.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    listed = f"{role}:{','.join(models)}" if models else role
    words = [name, listed, f"{DIGEST_MARK}{digest_of(secret.encode()).hex()}"]
    if expires:
        words.append(f"expires={write_instant(read_expiry(expires, now_s))}")
    if rate:
        words.append(f"rate={rate}")
    try:
        return read_words(words, "new key"), secret
    except BadKeys as error:
        raise BadRequest(str(error)) from None


def read_expiry(text: str, now_s: float) -> float:
    """When a key ends, in seconds since 1970. BadRequest for a text that is no time to come."""
    if match := _LIFETIME.fullmatch(text):
        ends_at_s = now_s + int(match[1]) * _UNIT_S[match[2]]
    else:
        ends_at_s = read_instant(text)
    if not now_s < ends_at_s < MAX_EXPIRY_S:
        raise BadRequest(f"a key cannot expire at {text!r}: write a span like 30d, or a time to come")
    return ends_at_s


def listed(path: Path) -> list[Key]:
    """The keys in the file, in its order; none when there is no file. BadKeys."""
    return read_lines(read_file(path) or "")


def add(path: Path, key: Key) -> None:
    """Write a key behind the others. BadRequest when one has its name; BadKeys, StorageError, Busy."""
    with _changing(path):
        text = read_file(path)
        if any(other.name == key.name for other in read_lines(text or "")):
            raise BadRequest(NAME_IS_TAKEN.format(key.name))
        before = HEADING if text is None else text if text.endswith("\n") or not text else f"{text}\n"
        _replace(path, f"{before}{write_line(key)}\n")


def remove(path: Path, name: str) -> None:
    """Take the key of this name out. NotFound when there is none; BadKeys, StorageError, Busy."""
    with _changing(path):
        lines = (read_file(path) or "").splitlines(keepends=True)
        kept = [line for line in lines if line.split()[:1] != [name]]
        if len(kept) == len(lines):
            raise NotFound(f"there is no key called {name}")
        _replace(path, "".join(kept))


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One change at a time, among all processes."""
    with files.translated("change the API keys"):
        try:
            with FileLock(path.with_name(f"{path.name}.lock")).held():
                yield
        except Busy:
            raise Busy("another process is changing the API keys", retry_after_s=10) from None


def _replace(path: Path, text: str) -> None:
    """Write the file anew beside itself and put it in its place, for the eyes that it was for before."""
    read_lines(text)  # what cannot be read again never becomes the file
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        old = None
    if old is not None and stat.S_ISLNK(old.st_mode):
        raise StorageError("the key file is a link: change the file that it leads to")
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = files.create(staged, files.RECORD_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            if old is not None and os.name == "posix":
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)  # else its server could not read it any more
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & FILE_MODE)
            os.fsync(file.fileno())
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    files.sync_folder(path.parent)

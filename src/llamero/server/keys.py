"""API keys: whom a secret belongs to and what it may do, as OLLAMA_API_KEY and the key file say.

It reads keys and finds one; which request needs one is decided in `guard`. A secret is never kept: only its digest.
Source: security §6.1, §6.2.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..errors import BadRequest, LlameroError
from ..names import ModelName
from ..store.files import open_regular
from .caller import Rights
from .rates import Rate, read_rate

log = logging.getLogger(__name__)

MIN_SECRET_CHARS = 16
MAX_FILE_BYTES = 1 << 20
"""Some ten thousand keys."""
FILE_MODE = 0o640
"""The most that others may do with the key file: its digests are no secrets, its lines may be."""

ENVIRONMENT = "OLLAMA_API_KEY"
DIGEST_MARK = "sha256$"
"""Before the digest of a secret, where a line does not hold the secret itself."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9_-]{1,32})=)?(?P<role>infer|admin):(?P<secret>.*)", re.DOTALL)
_OWN_NAME = re.compile(r"env[0-9]+")
"""What an entry is called that has no name."""
_SECRET = re.compile(r"[!-+\--~]+")
"""Visible ASCII without a comma, which separates entries."""
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


class BadKeys(LlameroError):
    """Keys that cannot be meant, or a file that cannot be trusted. The text says where, and never a secret."""


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    role: Rights
    digest: bytes = field(repr=False)
    """SHA-256 of the secret."""
    models: tuple[str, ...] = ()
    """The only models it may use, as the line names them; empty: all of them."""
    expires_at_s: float | None = None
    """Seconds since 1970 from when on it is good for nothing; None: never."""
    rate: Rate | None = None
    """Of its own; None: LLAMERO_RATE_LIMIT."""

    def is_expired(self, now_s: float) -> bool:
        return self.expires_at_s is not None and now_s >= self.expires_at_s


class Keys:
    """All keys of a server at one moment. Raises BadKeys when two of them have one name, or one secret."""

    def __init__(self, keys: Iterable[Key] = (), *, required: bool = False) -> None:
        self._all = tuple(keys)
        self.required = required or bool(self._all)
        """Whether a key is needed. A key file that lists nobody lets nobody in; it does not open the server."""
        names, digests = dict[str, Key](), dict[bytes, Key]()
        for key in self._all:
            if key.name in names:
                raise BadKeys(f"two API keys are called {key.name}: names must differ")
            if (other := digests.get(key.digest)) is not None:
                raise BadKeys(f"the API keys {other.name} and {key.name} have one secret: each needs its own")
            names[key.name] = digests[key.digest] = key

    def __iter__(self) -> Iterator[Key]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, secret: bytes, now_s: float) -> Key | None:
        """The key with this secret, unless it has expired. How long it takes tells nothing about any key (X-44)."""
        digest = digest_of(secret)
        found = None
        for key in self._all:  # to the end, wherever it stands
            if hmac.compare_digest(digest, key.digest):
                found = key
        return None if found is None or found.is_expired(now_s) else found


class KeyStore:
    """The keys in force: those of OLLAMA_API_KEY, and of the key file, which can be read again while we run.

    `file_is_named`: LLAMERO_API_KEYS_FILE is set, so that the file has to be there. Raises BadKeys.
    """

    def __init__(self, api_key: str, file: Path, *, file_is_named: bool = False) -> None:
        self._entries = read_entries(api_key)
        self.file = file
        self._must_exist = file_is_named
        self._take(self._read())

    def reload(self) -> None:
        """Read the file again. Raises BadKeys and leaves the keys as they are when it is not good."""
        self._take(self._read())
        log.info("API keys read again", extra={"keys": len(self.keys)})

    def log(self) -> None:
        """Say where the keys come from: OLLAMA_API_KEY is often set for clients only."""
        if self.keys.required:
            log.info("API keys are required: they come from %s", " and ".join(self.sources))
        if self.keys.required and not len(self.keys):
            log.warning("%s lists no API key, so nobody is served: see `ollama key new`", self.file)

    def _take(self, read: tuple[Keys, tuple[str, ...]]) -> None:
        self.keys, self.sources = read
        self._must_exist |= str(self.file) in self.sources

    def _read(self) -> tuple[Keys, tuple[str, ...]]:
        text = read_file(self.file)
        if text is None and self._must_exist:
            # a file that has gone must not open the server to everybody
            raise BadKeys(f"the file of API keys is not there: {self.file}")
        listed = read_lines(text or "")
        known = {key.digest for key in listed}
        # Who serves from the shell of a client has that client's key in the variable: it stays the key that it is.
        entries = [key for key in self._entries if not (_is_anonymous(key) and key.digest in known)]
        sources = (*([ENVIRONMENT] if entries else []), *([str(self.file)] if text is not None else []))
        return Keys([*entries, *listed], required=text is not None), sources


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


# --- OLLAMA_API_KEY ------------------------------------------------------------------------------------------------


def read_entries(api_key: str) -> list[Key]:
    """The keys of `SECRET,infer:SECRET,NAME=admin:SECRET`. Raises BadKeys.

    One without a name is called `env` and its place; one without a role is an admin secret as a whole.
    """
    keys = []
    for place, entry in enumerate(api_key.split(","), 1):
        if not (entry := entry.strip()):
            continue
        where = f"{ENVIRONMENT}, entry {place}"
        match = _ENTRY.fullmatch(entry)
        if match is None:
            keys.append(Key(f"env{place}", "admin", _digest(entry, where)))
        else:
            role: Rights = "admin" if match["role"] == "admin" else "infer"
            keys.append(Key(match["name"] or f"env{place}", role, _digest(match["secret"], where)))
    return keys


def _is_anonymous(key: Key) -> bool:
    return _OWN_NAME.fullmatch(key.name) is not None


def _digest(secret: str, where: str) -> bytes:
    """Of a secret that is good enough. Raises BadKeys, without a word of the secret."""
    if len(secret) < MIN_SECRET_CHARS:
        raise BadKeys(f"{where}: an API key needs {MIN_SECRET_CHARS} characters or more")
    if not _SECRET.fullmatch(secret):
        raise BadKeys(f"{where}: an API key is visible ASCII without blanks and commas")
    return digest_of(secret.encode("ascii"))


# --- the key file --------------------------------------------------------------------------------------------------


def read_file(path: Path) -> str | None:
    """The text of the key file; None when there is none. Raises BadKeys for one that others could change or read."""
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadKeys(f"the file of API keys cannot be read: {path}: {(error.strerror or 'failed').lower()}") from error
    if os.name == "posix" and mode & ~FILE_MODE:
        raise BadKeys(f"the file of API keys has mode {mode:04o}, {FILE_MODE:04o} is the most: chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise BadKeys(f"the file of API keys is larger than {MAX_FILE_BYTES} bytes: {path}")
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError:
        raise BadKeys(f"the file of API keys is not UTF-8: {path}") from None


def read_lines(text: str) -> list[Key]:
    """The keys of a key file's text, in its order. Raises BadKeys naming the line."""
    lines = ((number, line.split()) for number, line in enumerate(text.split("\n"), 1))
    return [read_words(words, f"key file, line {number}") for number, words in lines if words and words[0][0] != "#"]


def write_line(key: Key) -> str:
    """The line of a key, without its secret; `read_lines` makes the same key of it."""
    role = f"{key.role}:{','.join(key.models)}" if key.models else key.role
    words = [key.name, role, f"{DIGEST_MARK}{key.digest.hex()}"]
    if key.expires_at_s is not None:
        words.append(f"expires={write_instant(key.expires_at_s)}")
    if key.rate is not None:
        words.append(f"rate={key.rate}")
    return " ".join(words)


def read_words(words: list[str], where: str) -> Key:
    """The key of one line's words. Raises BadKeys, which begins with `where`."""
    if len(words) < 3:
        raise BadKeys(f"{where}: write `name role secret`")
    name, role, secret, *options = words
    if not _NAME.fullmatch(name):
        raise BadKeys(f"{where}: a name is up to 32 letters, digits, - and _")
    role, models = _read_role(role, where)
    expires_at_s, rate = None, None
    for option in options:
        if option.startswith("#"):
            break
        kind, _, value = option.partition("=")
        try:
            if kind == "expires" and expires_at_s is None:
                expires_at_s = read_instant(value)
            elif kind == "rate" and rate is None:
                rate = read_rate(value)
            else:
                raise BadRequest("after the secret, write expires=TIME or rate=60/m, each once")
        except BadRequest as error:
            raise BadKeys(f"{where}: {error}") from error
    return Key(name, role, _read_secret(secret, where), models, expires_at_s, rate)


def _read_role(text: str, where: str) -> tuple[Rights, tuple[str, ...]]:
    """`admin`, `infer` or `infer:modelA,modelB`."""
    if text == "admin":
        return "admin", ()
    role, colon, listed = text.partition(":")
    if role != "infer":
        raise BadKeys(f"{where}: a role is admin, infer or infer:modelA,modelB")
    if not colon:
        return "infer", ()
    models = tuple(listed.split(","))
    for model in models:
        try:
            ModelName.parse(model)
        except BadRequest as error:
            raise BadKeys(f"{where}: {model!r} is not a model name") from error
    return "infer", models


def _read_secret(text: str, where: str) -> bytes:
    if not text.startswith(DIGEST_MARK):
        return _digest(text, where)
    digest = text.removeprefix(DIGEST_MARK)
    if not _HEX_DIGEST.fullmatch(digest):
        raise BadKeys(f"{where}: after {DIGEST_MARK} come 64 hexadecimal digits in lower case")
    return bytes.fromhex(digest)


def read_instant(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises BadRequest."""
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        pass
    raise BadRequest(f"{text!r} is not a time: write for example 2027-01-31T00:00:00Z")


def write_instant(at_s: float) -> str:
    """In RFC 3339, to the second before."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

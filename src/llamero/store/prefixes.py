"""The prompt cache on disk: slots that an engine saved, found again by the tokens of a prompt that begins like one.

Each entry is a file in `<models>/.llamero/prefixes/`; `prefix_index` knows which tokens are in which. An entry is found
by its identity, which is everything that makes the same tokens the same keys and values, and whose they are; the
identity is the root of the hashes, so that nobody finds another's. When to save and whether restoring pays is decided
elsewhere. Any thread and several processes may use one folder. Source: scheduler §9.6, security §9.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from ..errors import StorageError
from . import files
from .prefix_index import Damaged, Entry, PrefixIndex, Rows
from .slot_file import BadSlotFile, HoldsPictures, read_tokens
from .staging import Staging

log = logging.getLogger(__name__)

T = TypeVar("T")

FOLDER = Path(".llamero", "prefixes")
"""Below the models folder."""

BLOCK_TOKENS = 64
"""Prompts are compared in steps of this."""

MIN_TOKENS = 256
"""A shorter prompt is evaluated as quickly as it is restored."""

MAX_DEFAULT_BYTES = 4 << 30
DEFAULT_SHARE_OF_DISK = 0.05
"""Of what is free. The smaller of the two is the limit when nobody sets one."""

_READ_BYTES = 1 << 20

_INDEX = "index.sqlite"
_ENGINES = "engines"
"""Where engines write, each in a folder of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be equal for one prompt's keys and values to serve another."""

    owner: str
    """The API key whose prompt it is, by its id: nobody may learn from a quick answer what others asked."""
    weights: str
    projectors: tuple[str, ...] = ()
    adapters: tuple[tuple[str, float], ...] = ()
    """Digest and scale of each that the request uses, in the engine's order."""
    kv_types: tuple[str, str] = ("", "")
    rope: str = ""
    engine: str = ""
    """Its build, and how it was started as far as that changes what it keeps."""

    @property
    def root(self) -> bytes:
        """Where the chain of hashes begins."""
        return hashlib.sha256(msgspec.json.encode(astuple(self))).digest()


@dataclass(frozen=True, slots=True)
class Match:
    """A saved prompt that begins like the one asked for."""

    entry: Entry
    tokens: int
    """Of the two, are the same at least: whole blocks are counted."""


class Prefixes:
    """`limit_bytes` of files at most: 0 turns it off, None means the default. Methods raise StorageError only.

    Damaged and foreign files are removed when they are met, and counted in `damaged`.
    """

    def __init__(self, models: Path, limit_bytes: int | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` tells nanoseconds since 1970."""
        self._folder = models / FOLDER
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._index = PrefixIndex(self._folder / _INDEX)
        self._staging = Staging(self._folder / _ENGINES)
        self.damaged = 0

    @cached_property
    def limit_bytes(self) -> int:
        if self._limit_bytes is not None:
            return self._limit_bytes
        folder = next(path for path in (self._folder, *self._folder.parents) if path.is_dir())
        return min(MAX_DEFAULT_BYTES, int(DEFAULT_SHARE_OF_DISK * shutil.disk_usage(folder).free))

    # --- for whoever looks after it --------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Remove what crashes, other programs and earlier limits left behind. For the start of a server."""
        if self._folder.is_dir():
            self._staging.sweep()
            self._write(self._sweep)

    def entries(self) -> list[Entry]:
        """Every entry, the one used last first."""
        return self._read(Rows.all) or []

    def clear(self, model: str | None = None) -> int:
        """Remove every entry, or those of a model. Returns bytes freed."""
        if not self._exists:
            return 0

        def is_meant(entry: Entry) -> bool:
            return model is None or entry.model.lower() == model.lower()

        return self._write(lambda rows: self._remove(rows, filter(is_meant, rows.all())))

    def remove(self, entry: Entry) -> None:
        """Of an entry that an engine does not take."""
        self.damaged += 1
        self._write(lambda rows: self._remove(rows, [entry]))

    # --- saving ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def engine_folder(self) -> Iterator[Path]:
        """A private folder for one engine to save slots in and restore them from, on the file system of the entries."""
        with contextlib.ExitStack() as stack:
            with files.translated("use the prompt cache"):
                files.make_inner_folder(self._folder)
                folder = stack.enter_context(self._staging.folder())
            yield folder

    def make_room(self, size_bytes: int) -> bool:
        """Remove what was not used for longest, until so much can be saved. False: it never can, or the disk is full.

        Asked before the engine writes: what it writes counts from its first byte.
        """
        if size_bytes > self.limit_bytes:
            return False
        if self._exists:
            self._write(lambda rows: self._evict(rows, self.limit_bytes - size_bytes))
        with files.translated("use the prompt cache"):
            files.make_inner_folder(self._folder)
            free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes <= size_bytes:
            log.warning("no room to save a prompt: %d bytes are free, it takes %d", free_bytes, size_bytes)
        return free_bytes > size_bytes

    def put(self, identity: Identity, path: Path, model: str) -> int:
        """Keep a file that an engine wrote into its folder, or remove it. `model` is what people call it.

        Returns the tokens kept: 0 when an entry has them already, when they are too few, when they stand among pictures
        and when the file is too large. BadSlotFile when the engine did not write it whole. An entry that is but the
        beginning of the new one makes way for it.
        """
        try:
            with files.translated("keep a prompt"), files.open_regular(path) as file:
                os.chmod(path, files.RECORD_MODE)
                size_bytes = os.fstat(file.fileno()).st_size
                tokens = read_tokens(file, size_bytes)
                if len(tokens) < MIN_TOKENS or size_bytes > self.limit_bytes:
                    return 0
                checksum = _checksum(file)
            chain = _Chain(identity, tokens)
            entry = Entry(chain.name, model, len(tokens), size_bytes, checksum, self._clock())
            try:
                return len(tokens) if self._write(lambda rows: self._insert(rows, identity, chain, entry, path)) else 0
            except StorageError:
                self._unlink(entry.name, "its row could not be written")
                raise
        except HoldsPictures:
            return 0
        finally:
            path.unlink(missing_ok=True)

    def _insert(self, rows: Rows, identity: Identity, chain: _Chain, entry: Entry, path: Path) -> bool:
        for longer in rows.sharing(chain.hashes[-1:]):
            if longer.tokens >= entry.tokens:
                rows.touch(longer.name, entry.used_ns)
                return False
        shorter = (other for other in rows.sharing(chain.hashes) if other.tokens < entry.tokens)
        self._remove(rows, (other for other in shorter if chain.name_of(other.tokens) == other.name))
        self._evict(rows, self.limit_bytes - entry.size_bytes)
        rows.add(entry, identity.root, chain.hashes)
        # last, and within the transaction: whoever sweeps meanwhile finds neither the file nor the row
        with files.translated("keep a prompt"):
            os.replace(path, self._path(entry.name))
        return True

    # --- restoring -------------------------------------------------------------------------------------------------

    def has(self, identity: Identity) -> bool:
        """Whether there is anything to be found, so that nobody counts the tokens of a prompt for nothing."""
        return self._read(lambda rows: rows.has(identity.root)) or False

    def find(self, identity: Identity, tokens: Sequence[int]) -> Match | None:
        """The entry that shares the longest beginning with a prompt."""
        hashes = _Chain(identity, tokens).hashes
        found = self._read(lambda rows: rows.deepest(hashes))
        return Match(found[0], found[1] * BLOCK_TOKENS) if found else None

    @contextlib.contextmanager
    def lent(self, identity: Identity, match: Match, folder: Path) -> Iterator[str | None]:
        """The name, in an engine's folder, under which it can restore an entry within the block; None: it is no more.

        Every byte is checked before: an engine that is given a file cut short ends.
        """
        lent = folder / secrets.token_hex(16)
        try:
            with files.translated("restore a prompt"):
                is_sound = self._check(identity, match.entry, lent)
            yield lent.name if is_sound else None
        finally:
            lent.unlink(missing_ok=True)

    def _check(self, identity: Identity, entry: Entry, lent: Path) -> bool:
        """Link a sound entry to where it is wanted; remove what is damaged or missing."""
        path = self._path(entry.name)
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise BadSlotFile("it is no file")
            if status.st_size != entry.size_bytes:
                raise BadSlotFile(f"it has {status.st_size} bytes instead of {entry.size_bytes}")
            _link(path, lent)
            with files.open_regular(lent) as file:
                tokens = read_tokens(file, entry.size_bytes)
                if _Chain(identity, tokens).name != entry.name or _checksum(file) != entry.checksum:
                    raise BadSlotFile("it was changed")
        except (BadSlotFile, FileNotFoundError) as error:
            log.warning("a saved prompt cannot be used and is removed: %s", error)
            self.remove(entry)
            return False
        self._write(lambda rows: rows.touch(entry.name, self._clock()))
        return True

    # --- rows and files --------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self._folder / name

    @property
    def _exists(self) -> bool:
        return (self._folder / _INDEX).exists()

    def _read(self, work: Callable[[Rows], T]) -> T | None:
        """None when there is nothing yet."""
        if not self._exists:
            return None
        try:
            with files.translated("use the prompt cache"), self._index.reading() as rows:
                return work(rows)
        except Damaged as error:
            self._start_over(error)
            return None

    def _write(self, work: Callable[[Rows], T]) -> T:
        with files.translated("use the prompt cache"):
            files.make_inner_folder(self._folder)
            try:
                with self._index.writing() as rows:
                    return work(rows)
            except Damaged as error:
                self._start_over(error)
            with self._index.writing() as rows:
                return work(rows)

    def _start_over(self, error: Damaged) -> None:
        """Without an index nobody knows what is in the files."""
        log.warning("the prompt cache starts anew: %s", error)
        with files.translated("use the prompt cache"):
            self._index.remove()
            with self._index.writing() as rows:
                self._sweep(rows)

    def _sweep(self, rows: Rows) -> None:
        known = {entry.name: entry for entry in rows.all()}
        for path in list(self._folder.iterdir()):
            if path.name.startswith(_INDEX) or (path.is_dir() and not path.is_symlink()):
                continue
            entry = known.pop(path.name, None)
            if entry is None or path.is_symlink() or path.stat().st_size != entry.size_bytes:
                self.damaged += 1
                self._unlink(path.name, "no saved prompt of ours")
                rows.remove(path.name)
        for name in known:
            rows.remove(name)
        self._evict(rows, self.limit_bytes)

    def _evict(self, rows: Rows, limit_bytes: int) -> int:
        """Remove what was not used for longest, until the rest is no more than this. Returns bytes freed."""
        condemned, kept_bytes = list[Entry](), 0
        for entry in rows.all():
            kept_bytes += entry.size_bytes
            if kept_bytes > limit_bytes:
                condemned.append(entry)
        return self._remove(rows, condemned)

    def _remove(self, rows: Rows, entries: Iterable[Entry]) -> int:
        """Returns bytes freed. The files go first: what a crash leaves behind then are rows, which do no harm."""
        freed_bytes = 0
        for entry in list(entries):
            freed_bytes += self._unlink(entry.name, "no longer wanted")
            rows.remove(entry.name)
        return freed_bytes

    def _unlink(self, name: str, reason: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return files.unlink(self._path(name), f"prompt cache: {reason}")
        return 0


class _Chain:
    """The hashes of a prompt's blocks, each made of the one before and so of the whole prompt up to it."""

    def __init__(self, identity: Identity, tokens: Sequence[int]) -> None:
        self._root = identity.root
        self._tokens = array("I", tokens)
        self.hashes: list[bytes] = []
        last = self._root
        for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
            last = self._hash(last, end - BLOCK_TOKENS, end)
            self.hashes.append(last)

    @property
    def name(self) -> str:
        return self.name_of(len(self._tokens))

    def name_of(self, count: int) -> str:
        """The name of an entry that has the first `count` of these tokens."""
        blocks = count // BLOCK_TOKENS
        last = self.hashes[blocks - 1] if blocks else self._root
        return self._hash(last, blocks * BLOCK_TOKENS, count).hex()

    def _hash(self, before: bytes, start: int, end: int) -> bytes:
        # a rest is shorter than a block, so that no name is ever the hash of one
        return hashlib.sha256(before + self._tokens[start:end].tobytes()).digest()


def _checksum(file: BinaryIO) -> bytes:
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(_READ_BYTES):
        digest.update(data)
    return digest.digest()


def _link(path: Path, target: Path) -> None:
    """The same file under a second name, which nobody's eviction takes away; a copy where there are no links."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, target, follow_symlinks=False)

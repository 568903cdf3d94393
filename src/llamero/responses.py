"""Responses of `/v1/responses` that are kept for a day, so that a later request can go on from them.

It knows no HTTP and makes no responses: `dialects.responses` does. An entry belongs to the key that made it, its
`owner`: for any other it does not exist. SQLite in one file, or in memory. Source: compat-api §8.9, security §9.2.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec

from .dialects.responses.items import Item
from .dialects.responses.kept import Kept
from .errors import DiskFull, StorageError
from .store.files import RECORD_MODE, make_private_folder, translated

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE = Path("llamero", "responses.sqlite")
"""Below the home folder."""

LIFETIME_S = 24 * 3600
MAX_ENTRIES = 1000
"""Per owner; the oldest give way."""
MAX_ENTRY_BYTES = 32 << 20
"""Of JSON. Conversations are kept whole with their pictures: a dozen photographs, or millions of words."""
MAX_OWNER_BYTES = 1 << 30
MAX_OWNER_BYTES_IN_MEMORY = 128 << 20

_BUSY_TIMEOUT_S = 5.0
"""For another server with the same home folder; a transaction of ours takes milliseconds."""

_VERSION = 1
"""Of the tables, in the file's header."""

_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    created_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    response BLOB NOT NULL,
    items BLOB NOT NULL,
    UNIQUE (owner, id)
);
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (created_s);
CREATE TABLE IF NOT EXISTS items (
    response INTEGER NOT NULL REFERENCES responses ON DELETE CASCADE,
    id TEXT NOT NULL,
    PRIMARY KEY (response, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_id ON items (id);
"""

_BEYOND_LIMITS = """
DELETE FROM responses WHERE number IN (
    SELECT number FROM (
        SELECT number, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
        FROM responses WHERE owner = :owner WINDOW newest AS (ORDER BY number DESC)
    ) WHERE place > :entries OR total > :bytes
)
"""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class _OtherTables(sqlite3.DatabaseError):
    """A database, and not one of this version."""


class Responses(Protocol):
    """Where responses are kept. Safe to use from several threads; StorageError when the disk fails."""

    can_keep: bool

    def put(self, owner: str, kept: Kept) -> bool:
        """Keep a response, in place of one with its id. False when it is too long; a log line says so."""

    def get(self, owner: str, id_: str) -> Kept | None: ...

    def items(self, owner: str, ids: Collection[str]) -> dict[str, Item]:
        """Those of some items that are part of kept responses."""

    def delete(self, owner: str, id_: str) -> bool:
        """Whether there was one."""

    def close(self) -> None: ...


def open_responses(mode: Literal["disk", "memory", "off"], home: Path) -> Responses:
    """What LLAMERO_RESPONSES says. Touches the disk only when something is to be kept or asked for."""
    if mode == "off":
        return NoResponses()
    return KeptResponses(home / FILE if mode == "disk" else None)


class NoResponses:
    """Every response is forgotten."""

    can_keep = False

    def put(self, owner: str, kept: Kept) -> bool:
        return False

    def get(self, owner: str, id_: str) -> Kept | None:
        return None

    def items(self, owner: str, ids: Collection[str]) -> dict[str, Item]:
        return {}

    def delete(self, owner: str, id_: str) -> bool:
        return False

    def close(self) -> None:
        pass


class KeptResponses:
    """In a file, or with `path` None in memory. `clock` tells seconds since 1970."""

    can_keep = True

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._max_bytes = MAX_OWNER_BYTES_IN_MEMORY if path is None else MAX_OWNER_BYTES
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def put(self, owner: str, kept: Kept) -> bool:
        response, items = msgspec.json.encode(kept.response), msgspec.json.encode(kept.items)
        size_bytes = len(response) + len(items)
        if size_bytes > MAX_ENTRY_BYTES:
            log.warning("a response of %d bytes is not kept: the limit is %d", size_bytes, MAX_ENTRY_BYTES)
            return False
        ids = {item["id"] for item in kept.conversation}

        def insert(database: sqlite3.Connection) -> None:
            row = (owner, kept.id, self._clock(), size_bytes, response, items)
            database.execute("DELETE FROM responses WHERE owner = ? AND id = ?", row[:2])
            number = database.execute(
                "INSERT INTO responses (owner, id, created_s, bytes, response, items) VALUES (?, ?, ?, ?, ?, ?)", row
            ).lastrowid
            database.executemany("INSERT INTO items (response, id) VALUES (?, ?)", ((number, id_) for id_ in ids))
            limits = {"owner": owner, "entries": MAX_ENTRIES, "bytes": self._max_bytes}
            database.execute(_BEYOND_LIMITS, limits)

        self._do(insert)
        return True

    def get(self, owner: str, id_: str) -> Kept | None:
        question = "SELECT response, items FROM responses WHERE owner = ? AND id = ?"
        row = self._do(lambda database: database.execute(question, (owner, id_)).fetchone())
        return None if row is None else _kept(*row)

    def items(self, owner: str, ids: Collection[str]) -> dict[str, Item]:
        wanted, found = set(ids), dict[str, Item]()
        for id_ in wanted:
            kept = None if id_ in found else self._with_item(owner, id_)
            if kept is not None:
                found |= {item["id"]: item for item in kept.conversation if item["id"] in wanted}
        return found

    def _with_item(self, owner: str, id_: str) -> Kept | None:
        """The newest response that has an item."""
        question = (
            "SELECT response, items FROM responses WHERE owner = ? AND number IN "
            "(SELECT response FROM items WHERE items.id = ?) ORDER BY number DESC LIMIT 1"
        )
        row = self._do(lambda database: database.execute(question, (owner, id_)).fetchone())
        return None if row is None else _kept(*row)

    def delete(self, owner: str, id_: str) -> bool:
        statement = "DELETE FROM responses WHERE owner = ? AND id = ?"
        return self._do(lambda database: database.execute(statement, (owner, id_)).rowcount) > 0

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work in a transaction, on what has not expired. A damaged file is moved aside, once."""
        with self._lock, _translated():
            try:
                return self._transact(work)
            except sqlite3.DatabaseError as error:
                if self._path is None or not _is_damage(error):
                    raise
                self._set_aside(self._path, error)
                return self._transact(work)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection as database:
            database.execute("DELETE FROM responses WHERE created_s <= ?", (self._clock() - LIFETIME_S,))
            return work(database)

    def _connect(self) -> sqlite3.Connection:
        if self._path is not None:
            make_private_folder(self._path.parent)
            _make_private_file(self._path)
        database = sqlite3.connect(self._path or ":memory:", timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA secure_delete = ON")  # who deletes a conversation wants it gone
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                database.executescript(f"{_TABLES}PRAGMA user_version = {_VERSION};")
            elif version != _VERSION:
                raise _OtherTables(f"tables of version {version}")
        except BaseException:
            database.close()
            raise
        return database

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, path: Path, error: sqlite3.DatabaseError) -> None:
        self._disconnect()
        aside = path.with_name(f"{path.name}.damaged")
        os.replace(path, aside)
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
        log.error("the kept responses cannot be read (%s): moved to %s, starting anew", error, aside)


def _kept(response: bytes, items: bytes) -> Kept | None:
    try:
        return Kept(msgspec.json.decode(response, type=dict), msgspec.json.decode(items, type=list))
    except msgspec.DecodeError:
        log.exception("a kept response cannot be read")
        return None


def _make_private_file(path: Path) -> None:
    """SQLite makes files that others may read; its journal gets the mode of the file that it belongs to."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), RECORD_MODE)
    os.close(descriptor)
    path.chmod(RECORD_MODE)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is no database of ours. The low byte of an error code is its class."""
    return isinstance(error, _OtherTables) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    doing = "keeping responses"
    with translated(doing):
        try:
            yield
        except sqlite3.Error as error:
            log.exception("%s failed", doing)
            is_full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            raise (DiskFull if is_full else StorageError)(f"{doing}: {error}") from error

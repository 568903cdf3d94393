"""What the prompt cache knows about its files: SQLite in one file, shared by all servers on a models folder.

It holds hashes only, no text and no tokens, and opens no file but its own. Each use opens a connection: a few tenths of
a millisecond, for which another process may replace the database at any time. Source: scheduler §9.6.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DiskFull, StorageError
from .files import RECORD_MODE

log = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 5.0
"""For another process; a transaction of ours takes milliseconds."""

_VERSION = 1
"""Of the tables, in the file's header."""

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    identity BLOB NOT NULL,
    model TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    used_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_identity ON entries (identity);
CREATE INDEX IF NOT EXISTS entries_by_age ON entries (used_ns);
CREATE TABLE IF NOT EXISTS blocks (
    hash BLOB NOT NULL,
    entry INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
    depth INTEGER NOT NULL,
    PRIMARY KEY (hash, entry)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_by_entry ON blocks (entry);
"""

_COLUMNS = "name, model, tokens, bytes, checksum, used_ns"

_HASHES_AT_ONCE = 500
"""SQLite binds at least 999 values in any build."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""No database, or one that lacks our tables."""


class Damaged(StorageError):
    """The file is no database of ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One saved prompt."""

    name: str
    """Of its file: the hash of its identity and tokens."""
    model: str
    tokens: int
    size_bytes: int
    checksum: bytes
    used_ns: int
    """When it was saved or last restored, since 1970."""


class PrefixIndex:
    """The table of entries. `reading` and `writing` give a transaction, in which the other methods of it are used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def reading(self) -> Iterator[Rows]:
        with self._transaction("BEGIN") as rows:
            yield rows

    @contextlib.contextmanager
    def writing(self) -> Iterator[Rows]:
        """One process at a time. An error in the block undoes what was done in it."""
        with self._transaction("BEGIN IMMEDIATE") as rows:
            yield rows

    def remove(self) -> None:
        """Forget everything, the file included."""
        for name in (self._path.name, f"{self._path.name}-journal"):
            self._path.with_name(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[Rows]:
        with _translated(), contextlib.closing(self._connect()) as database:
            database.execute(begin)
            try:
                yield Rows(database)
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # of a full disk, SQLite has done so itself
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), RECORD_MODE)
        os.close(descriptor)  # SQLite would make a file that others may read; its journal gets the mode of this one
        database = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute(
                "PRAGMA synchronous = OFF"
            )  # what a power cut spoils is found out, and only cost a prefill
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                database.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise Damaged(f"the prompt cache has tables of version {version}")
        except BaseException:
            database.close()
            raise
        return database


class Rows:
    """The entries within one transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def has(self, identity: bytes) -> bool:
        return self._database.execute("SELECT 1 FROM entries WHERE identity = ?", (identity,)).fetchone() is not None

    def deepest(self, hashes: Sequence[bytes]) -> tuple[Entry, int] | None:
        """The entry that shares most of these blocks, and how many: the smallest, where several do, since the rest of
        it would be read for nothing."""
        question = (
            f"SELECT {_COLUMNS}, depth FROM blocks JOIN entries ON number = entry WHERE hash = ? "
            "ORDER BY bytes, used_ns DESC LIMIT 1"
        )
        # what shares a block shares all before it, so that the last one known is found by halving
        found = None
        low, high = 0, len(hashes)
        while low < high:
            middle = (low + high) // 2
            row = self._database.execute(question, (hashes[middle],)).fetchone()
            if row is None:
                high = middle
            else:
                low = middle + 1
                found = Entry(*row[:-1]), row[-1]
        return found

    def sharing(self, hashes: Sequence[bytes]) -> list[Entry]:
        """Every entry that begins with the first of these blocks, and goes on with none or more of the others."""
        found = dict[str, Entry]()
        for at in range(0, len(hashes), _HASHES_AT_ONCE):
            some = hashes[at : at + _HASHES_AT_ONCE]
            marks = ",".join("?" * len(some))
            question = f"SELECT DISTINCT {_COLUMNS} FROM blocks JOIN entries ON number = entry WHERE hash IN ({marks})"
            found |= {row[0]: Entry(*row) for row in self._database.execute(question, some)}
        return list(found.values())

    def all(self) -> list[Entry]:
        """Every entry, the one used last first."""
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY used_ns DESC, number DESC")
        return [Entry(*row) for row in rows]

    def add(self, entry: Entry, identity: bytes, hashes: Sequence[bytes]) -> None:
        number = self._database.execute(
            f"INSERT OR REPLACE INTO entries ({_COLUMNS}, identity) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.name, entry.model, entry.tokens, entry.size_bytes, entry.checksum, entry.used_ns, identity),
        ).lastrowid
        self._database.executemany(
            "INSERT INTO blocks (hash, entry, depth) VALUES (?, ?, ?)",
            ((hash_, number, depth) for depth, hash_ in enumerate(hashes, 1)),
        )

    def touch(self, name: str, used_ns: int) -> None:
        self._database.execute("UPDATE entries SET used_ns = ? WHERE name = ?", (used_ns, name))

    def remove(self, name: str) -> None:
        self._database.execute("DELETE FROM entries WHERE name = ?", (name,))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the class
        if code in _DAMAGED:
            raise Damaged(f"the prompt cache's index cannot be read: {error}") from error
        log.error("the prompt cache's index failed: %s", error)
        kind = DiskFull if code == sqlite3.SQLITE_FULL else StorageError
        raise kind(f"use the prompt cache: {error}") from error

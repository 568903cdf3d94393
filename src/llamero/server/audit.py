"""The audit log: who managed models and keys, and who was refused. Names of keys stand in it, secrets never.

`~/.ollama/llamero/audit.log`, one JSON object a line, for us alone. Source: security §6.2 no. 5, §12.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from ..durations import SECOND
from ..errors import InvalidName, ModelNotFound, StorageError
from ..names import ModelName
from ..store import Store
from ..store.files import RECORD_MODE, make_private_folder
from .keys import write_instant
from .rates import Buckets, Rate

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FILE_BYTES = 8 * 2**20
"""Some fifty thousand lines; then the file becomes `audit.log.1`, in place of the one before."""
REFUSALS = Rate(60, "m")
"""That are written down: more of them would only push out what matters. The next line tells how many were left out."""
MAX_TEXT_CHARS = 512

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@dataclass(slots=True)
class Notes:
    """What a handler has to add to the line of its request."""

    model: str = ""
    old: str = ""
    """Digest of the manifest that the name stood for before; empty: of none."""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    address: str
    """Of the client; empty on a unix socket."""
    key: str
    """The name of the API key; empty: none was shown, or a wrong one."""
    method: str
    route: str
    """As the table of routes has it, or the path that is none."""
    status: int
    notes: Notes


class Audit:
    """`clock` tells seconds since 1970. A log that cannot be written is complained of once and stops nothing."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._refusals = Buckets()
        self._left_out = 0
        self._complained = False

    def refused(self, entry: Entry) -> None:
        """Write down that a request was refused, unless very many are."""
        if self._refusals.take("", REFUSALS, int(self._clock() * SECOND)):
            self._left_out += 1
        else:
            self.done(entry)

    def done(self, entry: Entry) -> None:
        """Write down what a request did."""
        fields = {
            "time": write_instant(self._clock()),
            "address": entry.address,
            "key": entry.key,
            "method": entry.method,
            "route": entry.route,
            "status": entry.status,
            "model": entry.notes.model,
            "old": entry.notes.old,
            "new": entry.notes.new,
            "refusals_left_out": self._left_out,
        }
        line = {
            name: value[:MAX_TEXT_CHARS] if isinstance(value, str) else value
            for name, value in fields.items()
            if value or name == "key"
        }
        try:
            self._append(json.dumps(line).encode() + b"\n")
            self._left_out = 0
        except OSError as error:
            if not self._complained:
                log.error("the audit log cannot be written: %s: %s", self._path, error.strerror)
            self._complained = True

    def _append(self, line: bytes) -> None:
        """In one write, to whatever file has the name now: another program may rotate it too. Raises OSError."""
        make_private_folder(self._path.parent)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK, RECORD_MODE)
        try:
            os.write(descriptor, line)
            size_bytes = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if size_bytes >= MAX_FILE_BYTES:
            os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))


def notes_of(request: Request) -> Notes:
    """Those of the request that is being answered; the app has put them there."""
    notes: Notes = request.state.notes
    return notes


@contextmanager
def changing(notes: Notes, store: Store, name: ModelName | str) -> Iterator[None]:
    """Note for which manifest a name stands before and after the block. It reads the disk."""
    notes.model = name if isinstance(name, str) else name.full
    notes.old = _digest(store, name)
    try:
        yield
    finally:
        notes.new = _digest(store, name)


async def change(request: Request, store: Store, name: ModelName, work: Callable[[], T]) -> T:
    """Do on a thread what changes the manifest of `name`, and note it."""

    def noted() -> T:
        with changing(notes_of(request), store, name):
            return work()

    return await asyncio.to_thread(noted)


def _digest(store: Store, name: ModelName | str) -> str:
    """`sha256:…` of the manifest in force; empty when there is none, or none that can be read."""
    try:
        name = ModelName.parse(name) if isinstance(name, str) else name
        return f"sha256:{store.manifests.read(store.manifests.adopt(name)).manifest.digest}"
    except (InvalidName, ModelNotFound, StorageError):
        return ""

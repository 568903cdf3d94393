"""The log file of a server in the background: renamed when it is full, and only so many kept (security §9.2).

What is written into it is `logs.py`'s. It is the standard output and error of the server, opened before that began, so
a new file takes the place of both. The log of a service is the journal's, and not looked after here.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from ..config import Settings
from .logs import ACCESS

MAX_BYTES = 10 * 2**20
"""Some 70,000 requests."""
KEPT = 5
"""Older files: `server-1.log` is the youngest of them, as stock Ollama calls them on Windows."""
MODE = 0o640
"""The group of a machine's administrators may read it; others may not."""

_STREAMS = (1, 2)


def log_path(settings: Settings) -> Path:
    return settings.home / "logs" / "server.log"


def open_log(path: Path, max_bytes: int = MAX_BYTES) -> int:
    """A descriptor to write to, for a server that will be started; a full file makes way first. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size >= max_bytes:
            _make_way(path)
    return _open(path)


def keep_small(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """See to it, for the life of this process, that the file stays small, if it is where we write to."""
    for logger in (logging.getLogger(), logging.getLogger(ACCESS)):
        logger.addHandler(_Roller(path, max_bytes))


class _Roller(logging.Handler):
    """Looks after each line; what the line says is not its affair."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a log that cannot be renamed grows: better than a server that fails
            if os.fstat(_STREAMS[-1]).st_size >= self._max_bytes:
                self._roll()

    def _roll(self) -> None:
        current = self._path.stat()
        ours = [stream for stream in _STREAMS if os.path.samestat(os.fstat(stream), current)]
        if not ours:
            return  # somebody sent our output elsewhere, and looks after it
        _make_way(self._path)
        descriptor = _open(self._path)
        for stream in ours:
            os.dup2(descriptor, stream)
        os.close(descriptor)


def _make_way(path: Path) -> None:
    """Rename what is there: `server.log` to `server-1.log`, that one to `server-2.log`; the oldest goes."""
    names = [path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, KEPT + 1))]
    for older, younger in reversed(list(zip(names[1:], names, strict=False))):
        with contextlib.suppress(FileNotFoundError):
            os.replace(younger, older)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, MODE)

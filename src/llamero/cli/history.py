"""The lines that somebody typed into the REPL, in `~/.ollama/history` (cli §6.5). How they are recalled is `prompt`'s.

The file is shared with the reference: one entry per line, the newest last. A line break inside an entry is written as
U+2028, so that an entry stays one line for both programs (cli G-13).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MAX_ENTRIES = 100
MAX_FILE_BYTES = 16 * 2**20
"""Of a larger file the end is read; a hundred entries are a hundred screens at the very most."""
_LINE_BREAK = "\u2028"


class History:
    """At most 100 entries, oldest first. A home that cannot be written costs one warning and the saving.

    While nothing is saved, nothing is added: it would be in the file as soon as saving goes on.
    """

    def __init__(self, path: Path, *, is_saved: bool, warn: Callable[[str], None]) -> None:
        self.is_saved = is_saved
        self._path = path
        self._warn = warn
        self._can_write = True
        try:
            self.entries = self._load()
        except OSError as error:
            self.entries = []
            self._give_up(error)

    def add(self, entry: str) -> None:
        entry = entry.strip()
        if not entry or not self.is_saved:
            return
        self.entries = [*self.entries, entry][-MAX_ENTRIES:]
        if self._can_write:
            try:
                self._save()
            except OSError as error:
                self._give_up(error)

    def _load(self) -> list[str]:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_FILE_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        entries = [line.replace(_LINE_BREAK, "\n").strip() for line in lines]
        return [entry for entry in entries if entry][-MAX_ENTRIES:]

    def _save(self) -> None:
        draft = self._path.with_suffix(".tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for entry in self.entries:
                file.write(entry.replace("\n", _LINE_BREAK).encode(errors="replace") + b"\n")
        os.replace(draft, self._path)

    def _give_up(self, error: OSError) -> None:
        self._can_write = False
        self._warn(f"the history is not saved: {self._path}: {error.strerror}")

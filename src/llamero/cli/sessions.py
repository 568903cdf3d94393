"""Conversations of the REPL, kept as files so that they can be gone on with (cli G-16). What is in one `session` knows.

One JSON file each in `~/.ollama/llamero/sessions`, readable by their owner alone; the newest are kept.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

MAX_KEPT = 100
MAX_FILE_BYTES = 256 * 2**20
"""A long conversation with pictures in it."""


class Kept(NamedTuple):
    path: Path
    saved_at: datetime
    model: str
    title: str
    """The first thing that was asked."""
    record: Mapping[str, Any]

    @property
    def turns(self) -> int:
        return sum(message.get("role") == "user" for message in self.record["messages"])


class Sessions:
    """The folder of them. One that cannot be written costs one warning and the keeping."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn
        self._can_write = True

    def new_path(self) -> Path:
        """Where a conversation that begins now is kept: names sort by their time."""
        return self._folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.json"

    def keep(self, path: Path, record: Mapping[str, Any]) -> None:
        if not self._can_write:
            return
        try:
            for folder in (self._folder.parent, self._folder):  # a mode is not a missing parent's
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_new = not path.exists()
            draft = path.with_suffix(".tmp")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(record, file, ensure_ascii=False)
            os.replace(draft, path)
            if is_new:
                for old in self._paths()[MAX_KEPT:]:
                    old.unlink(missing_ok=True)
        except OSError as error:
            self._can_write = False
            self._warn(f"the conversation is not kept: {path}: {error.strerror}")

    def forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def all(self) -> list[Kept]:
        """The newest first; files that are none of ours are passed over."""
        kept = [found for path in self._paths() if (found := _read(path))]
        return sorted(kept, key=lambda each: each.saved_at, reverse=True)

    def newest(self, model: str) -> Kept | None:
        return next((kept for kept in self.all() if kept.model == model), None)

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except OSError:
            return []


def _read(path: Path) -> Kept | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        record = json.loads(path.read_bytes())
        saved_at = datetime.fromisoformat(record["saved_at"])
        messages = record["messages"]
        title = next(str(each["content"]) for each in messages if each["role"] == "user")
        return Kept(path, saved_at, str(record["model"]), " ".join(title.split()), record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return None

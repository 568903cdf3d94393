"""The files of coding agents that `launch` changes: written beside a copy of what they were, and put back on demand.

What is put back is the file before the first change. One that somebody changed after us is left alone, and said so.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import LlameroError

BACKUP_ENDING = ".before-ollama"
MAX_FILE_BYTES = 16 * 2**20
"""Settings have some kilobytes; anything much larger is something else."""
PRIVATE = 0o600
"""Settings may hold keys."""


class AgentFiles:
    """`record` is where it is written down which files were changed, for which agent. Raises LlameroError."""

    def __init__(self, record: Path) -> None:
        self._record = record

    def read(self, path: Path) -> str:
        """The file's text; empty when there is none."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise LlameroError(f"cannot read {path}: {error.strerror}") from error
        if len(data) > MAX_FILE_BYTES:
            raise LlameroError(f"{path} is larger than any settings")
        try:
            return data.decode()
        except UnicodeError:
            raise LlameroError(f"{path} is not UTF-8") from None

    def write(self, agent: str, path: Path, text: str) -> Path | None:
        """Replace the file, or make it; returns where the version before the first change lies, if there was one."""
        real = path.resolve()  # settings are often links into a folder that is kept under version control
        known = self._known()
        ours = _mapping(known.get(agent))
        backup = str(ours.get("backup") or "") if ours.get("path") == str(real) else None
        try:
            if backup is None:
                backup = ""
                if real.exists():
                    backup = f"{real}{BACKUP_ENDING}"
                    shutil.copy2(real, backup)
            _replace(real, text)
            known[agent] = {"path": str(real), "backup": backup, "digest": _digest(text)}
            _replace(self._record, json.dumps(known, indent=2) + "\n")
        except OSError as error:
            raise LlameroError(f"cannot write {error.filename or real}: {error.strerror}") from error
        return Path(backup) if backup else None

    def restore(self, agent: str) -> str:
        """Undo `write`; says in a line what was done."""
        known = self._known()
        ours = _mapping(known.pop(agent, None))
        if not ours:
            return "nothing was changed, so there is nothing to restore"
        path, backup = Path(str(ours.get("path"))), str(ours.get("backup") or "")
        text = self.read(path)
        if text and _digest(text) != ours.get("digest"):
            was = f"; what it was before is in {backup}" if backup else ""
            raise LlameroError(f"{path} was changed by somebody else since, and is left as it is{was}")
        try:
            if backup:
                os.replace(backup, path)
            else:
                path.unlink(missing_ok=True)
            _replace(self._record, json.dumps(known, indent=2) + "\n")
        except OSError as error:
            raise LlameroError(f"cannot restore {path}: {error.strerror}") from error
        return f"{path} is as it was before" if backup else f"{path} is removed: there was none before"

    def _known(self) -> dict[str, Any]:
        try:
            return _mapping(json.loads(self.read(self._record) or "{}"))
        except ValueError:
            raise LlameroError(f"{self._record} is not JSON: remove it, and restore by hand what it is about") from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _replace(path: Path, text: str) -> None:
    """All of the text or nothing, with the rights that the file has, else readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as private as the file
    mode = PRIVATE
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise

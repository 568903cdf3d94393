"""`~/.ollama/config.json`: which model each coding agent was last started with. The reference keeps it too (cli §3.13).

Whatever else is in it stays. It is a convenience: a file that cannot be read or written costs a warning.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Integrations:
    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn

    def model(self, agent: str) -> str:
        """Empty when it was never started."""
        document = self._read() or {}
        entry = _mapping(_mapping(document.get("integrations")).get(agent))
        models = entry.get("models")
        return str(models[0]) if isinstance(models, list) and models else ""

    def remember(self, agent: str, model: str) -> None:
        document = self._read()
        if document is None:
            self._warn(f"{self._path} is not a JSON object, so the model is not remembered")
            return
        integrations = document["integrations"] = _mapping(document.get("integrations"))
        others = _mapping(integrations.get(agent))
        integrations[agent] = others | {"models": [model]}
        document |= {"last_model": model, "last_selection": agent}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".tmp")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=2)
            os.replace(draft, self._path)
        except OSError as error:
            self._warn(f"the model is not remembered: {self._path}: {error.strerror}")

    def _read(self) -> dict[str, Any] | None:
        """None when there is something that is none of ours."""
        try:
            document = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

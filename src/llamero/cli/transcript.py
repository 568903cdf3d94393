"""A conversation as a file for people, in Markdown, or for programs, in JSON (cli G-16)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LlameroError

Message = Mapping[str, Any]

_NAMES = {"user": "You", "system": "System"}


def as_markdown(messages: Sequence[Message], model: str) -> str:
    """One heading per message. Thinking is quoted, pictures are only counted."""
    return "".join(_section(message, model) for message in messages)


def _section(message: Message, model: str) -> str:
    lines = [f"## {_NAMES.get(str(message['role']), model)}", ""]
    if message.get("thinking"):
        lines += [f"> {line}".rstrip() for line in str(message["thinking"]).strip().splitlines()] + [""]
    if message.get("images"):
        count = len(message["images"])
        lines += [f"({count} {'picture' if count == 1 else 'pictures'})", ""]
    lines += [str(message["content"]).strip(), ""]
    for call in message.get("tool_calls", ()):
        lines += ["```json", json.dumps(call["function"], ensure_ascii=False), "```", ""]
    return "\n".join(lines) + "\n"


def write_transcript(path: Path, messages: Sequence[Message], model: str) -> None:
    """All of a conversation: JSON when the name says so, else Markdown. Raises LlameroError."""
    if path.suffix.lower() == ".json":
        text = json.dumps({"model": model, "messages": list(messages)}, ensure_ascii=False, indent=2) + "\n"
    else:
        text = as_markdown(messages, model)
    _write(path, text, os.O_TRUNC)


def add_to_transcript(path: Path, messages: Sequence[Message], model: str) -> None:
    """Append the messages of one turn. Raises LlameroError."""
    _write(path, as_markdown(messages, model), os.O_APPEND)


def _write(path: Path, text: str, how: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LlameroError(f"could not write {path}: {error.strerror}") from error

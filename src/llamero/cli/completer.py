"""What the Tab key completes in the REPL: commands, models, paths (cli §6.4)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from .attachments import ENDINGS
from .manual import commands

TAKE_A_MODEL = ("/load ", "/list ")
TAKE_A_PATH = ("/export ",)
MAX_FOUND = 200
"""Files of a folder; nobody reads more."""

_ESCAPED = re.compile(r"(?:\\.|[^\s\\])*$")
_NEEDS_ESCAPE = re.compile(r"([ ()\[\]{}$&;'\\*?~])")


class ReplCompleter(Completer):
    """`models` asks the server for its models' names."""

    def __init__(self, models: Callable[[], Sequence[str]]) -> None:
        self._models = models
        self._commands = commands()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        if text.startswith("/") and "\n" not in text:
            yield from self._of_command(text)
        yield from self._paths(text)

    def _of_command(self, text: str) -> Iterator[Completion]:
        for command in TAKE_A_MODEL:
            if text.startswith(command):
                typed = text.removeprefix(command)
                for name in self._models():
                    if name.startswith(typed):
                        yield Completion(name, start_position=-len(typed))
                return
        seen = set()
        begun = text.rpartition(" ")[0]
        for command, meaning in self._commands.items():
            if not command.startswith(text):
                continue
            # one word at a time: `/set` first, then what can be set
            word = command[len(begun) :].strip().split(" ")[0]
            if word in seen:
                continue
            seen.add(word)
            is_all = command == f"{begun} {word}".strip()
            yield Completion(word, start_position=len(begun) + bool(begun) - len(text), display_meta=meaning * is_all)

    def _paths(self, text: str) -> Iterator[Completion]:
        typed = _ESCAPED.search(text)[0]  # type: ignore[index]  # it matches the empty text too
        wants_any = text.startswith(TAKE_A_PATH)
        mark = "@" if typed.startswith("@") else ""
        plain = re.sub(r"\\(.)", r"\1", typed.removeprefix("@"))
        if not (mark or wants_any or plain.startswith(("/", "./", "../", "~/"))):
            return
        name = plain.rpartition("/")[2]
        shown_folder = plain.removesuffix(name) if name else plain
        for entry in _entries(Path(shown_folder or ".").expanduser()):
            is_folder = entry.is_dir()
            if not entry.name.startswith(name) or (entry.name.startswith(".") and not name):
                continue
            if is_folder or wants_any or entry.name.lower().endswith(ENDINGS):
                full = shown_folder + entry.name + ("/" if is_folder else "")
                escaped = _NEEDS_ESCAPE.sub(r"\\\1", full) if not full.startswith("~") else full
                yield Completion(mark + escaped, start_position=-len(typed), display=entry.name + "/" * is_folder)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)[:MAX_FOUND]
    except OSError:
        return []

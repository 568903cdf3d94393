"""The REPL's slash commands (cli §6.3): exact words, one method each. Talking to the model is `session`'s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..client import ShownModel
from ..errors import BadRequest, InvalidName, NotFound, ServerAnswered
from ..names import ModelName
from ..options import parse_parameter
from .attachments import paths_in
from .format import relative_time, table
from .gauge import human_tokens
from .history import History
from .manual import FILES_HELP, HELP, PARAMETER_HELP, SET_HELP, SHORTCUTS_HELP, SHOW_HELP, commands
from .models import list_models
from .quotes import quoted_text
from .run import THINK_VALUES
from .session import Session
from .show import sections
from .transcript import write_transcript

Outcome = Literal["done", "leave", "message"]
"""`message`: the line is none of ours and goes to the model."""


TITLE_CHARS = 40
"""Of a conversation's first question, as much as tells it from others."""


class SlashCommands:
    """Obeys lines that begin with a slash."""

    def __init__(self, session: Session, history: History) -> None:
        self._session = session
        self._history = history
        self._terminal = session.app.terminal

    def obey(self, line: str) -> Outcome:
        words = line.split()
        match words[0]:
            case "/bye" | "/exit":
                return "leave"
            case "/?" | "/help":
                self._help(words[1:])
            case "/set":
                self._set(words[1:], line)
            case "/show":
                self._show(words[1:])
            case "/load":
                self._load(words[1:])
            case "/save":
                self._save(words[1:])
            case "/clear":
                self._session.clear()
                self._say("Cleared session context")
            case "/sessions":
                self._sessions()
            case "/resume":
                self._resume(words[1:])
            case "/export":
                self._export(line)
            case "/usage":
                self._usage()
            case "/list":
                list_models(self._session.app, words[1] if words[1:] else "", as_json=False)
            case word:
                if self._session.takes_files and any(path.startswith(word) for path in paths_in(line)):
                    return "message"
                self._say(f"Unknown command '{word}'. Type /? for help")
        return "done"

    def _say(self, text: str) -> None:
        self._terminal.out(self._terminal.safe(f"{text}\n"))

    def _help(self, words: Sequence[str]) -> None:
        match words[0].removeprefix("/") if words else "":
            case "set":
                text = SET_HELP
            case "show":
                text = SHOW_HELP
            case "shortcut" | "shortcuts":
                text = SHORTCUTS_HELP
            case _:
                text = HELP + (FILES_HELP if self._session.takes_files else "")
        self._terminal.err(f"{text}\n")

    # --- /set ------------------------------------------------------------------------------------------------------

    def _set(self, words: Sequence[str], line: str) -> None:
        session = self._session
        match words:
            case []:
                self._terminal.err(f"{SET_HELP}\n")
            case ["parameter", name, *values] if values:
                self._set_parameter(name, values)
            case ["parameter", *_]:
                self._terminal.err(f"{PARAMETER_HELP}\n")
            case ["system", _, *_]:
                session.set_system(quoted_text(line.split(None, 2)[2].rstrip()))
                self._say("Set system message.")
            case ["system"]:
                self._terminal.err(f"{SET_HELP}\n")
            case ["history" | "nohistory" as mode]:
                self._history.is_saved = session.is_kept = mode == "history"
            case ["wordwrap" | "nowordwrap" as mode]:
                session.word_wrap = mode == "wordwrap"
                self._say(f"Set '{mode}' mode.")
            case ["markdown" | "nomarkdown" as mode]:
                session.markdown = mode == "markdown"
                self._say(f"Set '{mode}' mode.")
            case ["fold" | "nofold" as mode]:
                session.folds_thinking = mode == "fold"
                self._say(f"Set '{mode}' mode.")
            case ["vi" | "novi" as mode]:
                session.vi_keys = mode == "vi"
                self._say(f"Set '{mode}' mode.")
            case ["shell" | "noshell" as mode]:
                session.runs_commands = mode == "shell"
                self._say(f"Set '{mode}' mode.")
            case ["format", "json"]:
                session.set(format="json")
                self._say("Set format to 'json' mode.")
            case ["format", *_]:
                self._say("Invalid or missing format. For 'json' mode use '/set format json'")
            case ["noformat"]:
                session.set(format=None)
                self._say("Disabled format.")
            case ["verbose" | "quiet" as mode]:
                session.verbose = mode == "verbose"
                self._say(f"Set '{mode}' mode.")
            case ["think"]:
                self._set_think("")
            case ["think", level]:
                self._set_think(level)
            case ["nothink"]:
                session.set(think=False)
                self._say("Set 'nothink' mode.")
            case [word, *_] if f"/set {word}" in commands():
                self._say(f"Usage:\n  /set {word}")
            case _:
                self._say(f"Unknown command '/set {words[0]}'. Type /? for help")

    def _set_parameter(self, name: str, values: list[str]) -> None:
        try:
            value = parse_parameter(name, values)
        except BadRequest as error:
            self._say(f"Couldn't set parameter: {json.dumps(str(error), ensure_ascii=False)}")
            return
        self._session.set(options={**self._session.ask.options, name: value})
        taken = values if isinstance(value, list) else values[:1]
        self._say(f"Set parameter '{name}' to '{', '.join(taken)}'")

    def _set_think(self, level: str) -> None:
        if level not in THINK_VALUES:
            self._say(f"Invalid level '{level}': it is one of {', '.join(filter(None, THINK_VALUES))}")
            return
        if "thinking" not in self._session.shown.capabilities:
            self._terminal.err(f'warning: model "{self._session.model}" does not support thinking output\n')
        self._session.set(think=THINK_VALUES[level])
        self._say(f"Set 'think' mode to '{level}'." if level else "Set 'think' mode.")

    # --- /show -----------------------------------------------------------------------------------------------------

    def _show(self, words: Sequence[str]) -> None:
        session, shown = self._session, self._session.shown
        match words:
            case ["info", *_]:
                self._terminal.err(sections(self._as_set()))
            case ["license", *_]:
                self._say(shown.license or "No license was specified for this model.")
            case ["modelfile", *_]:
                self._say(self._as_set().modelfile)
            case ["parameters", *_]:
                self._show_parameters()
            case ["system", *_]:
                text = session.system or shown.system
                self._say(f"{text}\n" if text else "No system message was specified for this model.")
            case ["template", *_]:
                self._say(shown.template or "No prompt template was specified for this model.")
            case ["thinking", *_]:
                session.show_thinking()
            case []:
                self._terminal.err(f"{SHOW_HELP}\n")
            case _:
                self._say(f"Unknown command '/show {words[0]}'. Type /? for help")

    def _as_set(self) -> ShownModel:
        """The model with what was set here."""
        session = self._session
        return session.client.show(session.model, system=session.system, options=session.ask.options)

    def _show_parameters(self) -> None:
        lines = self._session.shown.parameters.splitlines()
        defined = lines or ["No additional parameters were specified for this model."]
        self._say("Model defined parameters:\n" + "".join(f"  {line}\n" for line in defined))
        if options := self._session.ask.options:
            rows = (f"  {name:<30} {_plain(value)}\n" for name, value in options.items())
            self._say("User defined parameters:\n" + "".join(rows))

    # --- other models ----------------------------------------------------------------------------------------------

    def _load(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            self._say("Usage:\n  /load <modelname>")
            return
        self._say(f"Loading model '{words[0]}'")
        try:
            self._session.switch(words[0])
        except ServerAnswered as error:
            if error.status != NotFound.status:
                raise
            self._say(f"Couldn't find model '{words[0]}'")

    def _save(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            self._say("Usage:\n  /save <modelname>")
            return
        try:
            ModelName.parse(words[0])
        except InvalidName:
            self._say(f"error: The model name '{words[0]}' is invalid")
            return
        self._session.save(words[0])
        self._say(f"Created new model '{words[0]}'")

    # --- conversations ---------------------------------------------------------------------------------------------

    def _sessions(self) -> None:
        now = datetime.now(UTC)
        rows = [
            (str(number), kept.model, f"{kept.turns}", relative_time(kept.saved_at, now), _short(kept.title))
            for number, kept in enumerate(self._session.kept.all(), 1)
        ]
        self._say("\n".join(table(rows, ("NUMBER", "MODEL", "QUESTIONS", "LAST", "FIRST"), cell_columns=TITLE_CHARS)))

    def _resume(self, words: Sequence[str]) -> None:
        if len(words) > 1 or (words and not words[0].isdecimal()):
            self._say("Usage:\n  /resume [number]")
            return
        kept = self._session.kept.all()
        number = int(words[0]) if words else 1
        if not 1 <= number <= len(kept):
            self._say(f"There is no conversation {number}. /sessions lists them." if kept else "None is kept yet.")
            return
        self._session.resume(kept[number - 1])

    def _export(self, line: str) -> None:
        _, _, name = line.partition(" ")
        if not name.strip():
            self._say("Usage:\n  /export <file>")
            return
        path = Path(name.strip()).expanduser()
        write_transcript(path, self._session.messages, self._session.model)
        self._say(f"Wrote {len(self._session.messages)} messages to '{path}'")

    def _usage(self) -> None:
        gauge = self._session.gauge
        if not str(gauge):
            self._say("Nothing is known of the context yet: ask something first.")
            return
        used, limit = human_tokens(gauge.used_tokens), human_tokens(gauge.limit_tokens)
        self._say(f"{used} of {limit} tokens of the context are used ({gauge.share:.0%})")


def _short(text: str) -> str:
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1] + "…"


def _plain(value: Any) -> str:
    """A value as it was typed."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)

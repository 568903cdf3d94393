"""The REPL's slash commands (cli §6.3): exact words, one method each. Talking to the model is `session`'s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import BadRequest, InvalidName, NotFound, ServerAnswered
from ..names import ModelName
from ..options import parse_parameter
from .attachments import paths_in
from .history import History
from .models import list_models
from .quotes import quoted_text
from .session import Session
from .show import sections

Outcome = Literal["done", "leave", "message"]
"""`message`: the line is none of ours and goes to the model."""

HELP = """\
Available Commands:
  /set            Change a setting of this session
  /show           Show what is known of the model
  /load <model>   Begin anew with another model
  /save <model>   Save this session as a model
  /clear          Forget the conversation
  /bye            Leave
  /?, /help       Help for a command
  /? shortcuts    Help for the keyboard

Use \""" to begin a message of several lines.
"""
FILES_HELP = "Write the path of a .jpg, .png, .webp or .wav file to show it to the model.\n"
SET_HELP = """\
Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set the system message
  /set history           Save what is typed
  /set nohistory         Do not save what is typed
  /set wordwrap          Break lines between words
  /set nowordwrap        Leave lines as they come
  /set format json       Answer in JSON
  /set noformat          Answer freely
  /set verbose           Show statistics after each answer
  /set quiet             Show no statistics
  /set think [level]     Let the model think first
  /set nothink           Let the model answer at once
"""
SHOW_HELP = """\
Available Commands:
  /show info         Show an overview of the model
  /show license      Show the licence
  /show modelfile    Show the Modelfile, with what was set here
  /show parameters   Show the parameters, and those set here
  /show system       Show the system message
  /show template     Show the prompt template
"""
SHORTCUTS_HELP = """\
Available keyboard shortcuts:
  Ctrl + a            Go to the start of the line (Home)
  Ctrl + e            Go to the end of the line (End)
  Alt + b             Go one word back
  Alt + f             Go one word on
  Ctrl + k            Delete up to the end of the line
  Ctrl + u            Delete up to the start of the line
  Ctrl + w            Delete the word before the cursor
  Ctrl + j            Begin a new line

  Ctrl + l            Clear the screen
  Ctrl + c            Stop the answer
  Ctrl + d            Leave (/bye)
"""
PARAMETER_HELP = """\
Available Parameters:
  /set parameter seed <int>             Random number seed
  /set parameter num_predict <int>      Most tokens to generate
  /set parameter top_k <int>            Pick from the k likeliest tokens
  /set parameter top_p <float>          Pick from the likeliest tokens up to this probability
  /set parameter min_p <float>          Drop tokens below this share of the likeliest one
  /set parameter num_ctx <int>          Context window in tokens
  /set parameter temperature <float>    Spread of the choice, 0 for none
  /set parameter repeat_penalty <float> Penalty on repeated tokens
  /set parameter repeat_last_n <int>    How far back repetition counts
  /set parameter num_gpu <int>          Layers on the GPU
  /set parameter stop <string> ...      Texts that end the answer
"""


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
                session.set_system(quoted_text(line.split(None, 2)[2]))
                self._say("Set system message.")
            case ["system"]:
                self._terminal.err(f"{SET_HELP}\n")
            case ["history"]:
                self._history.is_saved = True
            case ["nohistory"]:
                self._history.is_saved = False
            case ["wordwrap" | "nowordwrap" as mode]:
                session.word_wrap = mode == "wordwrap"
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
            case ["think", *level]:
                self._set_think(level[0] if level else "")
            case ["nothink"]:
                session.set(think=False)
                self._say("Set 'nothink' mode.")
            case _:
                self._say(f"Unknown command '/set {words[0]}'. Type /? for help")

    def _set_parameter(self, name: str, values: list[str]) -> None:
        try:
            value = parse_parameter(name, values)
        except BadRequest as error:
            self._say(f"Couldn't set parameter: {json.dumps(str(error), ensure_ascii=False)}")
            return
        self._session.set(options={**self._session.ask.options, name: value})
        self._say(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _set_think(self, level: str) -> None:
        if "thinking" not in self._session.shown.capabilities:
            self._terminal.err(f'warning: model "{self._session.model}" does not support thinking output\n')
        self._session.set(think=level or True)
        self._say(f"Set 'think' mode to '{level}'." if level else "Set 'think' mode.")

    # --- /show -----------------------------------------------------------------------------------------------------

    def _show(self, words: Sequence[str]) -> None:
        session, shown = self._session, self._session.shown
        match words:
            case ["info", *_]:
                self._terminal.err(sections(session.client.show(session.model)))
            case ["license", *_]:
                self._say(shown.license or "No license was specified for this model.")
            case ["modelfile", *_]:
                changed = session.client.show(session.model, system=session.system, options=session.ask.options)
                self._say(changed.modelfile)
            case ["parameters", *_]:
                self._show_parameters()
            case ["system", *_]:
                text = session.system or shown.system
                self._say(f"{text}\n" if text else "No system message was specified for this model.")
            case ["template", *_]:
                self._say(shown.template or "No prompt template was specified for this model.")
            case []:
                self._terminal.err(f"{SHOW_HELP}\n")
            case _:
                self._say(f"Unknown command '/show {words[0]}'. Type /? for help")

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


def _plain(value: Any) -> str:
    """A value as it was typed."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The REPL: asks for a line, gives it to the slash commands or to the model, and goes on (cli §6)."""

from __future__ import annotations

from typing import Protocol

from ..client import Ask, Client, ShownModel
from ..errors import LlameroError
from .app import App
from .history import History
from .keyboard import typing_waits
from .quotes import is_command, quoted_text
from .run import RunFlags
from .session import Session
from .shell import MARK, run_line
from .slash import SlashCommands


class Reader(Protocol):
    def read(self, draft: str = "") -> str:
        """The next message, begun with `draft`. Ctrl+C raises KeyboardInterrupt, the end of the input EOFError."""


def run_repl(app: App, client: Client, shown: ShownModel, ask: Ask, flags: RunFlags, first: str = "") -> None:
    """Load the model and talk until the user leaves. `first` is asked at once."""
    from .prompt import Prompt

    with typing_waits(app.terminal) as typed:
        session = Session(app, client, shown, ask, flags)
        session.load()
        if flags.resume:
            resume_newest(session)
        history = History(app.settings.home / "history", is_saved=not app.settings.no_history, warn=app.warn)
        if first:
            app.terminal.out(app.terminal.safe(f">>> {first}\n"))
            session.say(first)
        converse(session, Prompt(session, history, typed), history)


def resume_newest(session: Session) -> None:
    if kept := session.kept.newest(session.model):
        session.resume(kept)
    else:
        session.app.warn(f"no conversation with {session.model} is kept, so this one begins anew")


def converse(session: Session, reader: Reader, history: History) -> None:
    """Obey and answer until `reader` ends. Nothing that fails ends it: what was typed may be tried again (cli G-18)."""
    terminal = session.app.terminal
    commands = SlashCommands(session, history)
    draft = ""
    while True:
        try:
            text = reader.read(draft)
        except KeyboardInterrupt:
            draft = ""
            terminal.out("Use Ctrl + d or /bye to exit.\n")
            continue
        except EOFError:
            return
        draft = ""
        history.add(text)
        try:
            if session.runs_commands and text.startswith(MARK):
                run_line(session.app, text.removeprefix(MARK))
                continue
            outcome = commands.obey(text) if is_command(text) else "message"
            if outcome == "leave":
                return
            if outcome == "message" and (message := quoted_text(text)).strip() and not session.say(message):
                draft = text
        except LlameroError as error:
            session.app.fail(error)
        except KeyboardInterrupt:
            terminal.out("\n")

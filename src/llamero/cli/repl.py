"""The REPL: asks for a line, gives it to the slash commands or to the model, and goes on (cli §6)."""

from __future__ import annotations

from typing import Protocol

from ..client import Ask, Client, ShownModel
from ..errors import LlameroError
from .app import App
from .history import History
from .quotes import is_command, quoted_text
from .run import RunFlags
from .session import Session
from .slash import SlashCommands


class Reader(Protocol):
    def read(self) -> str:
        """The next message. Ctrl+C raises KeyboardInterrupt, the end of the input EOFError."""


def run_repl(app: App, client: Client, shown: ShownModel, ask: Ask, flags: RunFlags) -> None:
    """Load the model and talk until the user leaves."""
    from .prompt import Prompt

    session = Session(app, client, shown, ask, flags)
    session.load()
    history = History(app.settings.home / "history", is_saved=not app.settings.no_history, warn=app.warn)
    converse(session, Prompt(app.terminal, history), history)


def converse(session: Session, reader: Reader, history: History) -> None:
    """Obey and answer until `reader` ends. Nothing that fails ends it: whoever typed may try again (cli G-18)."""
    terminal = session.app.terminal
    commands = SlashCommands(session, history)
    while True:
        try:
            text = reader.read()
        except KeyboardInterrupt:
            terminal.out("\nUse Ctrl + d or /bye to exit.\n")
            continue
        except EOFError:
            return
        history.add(text)
        try:
            outcome = commands.obey(text) if is_command(text) else "message"
            if outcome == "leave":
                return
            if outcome == "message" and (message := quoted_text(text)).strip():
                session.say(message)
        except LlameroError as error:
            session.app.fail(error)
        except KeyboardInterrupt:
            terminal.out("\n")

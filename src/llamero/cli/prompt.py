"""Reads one message from a terminal: the line editor of the REPL (cli §6.1, §6.2, §6.4). What it means is `repl`'s."""

from __future__ import annotations

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import AfterInput, ConditionalProcessor, Processor
from prompt_toolkit.output import ColorDepth, create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from .history import History
from .quotes import is_open
from .terminal import Terminal

TAB_BLANKS = " " * 8
GREY = "#8a8a8a"
"""Colour 245 of the 256."""


@Condition
def _is_empty() -> bool:
    return not get_app().current_buffer.text


@Condition
def _is_at_next_line() -> bool:
    """In the middle of a message of several lines, with nothing on its last line yet."""
    return get_app().current_buffer.text.endswith("\n")


# not the session's own placeholder, which stays on the screen when an empty line is given up
_PLACEHOLDERS: list[Processor] = [
    ConditionalProcessor(AfterInput([(GREY, text)]), condition & ~is_done)
    for text, condition in (("Send a message (/? for help)", _is_empty), ("Press Enter to send", _is_at_next_line))
]


class Prompt:
    """Asks for messages. Ctrl+C raises KeyboardInterrupt, Ctrl+D on an empty line EOFError."""

    def __init__(self, terminal: Terminal, history: History) -> None:
        output = create_output(terminal.stdout)
        if isinstance(output, Vt100_Output):
            # asking a terminal where its cursor is leaves the answer in the input of one that answers late
            output.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            ">>> ",
            multiline=True,
            # named, the default colour is a style; a blank without one would only be jumped over at the end of a line
            prompt_continuation=[("fg:ansidefault", "... ")],
            input_processors=[] if terminal.is_plain else _PLACEHOLDERS,
            history=InMemoryHistory(history.entries),
            key_bindings=_key_bindings(),
            enable_suspend=True,
            color_depth=ColorDepth.DEPTH_1_BIT if terminal.is_plain else ColorDepth.DEPTH_8_BIT,
            input=create_input(terminal.stdin),
            output=output,
        )

    def read(self) -> str:
        return self._session.prompt()


def _key_bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("c-j")
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("tab")
    def insert_blanks(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(TAB_BLANKS)

    return keys

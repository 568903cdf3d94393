"""Reads one message from a terminal: the line editor of the REPL (cli §6.1, §6.2, §6.4). What it means is `repl`'s."""

from __future__ import annotations

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import Condition, has_focus, is_done
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import AfterInput, ConditionalProcessor, Processor, TabsProcessor
from prompt_toolkit.output import ColorDepth, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from ..errors import BadRequest
from .completer import ReplCompleter
from .editor import edit
from .history import History
from .keystrokes import open_keyboard
from .quotes import is_open
from .session import Session

TAB_BLANKS = " " * 8
GREY = "#8a8a8a"
"""Colour 245 of the 256."""
GAUGE_COLUMNS = 50
"""A terminal with fewer has no room for a gauge beside what is typed."""
_GAUGE_STYLES = {"calm": GREY, "attention": "ansiyellow", "alarm": "ansired bold"}

_STYLE = Style.from_dict(
    {
        "completion-menu": "bg:default",
        "completion-menu.completion": f"bg:default {GREY}",
        "completion-menu.completion.current": "bg:default fg:default bold",
        "completion-menu.meta.completion": f"bg:default {GREY}",
        "completion-menu.meta.completion.current": f"bg:default {GREY}",
        "scrollbar.background": "bg:default",
        "scrollbar.button": f"bg:{GREY}",
    }
)

# Shift+Enter, in the two ways in which terminals tell it from Enter
ANSI_SEQUENCES["\x1b[13;2u"] = Keys.ControlJ
ANSI_SEQUENCES["\x1b[27;2;13~"] = Keys.ControlJ


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
_TABS = TabsProcessor(tabstop=len(TAB_BLANKS), char1=" ", char2=" ")


def _mark() -> StyleAndTextTuples:
    """A line that is sent is drawn once more: a program that waits for the next prompt must not find this one again."""
    if not get_app().is_done:
        return [("", ">>> ")]
    return [("fg:ansidefault" if place % 2 else "", char) for place, char in enumerate(">>> ")]


def _continuation(width: int, line_number: int, wrap_count: int) -> StyleAndTextTuples:
    """Before each further line of a message; the further rows of one long line have nothing, so that it stays one."""
    # named, the default colour is a style; a blank without one would only be jumped over at the end of a line
    return [] if wrap_count else [("fg:ansidefault", "... ")]


class Prompt:
    """Asks for messages. Ctrl+C raises KeyboardInterrupt, Ctrl+D on an empty line EOFError.

    `typed` are keys that were pressed before anybody asked.
    """

    def __init__(self, session: Session, history: History, typed: str = "") -> None:
        self._session = session
        self._is_plain = session.app.terminal.is_plain
        terminal = session.app.terminal
        output = create_output(terminal.stdout)
        if isinstance(output, Vt100_Output):
            # asking a terminal where its cursor is leaves the answer in the input of one that answers late
            output.enable_cpr = False
        self._completer = ReplCompleter(session.app.model_names)
        self._prompt: PromptSession[str] = PromptSession(
            _mark,
            multiline=True,
            prompt_continuation=_continuation,
            rprompt=self._gauge,
            input_processors=[_TABS] if self._is_plain else [_TABS, *_PLACEHOLDERS],
            completer=self._completer,
            complete_while_typing=False,
            style=_STYLE,
            history=InMemoryHistory(history.entries),
            key_bindings=self._key_bindings(),
            enable_suspend=True,
            color_depth=ColorDepth.DEPTH_1_BIT if self._is_plain else ColorDepth.DEPTH_8_BIT,
            input=open_keyboard(terminal.stdin, typed),
            output=output,
        )

    def read(self, draft: str = "") -> str:
        """The next message. `draft` stands there to begin with."""
        self._prompt.editing_mode = EditingMode.VI if self._session.vi_keys else EditingMode.EMACS
        return self._prompt.prompt(default=draft)

    def _gauge(self) -> StyleAndTextTuples:
        """At the right edge, and only while somebody types: it is no part of the conversation."""
        gauge = self._session.gauge
        app = get_app()
        if self._is_plain or app.is_done or not str(gauge) or app.output.get_size().columns < GAUGE_COLUMNS:
            return []
        return [(_GAUGE_STYLES[gauge.mood], f"{gauge} ")]

    def _key_bindings(self) -> KeyBindings:
        keys = KeyBindings()

        # while the history is searched the focus is elsewhere, and keys have other meanings
        is_typing = has_focus(DEFAULT_BUFFER)

        @keys.add("enter", filter=is_typing)
        def send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state and buffer.complete_state.current_completion:
                buffer.complete_state = None  # the completion is taken; the line is not finished by that
            elif is_open(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("c-j", filter=is_typing)
        @keys.add("escape", "enter", filter=is_typing)
        def break_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("tab", filter=is_typing)
        def complete(event: KeyPressEvent) -> None:
            self._complete(event.current_buffer)

        @keys.add("c-g", filter=is_typing)
        def open_editor(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            run_in_terminal(lambda: self._edit(buffer), in_executor=True)

        @keys.add("c-t")
        def show_thinking(event: KeyPressEvent) -> None:
            run_in_terminal(self._session.show_thinking)

        return keys

    def _complete(self, buffer: Buffer) -> None:
        if buffer.complete_state:
            buffer.complete_next()
        elif any(True for _ in self._completer.get_completions(buffer.document, CompleteEvent())):
            buffer.start_completion(insert_common_part=True)
        else:
            buffer.insert_text(TAB_BLANKS)

    def _edit(self, buffer: Buffer) -> None:
        app = self._session.app
        try:
            buffer.text = edit(buffer.text, app.env)
        except BadRequest as error:
            app.terminal.err(f"error: {error}\n")
            return
        buffer.cursor_position = len(buffer.text)

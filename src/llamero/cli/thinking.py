"""What a model thinks before it answers: grey, between two marks, or folded into one line (cli §3.4.4)."""

from __future__ import annotations

import time
from collections.abc import Callable

from .format import printable
from .terminal import BOLD, GREY, RESET, Terminal, size
from .wrap import Wrapper

FOLD_KEY = "Ctrl+T"


class ThinkingView:
    """The thinking of one answer. It can only be folded where it may be drawn; what was folded away is not lost."""

    def __init__(self, terminal: Terminal, *, wrap: bool, is_folded: bool = False, on_stderr: bool = False) -> None:
        self.text = ""
        """All of it, shown or not."""
        self.is_on = False
        """It has begun and not ended."""
        self._draws = terminal.stderr_draws if on_stderr else terminal.stdout_draws
        self._stream = terminal.stderr if on_stderr else terminal.stdout
        self._write: Callable[[str], None] = terminal.err if on_stderr else terminal.out
        self._wraps = wrap and self._draws
        self._wrapper = Wrapper()
        self._is_folded = is_folded and self._draws
        self._is_asked_to_turn = False
        self._shown_chars = 0
        self._began_s = 0.0

    def turn(self) -> None:
        """Fold it or open it with the next words. Safe at any moment: this is called by a key's signal."""
        self._is_asked_to_turn = self._draws and not self._is_asked_to_turn

    def show(self, text: str) -> None:
        if not self.is_on:
            self.is_on = True
            self._began_s = time.monotonic()
            if not self._is_folded:
                self._open()
        self.text += text
        if self._is_asked_to_turn:
            self._turn()
        if self._is_folded:
            self._draw_fold(f"Thinking... {len(self.text.split())} words ({FOLD_KEY} shows them)")
        else:
            self._show_rest()

    def end(self) -> None:
        """Something else follows."""
        self.is_on = False
        if self._is_folded:
            self._draw_fold(f"Thought for {time.monotonic() - self._began_s:.0f} s ({FOLD_KEY} shows what)")
            self._write("\n\n")
        else:
            self._write(("" if self.text.endswith("\n") else "\n") + self._marked("...done thinking.\n\n"))

    def close(self) -> None:
        """An answer may end within its thinking; what comes after it must not be grey."""
        if self.is_on and self._draws:
            self._write(RESET)

    def _open(self) -> None:
        self._write(self._marked("Thinking...\n") + (GREY if self._draws else ""))

    def _turn(self) -> None:
        self._is_asked_to_turn = False
        if self._is_folded:
            self._write("\r\x1b[K")
            self._open()
        else:
            # what stands on the screen stays there: a fold that reached into the past would tear when lines move
            self._write(("" if self.text[: self._shown_chars].endswith("\n") else "\n") + RESET)
            self._wrapper = Wrapper()
        self._is_folded = not self._is_folded

    def _show_rest(self) -> None:
        text = self.text[self._shown_chars :]
        self._shown_chars = len(self.text)
        text = printable(text) if self._stream.isatty() else text
        self._write(self._wrapper.feed(text, size(self._stream)[0]) if self._wraps else text)

    def _draw_fold(self, text: str) -> None:
        self._write(f"\r{GREY}{text[: size(self._stream)[0] - 1]}{RESET}\x1b[K")

    def _marked(self, text: str) -> str:
        return f"{GREY}{BOLD}{text}{RESET}" if self._draws else text

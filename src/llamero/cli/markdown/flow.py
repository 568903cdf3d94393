"""Puts styled text into the lines of a terminal as it arrives. Pure: text in, text with control codes out.

Towards the end of a line a word is written once it is known to fit, and a line break once something follows it: nothing
is ever taken back, so nothing flickers, and nothing is lost when the terminal changes its width in the middle of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..format import char_columns, columns
from ..terminal import RESET

RIGHT_MARGIN = 5
LEAST_COLUMNS = 10
"""A line is never taken to be shorter, however deep its indent is."""
ROOMY_COLUMNS = 24
"""With so much left of a line, every word fits, and its letters are written as they come."""
MAX_BLANK_LINES = 1

_HANGING = frozenset("，。、；：？！）》」』】〉”’…")
"""Wide marks that must not begin a line. They may stand in the margin."""


class Styled(NamedTuple):
    text: str
    style: str = ""
    """Control codes that switch it on; they add up."""


NOTHING = Styled("")


class Flow:
    """One answer. `width` is asked before every word."""

    def __init__(
        self,
        width: Callable[[], int],
        *,
        margin: int = RIGHT_MARGIN,
        least: int = LEAST_COLUMNS,
        breaks_words: bool = False,
    ) -> None:
        self._width = width
        self._margin = margin
        self._least = least
        self._breaks_words = breaks_words
        """Otherwise a word that is longer than a line runs on: a URL stays one."""
        self._out: list[str] = []
        self._style = ""
        self._column = 0
        self._newlines = 0
        self._is_empty = True
        self._indent = NOTHING
        self._gap: list[Styled] = []
        self._word: list[Styled] = []
        self._word_columns = 0
        self._runs_on = False

    def take(self) -> str:
        """What is to be written by now."""
        text = "".join(self._out)
        self._out.clear()
        return text

    def begin_line(self, prefix: Styled = NOTHING, indent: Styled = NOTHING) -> None:
        """Begin a paragraph with `prefix`; its further lines begin with `indent`."""
        self._indent = indent
        self._put(prefix)

    def feed(self, piece: Styled) -> None:
        for char in piece.text:
            self._feed_char(Styled(char, piece.style))

    def end_line(self, *, keeps_blanks: bool = False) -> None:
        """Of several blank lines only one is shown, unless they are part of what is said."""
        self._end_word()
        self._gap.clear()
        self._newlines = self._newlines + 1 if keeps_blanks else min(self._newlines + 1, MAX_BLANK_LINES + 1)
        self._column = 0
        self._indent = NOTHING

    def raw(self, text: str, style: str = "") -> None:
        """Text with lines of its own making, as it is."""
        self._put(Styled(text, style))

    def close(self) -> None:
        self._end_word()
        self._use_style("")

    @property
    def limit(self) -> int:
        """Columns of a line."""
        return max(self._width() - self._margin, self._least + columns(self._indent.text))

    @property
    def _needed(self) -> int:
        """Columns of the line together with what is not written yet."""
        return self._column + len(self._gap) + self._word_columns

    def _feed_char(self, char: Styled) -> None:
        if char.text in " \t":
            self._end_word()
            self._gap.append(Styled(" ", char.style))
            return
        taken = char_columns(char.text)
        if taken == 2:
            self._end_word()  # a line may break before any wide character
            hangs = char.text in _HANGING and self._column + 2 < self._width()
            self._word, self._word_columns = [char], 0 if hangs else 2
            self._end_word()
        elif self._runs_on:
            self._run_on(char, taken)
        elif not self._word and not self._breaks_words and self._needed + ROOMY_COLUMNS <= self.limit:
            self._runs_on = True
            for piece in (*self._gap, char):
                self._put(piece)
            self._gap.clear()
        else:
            self._word.append(char)
            self._word_columns += taken
            if columns(self._indent.text) + self._word_columns > self.limit:
                self._begin_to_run_on()

    def _end_word(self) -> None:
        self._runs_on = False
        if not self._word:
            return
        if self._needed > self.limit and self._column > columns(self._indent.text):
            self._break_line()
        for piece in (*self._gap, *self._word):
            self._put(piece)
        self._gap.clear()
        self._word = []
        self._word_columns = 0

    def _break_line(self) -> None:
        self._newlines += 1
        self._column = 0
        self._gap.clear()
        self._put(self._indent)

    def _begin_to_run_on(self) -> None:
        word = self._word
        if self._breaks_words:
            self._word = []
            self._word_columns = 0
            if self._column > columns(self._indent.text):
                self._break_line()
            for char in word:
                self._run_on(char, char_columns(char.text))
        else:
            self._end_word()
        self._runs_on = True

    def _run_on(self, char: Styled, taken: int) -> None:
        if self._breaks_words and self._column + taken > self.limit:
            self._break_line()
        self._put(char)
        if self._column > self._width():
            self._column -= self._width()  # the terminal itself went on to its next line

    def _put(self, piece: Styled) -> None:
        if not piece.text:
            return
        if self._newlines:
            self._use_style("")
            if not self._is_empty:
                self._out.append("\n" * self._newlines)
            self._newlines = 0
        self._use_style(piece.style)
        self._out.append(piece.text)
        self._column += columns(piece.text)
        self._is_empty = False

    def _use_style(self, style: str) -> None:
        if style != self._style:
            self._out.append((RESET if self._style else "") + style)
            self._style = style

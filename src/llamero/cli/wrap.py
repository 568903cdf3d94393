"""Wraps streamed text at word boundaries, on a terminal only (cli §6.7). Pure: text in, text with control codes out."""

from __future__ import annotations

from .format import char_columns

RIGHT_MARGIN = 5
MIN_COLUMNS = 10
"""Below this nothing is wrapped."""


class Wrapper:
    """Follows the cursor through one answer.

    Text is written as it comes. Only when a word turns out not to fit is it taken back (cursor left, clear to the end)
    and written again on the next line. A word that began a line has nowhere better to go and runs on: nothing is ever
    left on the screen twice.
    """

    def __init__(self) -> None:
        self._column = 0
        self._word = ""
        self._word_columns = 0

    def feed(self, text: str, width: int) -> str:
        """What to write for the next piece of text on a terminal of `width` columns."""
        if width < MIN_COLUMNS:
            return text
        return "".join(self._feed_char(char, width) for char in text)

    def _feed_char(self, char: str, width: int) -> str:
        if char in "\n\t ":
            return self._feed_blank(char, width)
        taken = char_columns(char)
        if taken == 2:
            self._end_word()  # a line may break before any wide character
        written = ""
        began_the_line = self._word_columns >= self._column
        if self._column + taken > width - RIGHT_MARGIN and not began_the_line:
            written = self._break_line()
        self._column += taken
        self._word += char
        self._word_columns += taken
        if taken == 2:
            self._end_word()
        if self._column > width:
            # the terminal itself went on to its next line, in the middle of a word that runs on
            self._column -= width
        return written + char

    def _feed_blank(self, char: str, width: int) -> str:
        """Blanks end a word and never break a line: they fill the margin, and beyond it they are not missed."""
        self._end_word()
        if char == "\n":
            self._column = 0
            return char
        # a terminal's tab stops are eight columns apart
        column = self._column + (8 - self._column % 8 if char == "\t" else 1)
        if column > width:
            return ""
        self._column = column
        return char

    def _break_line(self) -> str:
        back = f"\x1b[{self._word_columns}D\x1b[K" if self._word_columns else ""
        self._column = self._word_columns
        return f"{back}\n{self._word}"

    def _end_word(self) -> None:
        self._word = ""
        self._word_columns = 0

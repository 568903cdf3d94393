"""The blocks of Markdown, as an answer arrives: headings, lists, quotes, code, tables. Pure: text in, text out.

It reads what language models write, a line at a time, not all of CommonMark: a line break is kept, and what it does not
know is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..format import columns
from ..terminal import BOLD, GREY, UNDERLINE
from .code import Code
from .flow import RIGHT_MARGIN, Flow, Styled
from .spans import Spans
from .tables import draw_table

MAX_RULE_COLUMNS = 60
TAB_COLUMNS = 4

_FENCE = re.compile(r"( *)(`{3,}|~{3,})([^`\n]*)")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(?=\S)")
_RULE = re.compile(r" {0,3}([-*_])(?: *\1){2,} *")
_TASK = re.compile(r"( *)[-*+] +\[([ xX])\] +(?=\S)")
_BULLET = re.compile(r"( *)[-*+] +(?=\S)(?!\[[ xX]?\]?$)")
_NUMBER = re.compile(r"( *)(\d{1,9}[.)]) +(?=\S)")
_QUOTE = re.compile(r" {0,3}((?:> ?)+)")
_TABLE = re.compile(r" {0,3}\|")

_UNDECIDED = re.compile(
    r" *(?:#{1,6} *|([-*_])(?: *\1)* *|\+ *|[-*+] +\[[ xX]?\]? *|\d{1,9}[.)]? *|`{1,2}|~{1,2}|(?:> *)+|[`~]{3}.*|\|.*)?"
)
"""The beginning of a line that may still become one thing or another."""


class Markdown:
    """One answer. `width` is asked whenever it matters."""

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._flow = Flow(width)
        self._head = ""
        """The beginning of a line, as long as nobody knows what it is."""
        self._spans: Spans | None = None
        self._fence = ""
        self._code = Code("")
        self._code_line: list[str] = []
        self._code_width = 0
        """Of the terminal when the line of code began."""
        self._table: list[str] = []

    def feed(self, text: str) -> str:
        """What to write for the next piece of the answer."""
        for piece in re.findall(r"[^\n]+|\n", text):
            if piece == "\n":
                self._end_line()
            elif self._code_line:
                self._write_code(piece)
            elif self._fence:
                self._head += piece
                self._begin_code_line(is_whole=False)
            elif self._spans:
                self._write(self._spans, piece.replace("\t", " " * TAB_COLUMNS))
            else:
                self._head += piece.replace("\t", " " * TAB_COLUMNS)
                self._begin(is_whole=False)
        return self._flow.take()

    def close(self) -> str:
        """What was still held back; the colours are switched off."""
        if self._head or self._spans or self._code_line:
            self._end_line()
        self._end_table()
        self._flow.close()
        return self._flow.take()

    def _write(self, spans: Spans, text: str) -> None:
        for piece in spans.feed(text):
            self._flow.feed(piece)

    def _end_line(self) -> None:
        if not (self._spans or self._code_line):
            self._begin(is_whole=True)
        if self._spans:
            for piece in self._spans.end():
                self._flow.feed(piece)
            self._spans = None
            self._flow.end_line()
        elif self._code_line:
            self._end_code_line()

    # --- what a line is --------------------------------------------------------------------------------------------

    def _begin(self, *, is_whole: bool) -> None:
        """Find out what the line is that begins with `_head`, and show it; do nothing while that is not certain."""
        head = self._head
        if self._fence:
            self._begin_code_line(is_whole=is_whole)
            return
        if not is_whole and _UNDECIDED.fullmatch(head):
            return
        self._head = ""
        if _TABLE.match(head):
            self._add_to_table(head)
            return
        self._end_table()
        if not head.strip():
            self._flow.end_line()
        elif fence := _FENCE.fullmatch(head):
            self._begin_fence(fence[2], fence[3].strip())
        elif _RULE.fullmatch(head):
            self._flow.raw("─" * max(1, min(self._width() - RIGHT_MARGIN, MAX_RULE_COLUMNS)), GREY)
            self._flow.end_line()
        else:
            self._begin_paragraph(head)

    def _begin_paragraph(self, head: str) -> None:
        prefix, indent, style, text = Styled(""), "", "", head
        if heading := _HEADING.match(head):
            style = BOLD + (UNDERLINE if len(heading[1]) == 1 else "")
            text = head[heading.end() :]
        elif task := _TASK.match(head):
            prefix = Styled(f"{task[1]}{'☐' if task[2] == ' ' else '☑'} ")
            text = head[task.end() :]
        elif bullet := _BULLET.match(head):
            prefix = Styled(f"{bullet[1]}• ")
            text = head[bullet.end() :]
        elif number := _NUMBER.match(head):
            prefix = Styled(f"{number[1]}{number[2]} ")
            text = head[number.end() :]
        elif quote := _QUOTE.match(head):
            prefix = Styled("│ " * quote[1].count(">"), GREY)
            style = GREY
            text = head[quote.end() :]
        else:
            text = head.lstrip(" ")
            prefix = Styled(head[: len(head) - len(text)])
        indent = prefix.text if prefix.style else " " * columns(prefix.text)
        self._flow.begin_line(prefix, Styled(indent, prefix.style))
        self._spans = Spans(style)
        self._write(self._spans, text)

    # --- code ------------------------------------------------------------------------------------------------------

    def _begin_fence(self, fence: str, info: str) -> None:
        self._fence = fence
        self._code = Code(info.split()[0] if info else "")
        self._flow.raw(f"── {info}" if info else "──", GREY)
        self._flow.end_line()

    def _begin_code_line(self, *, is_whole: bool) -> None:
        body = self._head.strip()
        closes = len(body) >= len(self._fence) and not body.strip(self._fence[0])
        if not is_whole and not body.strip(self._fence[0]):
            return  # it may become the end of the block
        text, self._head = self._head, ""
        if closes:
            self._fence = ""
            self._flow.raw("──", GREY)
            self._flow.end_line()
        elif text:
            self._code_width = self._width()
            self._write_code(text)
        else:
            self._code.colour("")
            self._flow.end_line(keeps_blanks=True)

    def _write_code(self, text: str) -> None:
        self._code_line.append(text)
        self._flow.raw(text)

    def _end_code_line(self) -> None:
        """Give the line its colours where it stands, if it still stands where it was written."""
        line = "".join(self._code_line)
        self._code_line = []
        coloured = self._code.colour(line)
        fits = columns(line.expandtabs(8)) < self._code_width == self._width()
        if fits and coloured != line:
            self._flow.raw(f"\r{coloured}")
        self._flow.end_line(keeps_blanks=True)

    # --- tables ----------------------------------------------------------------------------------------------------

    def _add_to_table(self, line: str) -> None:
        """Keep the line. One grey line on the screen says that more is coming."""
        self._table.append(line)
        rows = max(1, len(self._table) - 2)
        said = "table, 1 row" if rows == 1 else f"table, {rows} rows"
        self._flow.raw(f"\r{said} …", GREY)

    def _end_table(self) -> None:
        if not self._table:
            return
        lines = draw_table(self._table, self._width())
        self._flow.raw("\r\x1b[K")
        for line in lines or self._table:
            self._flow.raw(line)
            self._flow.end_line()
        self._table = []

"""A stream of text cut into JSON-like objects and what stands between them. It does not look into an object.

Braces are counted, those within strings are not. Every character is looked at once, however small the pieces are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MARKS = re.compile(r"\\.?|[][{}\"]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Between:
    """Text outside of objects. It ends where an object begins, where the list around it closes, or at the very end."""

    text: str
    end: int = 0
    """Where it ends in the piece that was fed last."""
    closes_list: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """From a brace to the one that closes it; at the very end it may not be closed."""

    text: str
    end: int = 0


Part = Between | Object


class ObjectCutter:
    """`in_list`: brackets around the objects count too, and strings between them are strings."""

    def __init__(self, *, in_list: bool = False) -> None:
        self._in_list = in_list
        self._pieces: list[str] = []
        """Of the part that has begun."""
        self._braces = 0
        self._brackets = 0
        self._in_string = False
        self._is_escaped = False
        """The piece before ended with a backslash within a string."""

    def feed(self, text: str) -> Iterator[Part]:
        """The parts that end in `text`, cut while they are taken. Feed no more when they were not all taken."""
        if not text:
            return
        start = 0
        marks = _MARKS.finditer(text, int(self._is_escaped))
        self._is_escaped = False
        for mark in marks:
            character = mark[0]
            if self._in_string:
                self._in_string = character != '"'
                self._is_escaped = character == "\\"  # its other half is in the next piece
                continue
            at = mark.end()
            match character[-1]:  # a backslash outside of strings means nothing
                case "{":
                    if not self._braces and (between := self._take(text[start : at - 1])):
                        start = at - 1
                        yield Between(between, start)
                    self._braces += 1
                case "}" if self._braces:
                    self._braces -= 1
                    if not self._braces:
                        yield Object(self._take(text[start:at]), at)
                        start = at
                case '"':
                    self._in_string = bool(self._braces or self._brackets)
                case "[" if self._in_list and not self._braces:
                    self._brackets += 1
                case "]" if self._brackets and not self._braces:
                    self._brackets -= 1
                    if not self._brackets:
                        yield Between(self._take(text[start:at]), at, closes_list=True)
                        start = at
        self._pieces.append(text[start:])

    def finish(self) -> list[Part]:
        """The part that has begun and will not go on."""
        rest = self._take("")
        if not rest:
            return []
        return [Object(rest) if self._braces else Between(rest)]

    def leave_list(self) -> None:
        """Take what comes next as outside of any list."""
        self._brackets = 0

    def _take(self, end: str) -> str:
        self._pieces.append(end)
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

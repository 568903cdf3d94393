"""Literal values as some families write them in calls: Python's, and Gemma's with bare keys and quotes of its own.

Nothing is evaluated: a small reader of numbers, strings, lists and maps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

MAX_DEPTH = 64
"""Lists and maps within each other."""

_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NAME = re.compile(r"[^\W\d][\w.-]*")
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""}


class Literals:
    """Reads from the front of a text. Raises ValueError for what is none.

    `quotes`: what strings stand between; a backslash escapes only within the common quotes.
    """

    def __init__(self, text: str, quotes: Sequence[str] = ('"', "'")) -> None:
        self.text = text
        self.at = 0
        self._quotes = quotes
        self._depth = 0

    def skip(self) -> None:
        if found := _SPACE.match(self.text, self.at):
            self.at = found.end()

    @property
    def is_at_end(self) -> bool:
        self.skip()
        return self.at == len(self.text)

    def accept(self, sign: str) -> bool:
        """Take a sign if it is the next thing behind white space."""
        self.skip()
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) * found
        return found

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise ValueError(f"expected {sign} at {self.at}")

    def name(self) -> str:
        self.skip()
        return self._take(_NAME, "a name")[0]

    def value(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        value = self._value()
        self._depth -= 1
        return value

    def members(self, closing: str, between: str) -> dict[str, Any]:
        """`key value` pairs up to `closing`, which is taken too; `between` stands between a key and its value."""
        members: dict[str, Any] = {}
        while not self.accept(closing):
            if members:
                self.expect(",")
                if self.accept(closing):
                    break
            key = self._string() if self._quote() else self.name()
            self.expect(between)
            members[key] = self.value()
        return members

    def _value(self) -> Any:
        if self._quote():
            return self._string()
        if self.accept("{"):
            return self.members("}", ":")
        if self.accept("["):
            items: list[Any] = []
            while not self.accept("]"):
                if items:
                    self.expect(",")
                    if self.accept("]"):
                        break
                items.append(self.value())
            return items
        if _NUMBER.match(self.text, self.at):
            return msgspec.json.decode(self._take(_NUMBER, "a number")[0].removeprefix("+"))
        word = self._take(_NAME, "a value")[0]
        if word not in _WORDS:
            raise ValueError(f"{word} is no value")
        return _WORDS[word]

    def _quote(self) -> str:
        self.skip()
        return next((quote for quote in self._quotes if self.text.startswith(quote, self.at)), "")

    def _string(self) -> str:
        quote = self._quote()
        start = self.at + len(quote)
        end = self.text.find(quote, start)
        if len(quote) > 1:
            if end < 0:
                raise ValueError("a string that does not end")
            self.at = end + len(quote)
            return self.text[start:end]
        return self._escaped_string(quote, start)

    def _escaped_string(self, quote: str, start: int) -> str:
        found = re.compile(rf"(?:[^{quote}\\]|\\.)*+", re.DOTALL).match(self.text, start)
        end = found.end() if found else start
        if not self.text.startswith(quote, end):
            raise ValueError("a string that does not end")
        self.at = end + 1
        text = _ESCAPE.sub(_unescaped, self.text[start:end])
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs joined, halves replaced

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"expected {what} at {self.at}")
        self.at = found.end()
        return found


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    if code:
        return chr(int(code, 16))
    return _ESCAPED.get(escape[3], escape[3] if escape[3] in "\\'\"" else escape[0])

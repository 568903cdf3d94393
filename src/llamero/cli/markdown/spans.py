"""Emphasis, code and links inside one line of Markdown, as it arrives. Pure: text in, styled text out.

A mark is held back until its other half has come. When the line ends without it, or too much has been held back, it was
no mark and is shown as it was written: no character of an answer disappears.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..terminal import BOLD, CYAN, GREY, ITALIC, STRIKE, UNDERLINE
from .flow import Styled

MAX_HELD_CHARS = 200
"""An emphasis is a few words, rarely a sentence."""

_MARKS = "*_`~[!\\"
_PLAIN = re.compile(rf"[^{re.escape(_MARKS)}]+")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\(((?:[^()\s]|\([^()\s]*\))*)(?:\s+\"[^\"]*\")?\)")
_MAY_BE_LINK = re.compile(r"!|!?\[[^\[\]]*(?:\](?:\((?:[^()]|\([^()]*\)?)*)?)?")
_EMPHASES = (
    (re.compile(r"\*\*\*(?=[^\s*])(.+?)(?<=\S)\*\*\*(?!\*)"), BOLD + ITALIC),
    (re.compile(r"\*\*(?=[^\s*])(.+?)(?<=\S)\*\*(?!\*)"), BOLD),
    (re.compile(r"\*(?=[^\s*])([^*]+?)(?<=\S)\*(?!\*)"), ITALIC),
    (re.compile(r"__(?=[^\s_])(.+?)(?<=\S)__(?!\w)"), BOLD),
    (re.compile(r"_(?=[^\s_])([^_]+?)(?<=\S)_(?!\w)"), ITALIC),
    (re.compile(r"~~(?=[^\s~])(.+?)(?<=\S)~~(?!~)"), STRIKE),
)
_OPENING = re.compile(r"\*{1,3}(?=[^\s*]|$)|__?(?=[^\s_]|$)|~$|~~(?=[^\s~]|$)")


class Spans:
    """One line whose text has `style` to begin with."""

    def __init__(self, style: str = "") -> None:
        self._style = style
        self._held = ""
        self._before = ""
        """The character before what is held."""

    def feed(self, text: str) -> Iterator[Styled]:
        self._held += text
        while self._held and (found := self._next(is_last=False)):
            yield from found

    def end(self) -> Iterator[Styled]:
        while self._held:
            yield from self._next(is_last=True)

    def _next(self, *, is_last: bool) -> list[Styled]:
        """The first thing of what is held; nothing as long as it cannot be told what that is."""
        if plain := _PLAIN.match(self._held):
            return [self._take(plain.end())]
        found = self._span(is_last=is_last)
        if found is not None:
            return found
        may_become_one = self._may_become_a_span()
        if may_become_one and not is_last and len(self._held) <= MAX_HELD_CHARS:
            return []
        return [self._take(1)]

    def _span(self, *, is_last: bool) -> list[Styled] | None:
        held = self._held
        if escape := _ESCAPE.match(held):
            self._take(2)
            return [Styled(escape[1], self._style)]
        if code := _CODE.match(held):
            if code.end() == len(held) and not is_last:
                return []  # another backtick would change all
            self._take(code.end())
            return [Styled(code[2], self._style + CYAN)]
        if link := _LINK.match(held):
            self._take(link.end())
            return [*self._within(link[1], UNDERLINE), *self._address(link[1], link[2])]
        for pattern, style in _EMPHASES:
            emphasis = pattern.match(held) if self._may_open() else None
            if emphasis and emphasis.end() == len(held) and not is_last:
                return []
            if emphasis:
                self._take(emphasis.end())
                return list(self._within(emphasis[1], style))
        return None

    def _may_become_a_span(self) -> bool:
        first = self._held[0]
        if first == "\\":
            return len(self._held) == 1
        if first == "`":
            return True
        if first in "[!":
            return _MAY_BE_LINK.fullmatch(self._held) is not None
        return self._may_open() and _OPENING.match(self._held) is not None

    def _may_open(self) -> bool:
        """`snake_case` and `2*x` are words, not the beginning of an emphasis."""
        if not self._before.isalnum():
            return True
        return self._held[0] != "_" and (self._held.startswith(("**", "~~")) or self._held in "*~")

    def _within(self, text: str, style: str) -> Iterator[Styled]:
        inner = Spans(self._style + style)
        yield from inner.feed(text)
        yield from inner.end()

    def _address(self, text: str, url: str) -> list[Styled]:
        if not url or url in (text, f"mailto:{text}"):
            return []
        return [Styled(f" ({url})", self._style + GREY)]

    def _take(self, count: int) -> Styled:
        taken, self._held = self._held[:count], self._held[count:]
        self._before = taken[-1]
        return Styled(taken, self._style)

"""The regular expressions of JSON Schemas: the subset that the engine compiles. It finds faults and matches nothing.

Source: security §3 (`pattern`) and §5. JSON Schema speaks of ECMA-262; the engine reads another dialect and drops a
whole schema when a pattern is not of it, so what the two read differently is refused together with what is dangerous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LENGTH = 512
"""Characters of a pattern (security §3)."""
MAX_GROUPS = 16
"""Groups within groups (security §3)."""
MAX_REPEAT = 1_000
"""The `{n,m}` of a pattern, nested ones multiplied: the engine's automaton grows with them (security §5)."""

_CATEGORY = r"(?:C[cf]?|L[ulmto]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?)"
_SET = rf"\\(?:[dDwWsS]|[pP]\{{{_CATEGORY}\}})"
_PUNCTUATION = r"[!-/:;=?@\[-`{-~ ]"  # not < and >, which are word boundaries to the engine
_ESCAPED = rf"\\(?:[nrtfv]|x[0-9A-Fa-f]{{2}}|u(?![dD][89A-Fa-f])[0-9A-Fa-f]{{4}}|{_PUNCTUATION})"

_ATOM = re.compile(rf"{_SET}|{_ESCAPED}|[^\\^$|?*+()\[{{]")
_GROUP = re.compile(r"\((?:\?:|\?P?<(?P<name>[A-Za-z_][A-Za-z0-9_]*)>|(?!\?))")
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(?P<low>[0-9]{1,9})(?P<comma>,(?P<high>[0-9]{1,9})?)?\})\??")
_ONE = rf"(?:{_ESCAPED}|[^\\\[\]])"
_MEMBER = re.compile(rf"{_SET}|(?P<low>{_ONE})(?:-(?P<high>{_ONE})|(?!-[^\]]))")
_SET_OPERATION = re.compile(r"&&|--|~~")

_REFUSED_ESCAPES = {
    **dict.fromkeys("bB", "word boundaries are not supported"),
    **dict.fromkeys("0123456789k", "back-references are not supported"),
}


def find_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, in words that follow its name; None when nothing is."""
    if len(pattern) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    try:
        _Scanner(pattern).scan()
    except _Fault as fault:
        return str(fault)
    return None


class _Fault(Exception):
    pass


@dataclass(slots=True)
class _Group:
    """A group that is being read, or the whole pattern."""

    may_start: bool
    """Nothing stands before it, so that a `^` may."""
    is_empty: bool = True
    """The present alternative has nothing in it yet."""
    is_ended: bool = False
    """The present alternative has its `$`."""
    has_anchor: bool = False
    has_end: bool = False
    repeat: int = 1
    """The greatest repetition within."""


class _Scanner:
    """One pass from left to right. `item`: the repetition within what was read last, or 0 where none may follow it."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.groups = [_Group(may_start=True)]
        self.names: set[str] = set()
        self.item = 0

    def scan(self) -> None:
        while self.at < len(self.pattern):
            match self.pattern[self.at]:
                case "^":
                    self._start()
                case "$":
                    self._end()
                case "|":
                    self._alternative()
                case "(":
                    self._open()
                case ")":
                    self._close()
                case "*" | "+" | "?" | "{":
                    self._quantifier()
                case "[":
                    self._add(self._class())
                case _:
                    self._add(self._match(_ATOM, self._bad_escape()).end())
        if len(self.groups) > 1:
            raise _Fault("has a group that is not closed")

    def _match(self, expected: re.Pattern[str], otherwise: str) -> re.Match[str]:
        found = expected.match(self.pattern, self.at)
        if found is None:
            raise _Fault(otherwise)
        return found

    def _add(self, end: int, repeat: int = 1) -> None:
        group = self.groups[-1]
        if group.is_ended:
            raise _Fault("has something after a $")
        group.is_empty = False
        self.item, self.at = repeat, end

    def _start(self) -> None:
        group = self.groups[-1]
        if not (group.may_start and group.is_empty):
            raise _Fault("has a ^ that is not at the start")
        group.is_empty, group.has_anchor = False, True
        self.item, self.at = 0, self.at + 1

    def _end(self) -> None:
        group = self.groups[-1]
        self._add(self.at + 1)
        group.is_ended = group.has_end = group.has_anchor = True
        self.item = 0

    def _alternative(self) -> None:
        group = self.groups[-1]
        group.is_empty, group.is_ended = True, False
        self.item, self.at = 0, self.at + 1

    def _open(self) -> None:
        opening = self._match(_GROUP, "uses lookaround or flags; of (? only (?:...) and (?<name>...) are supported")
        if len(self.groups) > MAX_GROUPS:
            raise _Fault(f"nests groups deeper than {MAX_GROUPS}")
        if name := opening["name"]:
            if name in self.names:
                raise _Fault(f"names two groups {name}")
            self.names.add(name)
        around = self.groups[-1]
        self.groups.append(_Group(may_start=around.may_start and around.is_empty))
        self.item, self.at = 0, opening.end()

    def _close(self) -> None:
        if len(self.groups) == 1:
            raise _Fault("closes a group that is not open")
        inner, around = self.groups.pop(), self.groups[-1]
        self._add(self.at + 1, inner.repeat)
        around.repeat = max(around.repeat, inner.repeat)
        around.has_anchor |= inner.has_anchor
        if inner.has_end:
            around.is_ended = around.has_end = True
        if inner.has_anchor:
            self.item = 0

    def _quantifier(self) -> None:
        if not self.item:
            raise _Fault("has a quantifier with nothing to repeat before it")
        quantifier = self._match(_QUANTIFIER, "has a { that opens no repetition; write \\{")
        if quantifier["low"]:
            low = int(quantifier["low"])
            high = int(quantifier["high"] or low)
            if high < low:
                raise _Fault(f"has a repetition {{{low},{high}}} that ends before it starts")
            repeat = self.item * high
            if repeat > MAX_REPEAT:
                raise _Fault(f"repeats more than {MAX_REPEAT} times")
            group = self.groups[-1]
            group.repeat = max(group.repeat, repeat)
        self.item, self.at = 0, quantifier.end()

    def _class(self) -> int:
        """The position after a character class."""
        first = self.at + (2 if self.pattern.startswith("^", self.at + 1) else 1)
        self.at = first
        while not self.pattern.startswith("]", self.at):
            if self.at == len(self.pattern):
                raise _Fault("has a character class that is not closed")
            member = self._match(
                _MEMBER, self._bad_escape("has a [ or - out of place in a character class; write \\[ or \\-")
            )
            if member["high"] and _code(member["high"]) < _code(member["low"]):
                raise _Fault(f"has the character range {member[0]}, which ends before it starts")
            self.at = member.end()
        if self.at == first:
            raise _Fault("has an empty character class")
        if _SET_OPERATION.search(self.pattern, first, self.at):
            raise _Fault("has &&, -- or ~~ within a character class; write \\&, \\- or \\~")
        return self.at + 1

    def _bad_escape(self, otherwise: str = "is not a regular expression") -> str:
        if self.pattern[self.at] != "\\":
            return otherwise
        letter = self.pattern[self.at + 1 : self.at + 2]
        return _REFUSED_ESCAPES.get(letter) or f"has the unsupported escape \\{letter}"


def _code(character: str) -> int:
    """The code point of one character of a class, which may be written as an escape."""
    if character[0] != "\\" or len(character) == 1:
        return ord(character)
    if character[1] in "xu":
        return int(character[2:], 16)
    return ord({"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}.get(character[1], character[1]))

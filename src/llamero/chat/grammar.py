"""GBNF, the engine's grammar notation, as our option `grammar` may hold it. It finds faults and constrains nothing.

Source: native-api §2.3, security §3. The engine's own check hangs on some left recursions and on `{5,2}`, takes the
last of two rules of one name, and reads a text that starts with `%llguidance` as another notation altogether.
"""

from __future__ import annotations

import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

from ..errors import BadRequest

MAX_BYTES = 64 * 1024
"""UTF-8 (security §3)."""
MAX_GROUPS = 32
"""Groups within groups (security §3): the engine reads them by recursion."""
MAX_REPEAT = 1_000
"""The `{n,m}` (security §3)."""
MAX_ELEMENTS = 200_000
"""Characters, ranges and names with every repetition written out, as the engine does, at 8 bytes each."""

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*+")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*+")
_RULE = re.compile(r"(?P<name>[A-Za-z0-9-]+)[ \t]*::=")

_NOT_TEXT = re.compile(r"[\x00\ud800-\udfff]")
"""NUL, at which the engine stops to read, and what is no UTF-8."""

_ESCAPE = r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4}|[trn\\"\[\]])'
_STRING = re.compile(rf'"(?P<characters>(?:{_ESCAPE}|[^\\"])*+)"')
_CLASS = re.compile(rf"\[\^?+(?P<characters>(?:{_ESCAPE}|[^\\\]])++)\]")
_CHARACTER = re.compile(rf"{_ESCAPE}|.", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9-]+")
_TOKEN = re.compile(r"!?<(?:\[[0-9]{1,9}\]|[^<>\[\]\r\n]+)>")
_QUANTIFIER = re.compile(r"[*+?]|\{[ \t]*(?P<low>[0-9]{1,9})[ \t]*(?:,[ \t]*(?P<high>[0-9]{1,9})?[ \t]*)?\}")

_Symbol = str | int | None
"""A rule by its name, a group or an optional part by our number, or None: whatever takes a character."""
_Rules = dict[_Symbol, list[list[_Symbol]]]
"""What each symbol may be: alternatives, each a sequence."""


def check_grammar(text: str) -> None:
    """Refuse what the engine cannot use: BadRequest `invalid grammar: <reason>`. Takes time linear in the text."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        _refuse(f"larger than {MAX_BYTES // 1024} KiB")
    if found := _NOT_TEXT.search(text):
        _refuse(f"holds the character U+{ord(found[0]):04X}")
    rules = _Parser(text).parse()
    if "root" not in rules:
        _refuse("has no rule named root")
    try:
        TopologicalSorter(_first_symbols(rules)).prepare()
    except CycleError as error:
        name = next(symbol for symbol in error.args[1] if isinstance(symbol, str))
        _refuse(f"the rule {name} is left-recursive")


def _refuse(reason: str) -> NoReturn:
    raise BadRequest(f"invalid grammar: {reason}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.rules: _Rules = {}
        self.mentions: dict[str, int] = {}
        """Where each rule is first used."""
        self.elements = 0

    def parse(self) -> _Rules:
        self._skip(_SPACE_AND_LINES)
        while self.at < len(self.text):
            self._rule()
        for name, at in self.mentions.items():
            if name not in self.rules:
                self._fail(f"the rule {name} is not defined", at)
        return self.rules

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        _refuse(f"line {line}: {reason}")

    def _skip(self, space: re.Pattern[str]) -> None:
        if found := space.match(self.text, self.at):
            self.at = found.end()

    def _next(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def _take(self, expected: re.Pattern[str], otherwise: str) -> re.Match[str]:
        found = expected.match(self.text, self.at)
        if found is None:
            self._fail(otherwise)
        self.at = found.end()
        return found

    def _rule(self) -> None:
        name = self._take(_RULE, "expected a rule: name ::= ...")["name"]
        if name in self.rules:
            self._fail(f"the rule {name} is defined twice")
        self._skip(_SPACE_AND_LINES)
        self.rules[name] = self._alternatives(depth=0)
        if self._next() not in ("", "\r", "\n"):
            self._fail(f"unexpected {self._next()!r}")
        self._skip(_SPACE_AND_LINES)

    def _alternatives(self, depth: int) -> list[list[_Symbol]]:
        alternatives = [self._sequence(depth)]
        while self._next() == "|":
            self.at += 1
            self._skip(_SPACE_AND_LINES)
            alternatives.append(self._sequence(depth))
        return alternatives

    def _sequence(self, depth: int) -> list[_Symbol]:
        space = _SPACE_AND_LINES if depth else _SPACE
        symbols: list[_Symbol] = []
        while self._next() not in ("", "|", ")", "\r", "\n"):
            symbol, elements = self._item(depth)
            self._skip(space)
            if self._next() in ("*", "+", "?", "{"):
                if not elements:
                    self._fail("an empty string cannot be repeated")
                symbol, times = self._quantified(symbol)
                elements *= times
                self._skip(space)
            self.elements += elements
            if self.elements > MAX_ELEMENTS:
                self._fail("too large with all repetitions written out")
            if elements:
                symbols.append(symbol)
        return symbols

    def _item(self, depth: int) -> tuple[_Symbol, int]:
        """One symbol, and how many elements the engine makes of it: none of an empty string."""
        match self._next():
            case '"':
                characters = self._take(_STRING, "a string that is not closed, or a faulty escape in it")["characters"]
                return None, len(_CHARACTER.findall(characters))
            case "[":
                return None, self._class()
            case "(":
                return self._group(depth), 1
            case "<" | "!":
                self._take(_TOKEN, "expected a token: <name> or <[number]>")
            case ".":
                self.at += 1
            case _:
                at = self.at
                name = self._take(_NAME, f"unexpected {self._next()!r}")[0]
                self.mentions.setdefault(name, at)
                return name, 1
        return None, 1

    def _class(self) -> int:
        characters = self._take(_CLASS, "a character class that is empty or not closed, or a faulty escape in it")
        members = _CHARACTER.findall(characters["characters"])
        for low, dash, high in zip(members, members[1:], members[2:], strict=False):
            if dash == "-" and _code(high) < _code(low):
                self._fail(f"the range {low}-{high} ends before it starts")
        return len(members)

    def _group(self, depth: int) -> int:
        if depth == MAX_GROUPS:
            self._fail(f"groups nested deeper than {MAX_GROUPS}")
        self.at += 1
        self._skip(_SPACE_AND_LINES)
        group = self._new(self._alternatives(depth + 1))
        if self._next() != ")":
            self._fail("a group that is not closed" if not self._next() else f"unexpected {self._next()!r}")
        self.at += 1
        return group

    def _quantified(self, symbol: _Symbol) -> tuple[_Symbol, int]:
        """The repeated symbol, and how often the engine writes it out."""
        quantifier = self._take(_QUANTIFIER, "expected a repetition: {n}, {n,} or {n,m}")
        if not quantifier["low"]:
            return (symbol if quantifier[0] == "+" else self._new([[symbol], []])), 2
        low = int(quantifier["low"])
        high = int(quantifier["high"] or low)
        if high < low:
            self._fail(f"the repetition {{{low},{high}}} ends before it starts")
        if high > MAX_REPEAT:
            self._fail(f"a repetition of more than {MAX_REPEAT}")
        return (symbol if low else self._new([[symbol], []])), max(high, 1)

    def _new(self, alternatives: list[list[_Symbol]]) -> int:
        number = len(self.rules)
        self.rules[number] = alternatives
        return number


def _code(character: str) -> int:
    if len(character) == 1:
        return ord(character)
    if character[1] in "xuU":
        return int(character[2:], 16)
    return ord({"n": "\n", "r": "\r", "t": "\t"}.get(character[1], character[1]))


def _first_symbols(rules: _Rules) -> dict[_Symbol, list[_Symbol]]:
    """For each symbol those that it may begin with, past whatever may be empty."""
    empty = _possibly_empty(rules)
    first: dict[_Symbol, list[_Symbol]] = {}
    for symbol, alternatives in rules.items():
        first[symbol] = []
        for sequence in alternatives:
            for part in sequence:
                if part is None:
                    break
                first[symbol].append(part)
                if part not in empty:
                    break
    return first


def _possibly_empty(rules: _Rules) -> set[_Symbol]:
    """The symbols that may stand for no text at all."""
    sequences = [(symbol, sequence) for symbol, alternatives in rules.items() for sequence in alternatives]
    missing = [len(sequence) for _, sequence in sequences]
    uses: defaultdict[_Symbol, list[int]] = defaultdict(list)
    for number, (_, sequence) in enumerate(sequences):
        for part in sequence:
            uses[part].append(number)

    empty: set[_Symbol] = set()
    found = [symbol for symbol, sequence in sequences if not sequence]
    while found:
        symbol = found.pop()
        if symbol in empty:
            continue
        empty.add(symbol)
        for number in uses[symbol]:
            missing[number] -= 1
            if not missing[number]:
                found.append(sequences[number][0])
    return empty

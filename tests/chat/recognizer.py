"""Whether a text is in the language of a GBNF grammar. By trying: for small texts, and without left recursion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<rule>[\w-]+)\s*::=|(?P<string>"(?:[^"\\]|\\.)*")|(?P<set>\[(?:[^\]\\]|\\.)*\])"""
    r"""|(?P<repeat>\{\d+(?:,\d*)?\}|[*+?])|(?P<sign>[()|])|(?P<name>[\w-]+))"""
)
_BOUNDS = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class Grammar:
    def __init__(self, text: str) -> None:
        self._tokens = list(_TOKEN.finditer(text))
        self._at = 0
        self._rules: dict[str, Any] = {}
        while self._at < len(self._tokens):
            name = self._take()["rule"]
            self._rules[name] = self._alternatives()

    def admits(self, text: str) -> bool:
        return len(text) in self._ends(("name", "root"), text, frozenset({0}))

    def _take(self) -> re.Match[str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _next(self, group: str) -> str | None:
        return self._tokens[self._at][group] if self._at < len(self._tokens) else "end" if group == "rule" else None

    def _alternatives(self) -> Any:
        options = [self._sequence()]
        while self._next("sign") == "|":
            self._take()
            options.append(self._sequence())
        return ("either", options)

    def _sequence(self) -> Any:
        items = []
        while not self._next("rule") and self._next("sign") not in ("|", ")"):
            token = self._take()
            if token["sign"]:
                item = self._alternatives()
                self._take()
            else:
                item = (token.lastgroup, token[token.lastgroup or 0])
            if repeat := self._next("repeat"):
                self._take()
                low, _, high = repeat.strip("{}").partition(",")
                bounds = _BOUNDS.get(repeat) or (int(low), int(high) if high else None if "," in repeat else int(low))
                item = ("repeat", item, *bounds)
            items.append(item)
        return ("sequence", items)

    def _ends(self, node: Any, text: str, starts: frozenset[int]) -> frozenset[int]:
        """Where a match of the node can end that begins at one of `starts`."""
        match node:
            case ("name", name):
                return self._ends(self._rules[name], text, starts) if starts else starts
            case ("either", options):
                return frozenset().union(*(self._ends(option, text, starts) for option in options))
            case ("sequence", items):
                for item in items:
                    starts = self._ends(item, text, starts)
                return starts
            case ("string", quoted):
                wanted = re.sub(
                    r"\\(.)", lambda escape: {"n": "\n", "t": "\t", "r": "\r"}.get(escape[1], escape[1]), quoted[1:-1]
                )
                return frozenset(at + len(wanted) for at in starts if text.startswith(wanted, at))
            case ("set", pattern):
                return frozenset(at + 1 for at in starts if re.match(pattern, text[at : at + 1]))
            case ("repeat", item, low, high):
                return frozenset().union(*self._rounds(item, text, starts, low, high))
        raise AssertionError(node)

    def _rounds(
        self, item: Any, text: str, starts: frozenset[int], low: int, high: int | None
    ) -> Iterator[frozenset[int]]:
        seen: frozenset[int] = frozenset()
        count = 0
        while starts and (high is None or count <= high):
            if count >= low:
                yield starts
                seen |= starts
            starts = self._ends(item, text, starts) - seen
            count += 1

"""A stream of text cut at fixed marks, the special words of a family's raw output."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..tags import begun


class MarkCutter:
    def __init__(self, marks: Collection[str]) -> None:
        self._marks = tuple(marks)
        longest_first = sorted(self._marks, key=len, reverse=True)
        self._any = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._held = ""
        """What may be the beginning of a mark."""

    def feed(self, text: str) -> list[str]:
        """Marks and the text between them, in order; text never contains a whole mark."""
        *parts, last = self._any.split(self._held + text)
        keep = max((begun(last, mark) for mark in self._marks), default=0)
        self._held = last[len(last) - keep :]
        return [part for part in (*parts, last[: len(last) - keep]) if part]

    def finish(self) -> list[str]:
        held, self._held = self._held, ""
        return [held] if held else []

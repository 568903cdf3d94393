"""Results of an examination as lines: level, subject, what was found, what to do (cli §3.16)."""

from __future__ import annotations

from ..messages import Found
from .format import printable
from .terminal import Terminal


class Findings:
    """Collected while progress is drawn, shown after it."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._found: list[Found] = []

    def add(self, found: Found) -> None:
        self._found.append(found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def failed(self) -> int:
        return sum(each.level == "fail" for each in self._found)

    def show(self) -> None:
        """One line each, the subjects in a column."""
        width = max((len(each.subject) for each in self._found), default=0)
        for each in self._found:
            advice = f" ({each.advice})" if each.advice else ""
            line = f"{each.level:4}  {each.subject:{width}}  {each.status}{advice}"
            self._terminal.out(f"{printable(line).replace(chr(10), ' ')}\n")

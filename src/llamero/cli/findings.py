"""Results of an examination as lines: level, subject, what was found, what to do (cli §3.16)."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import LlameroError
from ..messages import Found, Progress
from .format import columns, printable
from .progress import Display
from .terminal import Terminal

SUBJECT_COLUMNS = 40
"""A longer subject has its finding one blank after it, and does not push the others away."""


class Findings:
    """Collected while progress is drawn, shown after it."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._found: list[Found] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def failed(self) -> int:
        return sum(each.level == "fail" for each in self._found)

    def add(self, *found: Found) -> None:
        self._found += found

    def follow(self, lines: Iterable[Progress], display: Display) -> None:
        """Take in a server's lines to their end. What is no finding is progress."""
        for line in lines:
            if isinstance(line, Found):
                self._found.append(line)
            elif line.total_bytes:
                display.bar(line.digest, line.status, line.completed_bytes, line.total_bytes)
            elif line.status != "success":  # the findings say what came of it
                display.status(line.status)

    def show(self, *, as_json: bool = False) -> None:
        """One line each, the subjects in a column."""
        if as_json:
            self._terminal.out(self._json() + "\n")
            return
        subjects = [_one_line(each.subject) for each in self._found]
        width = max((columns(text) for text in subjects if columns(text) <= SUBJECT_COLUMNS), default=0)
        for each, subject in zip(self._found, subjects, strict=True):
            advice = f" ({each.advice})" if each.advice else ""
            padding = " " * (width - columns(subject))
            self._terminal.out(f"{each.level:4}  {subject}{padding}  {_one_line(each.status + advice)}\n")

    def raise_failures(self) -> None:
        """LlameroError if something failed."""
        if self.failed:
            raise LlameroError(f"{self.failed} of {len(self)} checks failed")

    def _json(self) -> str:
        import json

        checks = [
            {"level": each.level, "subject": each.subject, "finding": each.status, "advice": each.advice}
            for each in self._found
        ]
        return json.dumps({"checks": checks, "failed": self.failed}, ensure_ascii=False)


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ")

"""What was measured, as people and programs read it: a Markdown table, and JSON with every value. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from .contest import Contest
from .figures import Figure
from .machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    date: str
    machine: Machine
    is_quick: bool = False
    figures: Sequence[Figure] = ()
    contests: Sequence[Contest] = ()
    sides: Mapping[str, str] = field(default_factory=dict)
    """Whom we were compared with, by name: what each says about itself."""

    @property
    def warnings(self) -> list[str]:
        """What makes these figures worth less than they look."""
        found = []
        if self.is_quick:
            found.append("quick: smallest sizes, not to be kept")
        if not self.machine.is_quiet:
            found.append(f"other work was going on: load average {self.machine.load:.1f} before the start")
        return found

    def markdown(self) -> str:
        parts = [f"{self.date}. {self.machine.text}. Medians; smallest and largest in brackets."]
        parts += [f"**{warning}**" for warning in self.warnings]
        if self.figures:
            parts.append(table(self.figures))
        if self.contests:
            parts.append("\n".join(f"* {name}: {about}" for name, about in self.sides.items()))
            parts.append(contest_table(self.contests))
        return "\n\n".join(parts)

    def json(self) -> str:
        machine = {**asdict(self.machine), "versions": dict(self.machine.versions), "quiet": self.machine.is_quiet}
        content = {
            "date": self.date,
            "machine": machine,
            "quick": self.is_quick,
            "warnings": self.warnings,
            "figures": [figure.as_json() for figure in self.figures],
            "sides": dict(self.sides),
            "contests": [contest.as_json() for contest in self.contests],
        }
        return json.dumps(content, indent=1, ensure_ascii=False)


def table(figures: Iterable[Figure]) -> str:
    rows = [(figure.name, figure.wanted, figure.measured, _verdict(figure.met)) for figure in figures]
    return markdown_table(("what", "goal", "measured", "met"), rows)


def contest_table(contests: Iterable[Contest]) -> str:
    rows = []
    for contest in contests:
        ratio = contest.ratio
        rows.append(
            (
                contest.name,
                contest.ours.measured,
                f"{contest.rival}: {contest.theirs.measured}",
                f"{ratio.measured}, {ratio.better} is better" if ratio.values else "",
            )
        )
    return markdown_table(("what", "ours", "theirs", "ours / theirs"), rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Words of other programs stand in here: no bar and no line end may break the table."""
    return " ".join(text.replace("|", "\\|").split())


def _verdict(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "no"

"""The figures as one picture: how far each is on the good side of its goal, or of the other server.

Needs matplotlib (the extra `plot`); whoever asks for no picture needs none.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .figures import Figure, number
from .report import Report

ROW_INCHES, WIDTH_INCHES, MARGIN_INCHES = 0.42, 10.0, 1.2
GOOD, BAD = "#2a7f62", "#b8442f"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row. Above 1 is good, whether more or less is better; the ends are the worst and the best run."""

    label: str
    score: float
    worst: float
    best: float


def bars(report: Report) -> list[Bar]:
    """Every figure with a goal, then every contest; those that failed have nothing to draw."""
    shown = [_bar(figure, figure.goal, figure.measured) for figure in report.figures if figure.goal and figure.values]
    for contest in report.contests:
        if contest.ratio.values:
            medians = f"{number(contest.ours.median)} against {number(contest.theirs.median)} {contest.ours.unit}"
            shown.append(_bar(contest.ratio, 1.0, f"{medians}, {contest.rival}"))
    return shown


def _bar(figure: Figure, goal: float, label: str) -> Bar:
    scores = sorted(_score(figure, goal, value) for value in (figure.median, *figure.spread))
    return Bar(f"{figure.name}\n{label}", _score(figure, goal, figure.median), scores[0], scores[-1])


def _score(figure: Figure, goal: float, value: float) -> float:
    """How many times as good as the goal. A value that noise has brought to zero or below counts as tiny."""
    above, below = (value, goal) if figure.better == "more" else (goal, value)
    return max(above, 1e-3 * goal) / max(below, 1e-3 * goal)


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(report: Report, path: Path) -> None:
    """Write the picture, in the format that the file's ending names. Raises ValueError when nothing can be drawn."""
    import matplotlib  # late: only whoever wants a picture has it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = bars(report)
    if not rows:
        raise ValueError("nothing to draw: no figure with a goal has a value")
    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, MARGIN_INCHES + ROW_INCHES * len(rows)))
    try:
        _plot(axes, rows)
        axes.set_title(f"{report.date}, {report.machine.processor}, {report.machine.cores} cores", fontsize=9)
        axes.set_xlabel("times as good as the goal, or as the other server (logarithmic)")
        figure.tight_layout()
        figure.savefig(path, dpi=150)
    finally:
        pyplot.close(figure)


def _plot(axes: Any, rows: Sequence[Bar]) -> None:
    places = range(len(rows))
    widths = [math.log2(row.score) for row in rows]
    reach = [
        [math.log2(row.score) - math.log2(row.worst) for row in rows],
        [math.log2(row.best) - math.log2(row.score) for row in rows],
    ]
    axes.barh(places, widths, xerr=reach, color=[GOOD if row.score >= 1 else BAD for row in rows], ecolor="#555555")
    axes.set_yticks(places, [row.label for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda power, _: f"{2**power:.3g}x")

"""One measurement of ours and of somebody else's, run by run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .figures import Better, Figure, ratios


@dataclass(frozen=True, slots=True)
class Run:
    """What one side did in one round: a value, or the reason why there is none."""

    value: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Contest:
    name: str
    rival: str
    ours: Figure
    theirs: Figure
    ratio: Figure
    """Ours / theirs, of the rounds in which both came through."""

    @classmethod
    def of(
        cls, name: str, unit: str, better: Better, rival: str, ours: Sequence[Run], theirs: Sequence[Run]
    ) -> Contest:
        both = [
            (our.value, their.value)
            for our, their in zip(ours, theirs, strict=False)  # who failed too often was not asked again
            if our.value is not None and their.value
        ]
        ratio = ratios([our for our, _ in both], [their for _, their in both])
        return cls(
            name,
            rival,
            _figure(name, unit, better, ours),
            _figure(name, unit, better, theirs),
            Figure(name, ratio, better=better, error="" if ratio else "no round in which both came through"),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rival": self.rival,
            "ours": self.ours.as_json(),
            "theirs": self.theirs.as_json(),
            "ratio": self.ratio.as_json(),
        }


def _figure(name: str, unit: str, better: Better, runs: Sequence[Run]) -> Figure:
    values = tuple(run.value for run in runs if run.value is not None)
    errors = [run.error for run in runs if run.value is None]
    if not runs:
        return Figure(name, error="not measured")
    if errors and values:
        return Figure(name, values, unit, better=better, error=f"{len(errors)} of {len(runs)} runs failed: {errors[0]}")
    return Figure(name, values, unit, better=better, error=errors[0] if errors else "")

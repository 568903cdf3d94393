"""What a measurement gives back: a name, the values of its runs, and whether they keep what DESIGN promises. Pure.

How they came about is the programs' business, how they are shown `report`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. The median of its values is what counts; a row without values says in `error` why it has none, one with
    values which of its runs have none."""

    name: str
    values: tuple[float, ...] = ()
    unit: str = ""
    """Empty: a ratio."""
    goal: float | None = None
    better: Better = "more"
    error: str = ""

    def __post_init__(self) -> None:
        if not self.values and not self.error:
            raise ValueError(f"{self.name}: neither values nor the reason why there are none")

    @property
    def median(self) -> float:
        """Raises ValueError (a StatisticsError) when there are no values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return min(self.values), max(self.values)

    @property
    def met(self) -> bool | None:
        """None: there is no goal. What could not be measured meets none."""
        if self.goal is None:
            return None
        if not self.values:
            return False
        return self.median >= self.goal if self.better == "more" else self.median <= self.goal

    @property
    def measured(self) -> str:
        """`1.005 (0.945 to 1.044, n=16)`; a single value stands alone."""
        if not self.values:
            return self.error
        text = f"{number(self.median)}{self._unit}"
        if len(self.values) > 1:
            low, high = self.spread
            text += f" ({number(low)} to {number(high)}, n={len(self.values)})"
        return f"{text}; {self.error}" if self.error else text

    @property
    def wanted(self) -> str:
        """`>= 0.98`, or nothing."""
        if self.goal is None:
            return ""
        return f"{'>=' if self.better == 'more' else '<='} {self.goal:g}{self._unit}"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "goal": self.goal,
            "better": self.better,
            "met": self.met,
            "median": self.median if self.values else None,
            "values": list(self.values),
            "error": self.error,
        }


def failed(name: str, error: str) -> Figure:
    """A row that says why there is no value."""
    return Figure(name, error=error or "it failed without a word")


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Of the runs that belong together, one by one: what the machine was at in a run cancels out."""
    return tuple(above / below for above, below in zip(over, under, strict=True))


def number(value: float) -> str:
    """The digits that mean something: `0.0012`, `0.067`, `1.005`, `29.2`, `1024`."""
    if 0 < abs(value) < 0.01:
        return f"{value:.2g}"
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"

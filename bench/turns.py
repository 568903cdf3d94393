"""Taking turns: every round asks each side once, in changing order, so that drift of the machine cancels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(sides: Sequence[T], rounds: int, measure: Callable[[T, int], float]) -> list[tuple[float, ...]]:
    """What each side's rounds gave, side by side. `measure` gets a side and the number of the round."""
    values: list[list[float]] = [[] for _ in sides]
    for i in range(rounds):
        for place in order(len(sides), i):
            values[place].append(measure(sides[place], i))
    return [tuple(column) for column in values]


def order(sides: int, round_: int) -> list[int]:
    """Who is first moves on by one with each round."""
    return [(round_ + place) % sides for place in range(sides)]

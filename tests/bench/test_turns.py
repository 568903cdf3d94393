"""Rounds in which everybody is measured once, in changing order; and how much a measurement may cost."""

from __future__ import annotations

import argparse

import pytest

from bench.effort import Effort, rounds
from bench.turns import in_turn, order


def test_who_is_first_changes_from_round_to_round() -> None:
    asked: list[str] = []

    def measure(side: str, i: int) -> float:
        asked.append(f"{side}{i}")
        return i + 10 * (side == "b")

    assert in_turn(["a", "b"], 3, measure) == [(0, 1, 2), (10, 11, 12)]
    assert asked == ["a0", "b0", "b1", "a1", "a2", "b2"]


@pytest.mark.parametrize("sides", [1, 2, 3])
def test_in_as_many_rounds_as_there_are_sides_each_has_been_in_every_place(sides: int) -> None:
    for place in range(sides):
        assert {order(sides, i)[place] for i in range(sides)} == set(range(sides))


@pytest.mark.parametrize(
    ("effort", "rounds_of_9", "size_of_100_or_5"),
    [(Effort(), 9, 100), (Effort(3), 3, 100), (Effort(quick=True), 1, 5), (Effort(3, quick=True), 3, 5)],
)
def test_effort(effort: Effort, rounds_of_9: int, size_of_100_or_5: int) -> None:
    assert (effort.rounds_of(9), effort.size(100, 5)) == (rounds_of_9, size_of_100_or_5)


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5"])
def test_no_number_of_rounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="number of rounds"):
        rounds(text)

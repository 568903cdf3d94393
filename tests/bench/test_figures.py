"""Figures: what counts of several values, and when a goal is met."""

from __future__ import annotations

import pytest

from bench.figures import Figure, failed, number, ratios


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("speed", (0.97, 0.99, 1.5), goal=0.98), True),
        (Figure("speed", (0.97, 0.97, 1.5), goal=0.98), False),
        (Figure("speed", (0.98,), goal=0.98), True),
        (Figure("time", (0.5, 0.4, 9.0), "s", goal=0.5, better="less"), True),
        (Figure("time", (0.51,), "s", goal=0.5, better="less"), False),
        (Figure("for the record", (3.0,)), None),
        (Figure("fell over", goal=0.98, error="it fell over"), False),
        (failed("fell over", "it fell over"), None),
    ],
)
def test_the_median_meets_the_goal_or_does_not(figure: Figure, met: bool | None) -> None:
    assert figure.met is met


@pytest.mark.parametrize(
    ("figure", "measured", "wanted"),
    [
        (Figure("a", (1.1, 0.9, 1.0), goal=0.98), "1.000 (0.900 to 1.100, n=3)", ">= 0.98"),
        (Figure("b", (55.24,), "MiB", goal=70, better="less"), "55.2 MiB", "<= 70 MiB"),
        (Figure("c", (2.0, 4.0), "s"), "3.000 s (2.000 to 4.000, n=2)", ""),
        (
            Figure("d", (2.0, 4.0), error="1 of 3 runs failed: no"),
            "3.000 (2.000 to 4.000, n=2); 1 of 3 runs failed: no",
            "",
        ),
        (failed("e", ""), "it failed without a word", ""),
    ],
)
def test_a_figure_says_all_its_values_at_once(figure: Figure, measured: str, wanted: str) -> None:
    assert (figure.measured, figure.wanted) == (measured, wanted)


def test_a_figure_without_values_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="lost: neither"):
        Figure("lost")


def test_ratios_are_those_of_runs_that_belong_together() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == (2.0, 3.0)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        ratios([2.0], [1.0, 3.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.000"),
        (0.0012, "0.0012"),
        (0.0671, "0.067"),
        (1.0049, "1.005"),
        (29.24, "29.2"),
        (1024.4, "1024"),
        (-12.34, "-12.3"),
    ],
)
def test_a_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text

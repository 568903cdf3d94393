"""Two sides, run by run: what counts when one of them fails."""

from __future__ import annotations

from bench.contest import Contest, Run


def contest(ours: list[Run], theirs: list[Run]) -> Contest:
    return Contest.of("decode", "tokens/s", "more", "them", ours, theirs)


def test_only_rounds_in_which_both_came_through_are_compared() -> None:
    mixed = contest([Run(10), Run(20), Run(30)], [Run(5), Run(None, "timed out"), Run(10)])
    assert mixed.ratio.values == (2, 3)
    assert mixed.ours.values == (10, 20, 30)
    assert mixed.theirs.values == (5, 10)
    assert mixed.theirs.measured.endswith("; 1 of 3 runs failed: timed out")


def test_a_side_that_was_not_asked_any_more_has_fewer_rounds() -> None:
    given_up = contest([Run(10), Run(20), Run(30)], [Run(None, "no"), Run(None, "no")])
    assert given_up.ours.values == (10, 20, 30)
    assert given_up.theirs.measured == "no"
    assert not given_up.ratio.values
    assert given_up.ratio.measured == "no round in which both came through"


def test_our_own_failure_is_a_row_as_well() -> None:
    ours_failed = contest([Run(None, "500: no")], [Run(10)])
    assert (ours_failed.ours.measured, ours_failed.theirs.values) == ("500: no", (10,))


def test_nothing_is_divided_by_zero() -> None:
    assert not contest([Run(1)], [Run(0.0)]).ratio.values

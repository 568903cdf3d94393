"""The gaps between tokens, by a clock that a test moves."""

from __future__ import annotations

from llamero.durations import MS
from llamero.server.pace import BOUNDS_S, Pace


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * MS)


def gaps(pace: Pace) -> dict[float, int]:
    """Tokens by the upper bound of their class, in milliseconds."""
    bounds = [bound * 1000 for bound in BOUNDS_S]
    return {bound: count for bound, count in zip([*bounds, float("inf")], pace.gaps, strict=True) if count}


def paced(*arrivals: tuple[float, int]) -> Pace:
    """Told of so many tokens after so many milliseconds each time."""
    clock = Clock()
    pace = Pace(clock)
    for ms, tokens in arrivals:
        clock.pass_ms(ms)
        pace.hear(tokens)
    return pace


def test_the_first_token_has_no_gap() -> None:
    pace = paced((100, 1))
    assert pace.first_ns == 100 * MS + 1
    assert (gaps(pace), pace.gaps_ns) == ({}, 0)


def test_a_gap_falls_into_the_class_whose_bound_it_does_not_exceed() -> None:
    pace = paced((100, 1), (10, 2), (10.1, 3), (5000, 4))
    assert gaps(pace) == {10: 1, 20: 1, float("inf"): 1}
    assert pace.gaps_ns == int(5020.1 * MS)


def test_tokens_that_come_together_share_the_gap_before_them() -> None:
    """As speculation makes them come."""
    assert gaps(paced((100, 1), (30, 4))) == {10: 3}


def test_what_is_told_twice_counts_once() -> None:
    """Several events of one token, and the summary at the end."""
    assert gaps(paced((100, 1), (1, 1), (9, 2), (5, 2))) == {10: 1}


def test_a_summary_at_the_end_alone_counts_its_mean() -> None:
    """Of an engine that tells its figures only then: the answer was seen to begin."""
    clock = Clock()
    pace = Pace(clock)
    pace.begin()
    clock.pass_ms(100)
    pace.hear(11)
    assert gaps(pace) == {10: 10}
    assert pace.first_ns == 1


def test_an_answer_without_a_token() -> None:
    pace = Pace(Clock())
    pace.hear(0)
    assert (pace.first_ns, gaps(pace)) == (0, {})

"""Numbers made of rounds."""

from __future__ import annotations

import pytest

from llamero.cli.benchmark.figures import figures, mean_ratio, rate, seconds, share
from llamero.cli.benchmark.records import Round
from tests.cli.benchmark.reports import FAILED, one


def test_medians_of_what_was_answered() -> None:
    found = figures([one(10), one(40, ttft_s=0.3), one(20, ttft_s=0.2), FAILED])
    assert found.decode_per_s == pytest.approx(20)
    assert found.prefill_per_s == pytest.approx(400)
    assert found.ttft_s == pytest.approx(0.2)
    assert found.total_s == pytest.approx(0.7)
    assert (found.rounds, found.failures) == (4, 1)
    assert (found.prompt_tokens, found.predicted_tokens) == (120, 60)


def test_right_answers_among_those_that_can_be_judged() -> None:
    found = figures([one(), one(verdict="wrong"), one(verdict="unchecked"), FAILED])
    assert (found.right, found.checked) == (1, 2)


def test_a_server_that_tells_no_figures() -> None:
    found = figures([Round(total_s=2.0, ttft_s=0.5)])
    assert (found.prefill_per_s, found.decode_per_s, found.ttft_s, found.total_s) == (None, None, 0.5, 2.0)


def test_nothing_at_all() -> None:
    assert (figures([]).ttft_s, figures([FAILED]).decode_per_s) == (None, None)


@pytest.mark.parametrize(
    ("ratios", "mean"), [([2.0, 0.5], 1.0), ([4.0, None, 1.0], 2.0), ([0.0, 3.0], 3.0), ([None], None), ([], None)]
)
def test_twice_and_half_cancel_out(ratios: list[float | None], mean: float | None) -> None:
    assert mean_ratio(ratios) == (None if mean is None else pytest.approx(mean))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0004, "0 ms"), (0.0416, "42 ms"), (1.0, "1.00 s"), (9.999, "10.00 s"), (75, "75.0 s")],
)
def test_times(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_rates_and_shares() -> None:
    assert [rate(None), rate(0.05), rate(99.94), rate(1234.5)] == ["–", "0.1", "99.9", "1234"]
    assert [share(0, 0), share(2, 3)] == ["–", "2/3"]

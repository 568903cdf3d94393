"""Rates as people write them, buckets of tokens, and counts of what goes on. No clock runs here: the tests hold it."""

from __future__ import annotations

import pytest

from llamero.durations import HOUR, MINUTE, SECOND
from llamero.errors import BadRequest
from llamero.server.rates import Buckets, Crowd, Rate, read_rate

NOW = 10**18


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/m", Rate(60, "m")),
        ("1/s", Rate(1, "s")),
        (" 1000/h ", Rate(1000, "h")),
        ("999999999/d", Rate(999_999_999, "d")),
    ],
)
def test_a_rate(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate
    assert read_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "60", "60/", "/m", "0/m", "-1/m", "1.5/m", "60/min", "60 /m", "60/m/s", "9999999999/s", "٦٠/m", "1/M"]
)
def test_no_rate(text: str) -> None:
    with pytest.raises(BadRequest, match="60/m"):
        read_rate(text)


@pytest.mark.parametrize("rate", [Rate(1, "s"), Rate(3, "m"), Rate(7, "m"), Rate(1000, "s")], ids=str)
def test_a_full_bucket_gives_all_its_tokens_at_once(rate: Rate) -> None:
    buckets = Buckets()
    assert [buckets.take("alice", rate, NOW) for _ in range(rate.count)] == [0] * rate.count
    assert buckets.take("alice", rate, NOW) > 0
    assert buckets.take("bob", rate, NOW) == 0


def test_tokens_come_back_one_after_the_other() -> None:
    buckets, rate = Buckets(), Rate(6, "m")
    for _ in range(6):
        buckets.take("alice", rate, NOW)
    assert buckets.take("alice", rate, NOW) == 10 * SECOND
    assert buckets.take("alice", rate, NOW + 4 * SECOND) == 6 * SECOND
    assert buckets.take("alice", rate, NOW + 10 * SECOND) == 0
    assert buckets.take("alice", rate, NOW + 10 * SECOND) == 10 * SECOND
    assert [buckets.take("alice", rate, NOW + HOUR) for _ in range(7)] == [0] * 6 + [10 * SECOND]


def test_looking_takes_nothing_and_being_refused_costs_nothing() -> None:
    buckets, rate = Buckets(), Rate(1, "m")
    assert [buckets.wait_ns("alice", rate, NOW) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("alice", rate, NOW) == 0
    assert [buckets.take("alice", rate, NOW) for _ in range(100)] == [MINUTE] * 100
    assert buckets.take("alice", rate, NOW + MINUTE) == 0


def test_memory_is_bounded_and_who_goes_on_is_not_forgotten() -> None:
    buckets, rate = Buckets(most=10), Rate(1, "h")
    buckets.take("busy", rate, NOW)
    for number in range(1000):
        buckets.take(f"address {number}", rate, NOW)
        assert buckets.take("busy", rate, NOW) > 0
    assert len(buckets) == 10


def test_a_crowd_counts_what_goes_on() -> None:
    crowd = Crowd()
    with crowd.one_more("alice"), crowd.one_more("alice"), crowd.one_more("bob"):
        assert (crowd["alice"], crowd["bob"], crowd["eve"]) == (2, 1, 0)
    with pytest.raises(ZeroDivisionError), crowd.one_more("alice"):
        raise ZeroDivisionError
    assert (crowd["alice"], crowd["bob"]) == (0, 0)

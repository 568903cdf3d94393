"""Durations as Go reads and prints them (cli §4.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.durations import FOREVER, HOUR, MINUTE, MS, SECOND, US, format_duration, parse_duration
from llamero.errors import BadRequest


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (5, "5ns"),
        (1500, "1.5µs"),
        (52_300_000, "52.3ms"),
        (MINUTE, "1m0s"),
        (HOUR + MINUTE + SECOND, "1h1m1s"),
        (MINUTE + 1500 * MS, "1m1.5s"),
        (1_234_567_891, "1.234567891s"),
        (-90 * SECOND, "-1m30s"),
        (26 * HOUR, "26h0m0s"),
    ],
)
def test_printing(ns: int, text: str) -> None:
    """L-26, together with the two tables below."""
    assert format_duration(ns) == text


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1h2m3s", HOUR + 2 * MINUTE + 3 * SECOND),
        ("-1m", -MINUTE),
        ("0", 0),
        ("+5m", 5 * MINUTE),
        (".5s", 500 * MS),
        ("1.5h", 90 * MINUTE),
        ("5µs", 5 * US),
        ("5us", 5 * US),
        ("1.s", SECOND),
        ("9999999999h", FOREVER),
    ],
)
def test_reading(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        (".s", 'time: invalid duration ".s"'),
        (" 5m", 'time: invalid duration " 5m"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("-", 'time: invalid duration "-"'),
    ],
)
def test_refusing(text: str, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_duration(text)
    assert str(caught.value) == error


@given(st.integers(-FOREVER, FOREVER))
def test_what_is_printed_reads_back(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns

"""Times, display widths and tables, byte for byte (cli §4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llamero.cli.format import columns, printable, relative_time, table

NOW = datetime(2026, 8, 21, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(0), "Less than a second ago"),
        (timedelta(milliseconds=999), "Less than a second ago"),
        (timedelta(seconds=1.9), "1 second ago"),
        (timedelta(seconds=59.9), "59 seconds ago"),
        (timedelta(seconds=60), "About a minute ago"),
        (timedelta(seconds=119), "About a minute ago"),
        (timedelta(minutes=59.9), "59 minutes ago"),
        (timedelta(minutes=60), "About an hour ago"),
        (timedelta(minutes=89), "About an hour ago"),
        (timedelta(minutes=91), "2 hours ago"),
        (47 * HOUR + timedelta(minutes=20), "47 hours ago"),
        (48 * HOUR, "2 days ago"),
        (13 * DAY, "13 days ago"),
        (14 * DAY, "2 weeks ago"),
        (59 * DAY, "8 weeks ago"),
        (60 * DAY, "2 months ago"),
        (729 * DAY, "24 months ago"),
        (731 * DAY, "2 years ago"),
        (9000 * DAY, "24 years ago"),
        (timedelta(minutes=-4), "4 minutes from now"),
        (-3 * HOUR, "3 hours from now"),
        (-7000 * DAY, "19 years from now"),
        (-7400 * DAY, "20 years from now"),
        (-7700 * DAY, "Forever"),
    ],
)
def test_times(age: timedelta, text: str) -> None:
    """L-25"""
    assert relative_time(NOW - age, NOW) == text


def test_no_time_at_all() -> None:
    """L-25: the zero time is the column's placeholder, in any zone."""
    assert relative_time(datetime(1, 1, 1, tzinfo=UTC), NOW) == "Never"
    assert relative_time(datetime(1, 1, 1, tzinfo=UTC), NOW, never="-") == "-"


def test_every_cell_is_followed_by_four_blanks_and_the_last_title_by_one() -> None:
    assert list(table([("a", "bbb"), ("cccc", "d")], ("A", "B"))) == [
        "A       B   ",
        "a       bbb    ",
        "cccc    d      ",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert list(table([], ("NAME", "ID"))) == ["NAME    ID "]
    assert list(table([])) == []


def test_short_rows_are_filled_up() -> None:
    assert list(table([["a"], ["b", "c"]])) == ["a         ", "b    c    "]


def test_wide_characters_take_two_columns() -> None:
    assert columns("日本e\u0301\u200b") == 5
    assert list(table([["日本", "x"], ["abc", "y"]])) == ["日本    x    ", "abc     y    "]


def test_wide_cells_break_between_words_and_continue_two_columns_further() -> None:
    lines = list(table([["", "aaaa bbbb cccc"], ["", "a  b"]], cell_columns=9))
    assert lines == ["    aaaa bbbb    ", "      cccc         ", "    a  b         "]


def test_a_word_that_is_too_wide_stays_whole() -> None:
    assert list(table([["x " + "w" * 12]], cell_columns=9)) == ["x               ", "wwwwwwwwwwww    "]


@pytest.mark.parametrize(
    ("cell", "lines"),
    [
        pytest.param("aaa bb cc ddddd", ["aaa", "bb cc", "ddddd"], id="least ragged, not as full as can be"),
        pytest.param("a   b ccccc", ["a   b", "ccccc"], id="blanks stay"),
        pytest.param("aaa\nbb", ["aaa", "bb"], id="lines are as wide as the widest that was given"),
        pytest.param("aaaa bb\nc\nd", ["aaaa", "bb c d"], id="and flow together"),
    ],
)
def test_a_cell_is_one_paragraph(cell: str, lines: list[str]) -> None:
    assert [line.rstrip() for line in table([[cell]], cell_columns=6)] == lines


def test_a_broken_cell_takes_the_room_that_it_was_allowed() -> None:
    assert list(table([["aaaa bbb"]], cell_columns=6)) == ["aaaa      ", "bbb       "]


def test_control_characters_never_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\x9bc\td\n") == "a[31mbc\td\n"
    assert list(table([["a\x1b[2Jb"]])) == ["a[2Jb    "]

"""Streamed text is wrapped at word boundaries, and what is on the screen is the text (cli §6.7)."""

from __future__ import annotations

import re

import pytest

from llamero.cli.format import columns
from llamero.cli.wrap import Wrapper

_TOKEN = re.compile(r"\x1b\[(\d*)([DK])|(.)", re.DOTALL)


def screen(output: str, width: int) -> list[str]:
    """What a terminal of that width shows: cursor left, clear to the end, line breaks, its own wrapping."""
    lines: list[list[str]] = [[]]
    column = 0
    for count, code, char in _TOKEN.findall(output):
        if code == "D":
            column = max(0, column - int(count or 1))
        elif code == "K":
            del lines[-1][column:]
        elif char == "\n":
            lines.append([])
            column = 0
        else:
            if column >= width:
                lines.append([])
                column = 0
            lines[-1][column:] = [char, *[""] * (columns(char) - 1)]
            column += columns(char)
    return ["".join(line) for line in lines]


def wrapped(text: str, width: int, pieces: int) -> str:
    wrapper = Wrapper()
    step = max(1, len(text) // pieces)
    return "".join(wrapper.feed(text[at : at + step], width) for at in range(0, len(text), step))


PROSE = "The quick brown fox jumps over the lazy dog, and then it sleeps under a tree until the evening comes."


@pytest.mark.parametrize("width", [12, 20, 33, 80])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_words_stay_whole_and_within_the_margin(width: int, pieces: int) -> None:
    """partly L-95: the pseudo-terminal shows the rest."""
    lines = screen(wrapped(PROSE, width, pieces), width)
    assert all(len(line.rstrip()) <= width - 5 for line in lines)
    assert " ".join(line.rstrip() for line in lines) == PROSE


def test_lines_are_as_full_as_they_can_be() -> None:
    assert screen(wrapped("aaa bbb ccc ddd eee", 16, 1), 16) == ["aaa bbb ccc ", "ddd eee"]


@pytest.mark.parametrize("pieces", [1, 1000])
def test_an_endless_word_is_shown_once_and_runs_on(pieces: int) -> None:
    """partly L-95"""
    word = "".join(chr(ord("a") + i % 26) for i in range(200))
    output = wrapped(f"see {word} there", 40, pieces)
    assert output.count(word) == 1
    lines = screen(output, 40)
    assert (lines[0], "".join(lines[1:-1]), lines[-1]) == ("see ", word, "there")


def test_wide_characters_break_anywhere() -> None:
    assert screen(wrapped("漢字" * 6, 15, 1), 15) == ["漢字漢字漢", "字漢字漢字", "漢字"]
    assert screen(wrapped("abcd漢字漢字", 14, 1), 14) == ["abcd漢字", "漢字"]


def test_line_breaks_start_anew() -> None:
    assert screen(wrapped("aaa\n\nbbb ccc ddd", 14, 1), 14) == ["aaa", "", "bbb ccc ", "ddd"]


def test_blanks_at_the_edge_make_no_empty_line() -> None:
    assert screen(wrapped("aaaa bbbb\nc", 14, 1), 14) == ["aaaa bbbb", "c"]
    assert screen(wrapped("aaaa bbbb            c", 14, 1), 14)[1:] == ["c"]


def test_a_very_narrow_terminal_is_left_alone() -> None:
    assert Wrapper().feed(PROSE, 9) == PROSE

"""Choosing from a list by numbers and names."""

from __future__ import annotations

import io

import pytest

from llamero.cli.choose import choose, chosen
from llamero.cli.terminal import Terminal
from llamero.errors import BadRequest

NAMES = ["a", "b:1", "c", "d"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("all", NAMES),
        ("2", ["b:1"]),
        ("b:1", ["b:1"]),
        ("3,1", ["c", "a"]),
        ("1 3", ["a", "c"]),
        ("2-4", ["b:1", "c", "d"]),
        ("1-2, 2-3, a", ["a", "b:1", "c"]),
        ("", []),
    ],
)
def test_what_a_text_means(text: str, found: list[str]) -> None:
    assert chosen(text, NAMES) == found


@pytest.mark.parametrize("text", ["0", "5", "3-2", "1-9", "x", "-", "1-", "-1", "²"])
def test_what_it_cannot_mean(text: str) -> None:
    with pytest.raises(BadRequest, match=r"neither a number|no number"):
        chosen(text, NAMES)


def test_whoever_answers_wrongly_is_asked_again() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(io.StringIO("9\n1,2\n\n"), out, err)
    assert choose(terminal, "Which one", NAMES, default="c", most=1) == ["c"]
    assert out.getvalue().count("Which one [c]: ") == 3
    assert err.getvalue() == "there is no number 9; they go from 1 to 4\nat most 1, please\n"


def test_the_end_of_the_input_is_no_choice() -> None:
    with pytest.raises(EOFError):
        choose(Terminal(io.StringIO(), io.StringIO(), io.StringIO()), "Which one", NAMES, default="a")

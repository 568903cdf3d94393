"""Thinking, folded and open, and how full a context is (cli §3.4.4, G-22)."""

from __future__ import annotations

import io

import pytest

from llamero.cli.gauge import Gauge, human_tokens
from llamero.cli.terminal import Terminal
from llamero.cli.thinking import ThinkingView
from tests.cli.terminals import terminal_stream


def test_off_a_terminal_nothing_is_folded() -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    view = ThinkingView(terminal, wrap=True, is_folded=True)
    view.turn()
    view.show("hm")
    view.end()
    assert terminal.stdout.getvalue() == "Thinking...\nhm\n...done thinking.\n\n"  # type: ignore[attr-defined]


def test_a_fold_is_one_line_however_narrow_the_terminal() -> None:
    with terminal_stream(20) as (stream, written):
        view = ThinkingView(Terminal(io.StringIO(), stream, stream), wrap=True, is_folded=True)
        view.show("one two ")
        view.show("three")
        view.end()
    drawn = written[0].split("\r")
    assert drawn[1] == "\x1b[38;5;245mThinking... 2 words\x1b[0m\x1b[K"
    assert drawn[3] == "\x1b[38;5;245mThought for 0 s (Ct\x1b[0m\x1b[K"
    assert "three" not in written[0]
    assert view.text == "one two three"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (4096, "4K"), (10_300, "10K"), (131_072, "128K")],
)
def test_tokens_as_people_say_them(count: int, text: str) -> None:
    assert human_tokens(count) == text


@pytest.mark.parametrize(
    ("used", "limit", "text", "mood"),
    [
        (0, 4096, "", "calm"),
        (100, 0, "", "calm"),
        (100, 4096, "100/4K", "calm"),
        (3072, 4096, "3K/4K", "attention"),
        (3700, 4096, "3.6K/4K", "alarm"),
    ],
)
def test_the_gauge(used: int, limit: int, text: str, mood: str) -> None:
    gauge = Gauge(used, limit)
    assert (str(gauge), gauge.mood) == (text, mood)

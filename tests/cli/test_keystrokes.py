"""Enter and Ctrl+J, from hands and from programs (cli §6.2). The way through a terminal is `test_on_terminal`'s."""

from __future__ import annotations

import pytest
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress

from llamero.cli.keystrokes import as_meant

PASTE = "\x1b[200~a\nb\x1b[201~"


@pytest.mark.parametrize(
    ("came_at_once", "keys"),
    [
        pytest.param("\n", ["c-j"], id="Ctrl+J alone breaks the line"),
        pytest.param("hi\n", ["h", "i", "c-m"], id="a program's line is sent"),
        pytest.param("a\nb\n", ["a", "c-m", "b", "c-m"], id="two of them"),
        pytest.param("hi\r", ["h", "i", "c-m"], id="Enter is Enter"),
        pytest.param(f"{PASTE}\n", ["<bracketed-paste>", "c-m"], id="a paste is one key"),
    ],
)
def test_a_line_feed_is_enter_in_company(came_at_once: str, keys: list[str]) -> None:
    pressed: list[KeyPress] = []
    Vt100Parser(pressed.append).feed(came_at_once)
    assert [str(getattr(key.key, "value", key.key)) for key in as_meant(pressed)] == keys

"""When a message is complete, and what is a command (cli §6.2)."""

from __future__ import annotations

import pytest

from llamero.cli.quotes import is_command, is_open, quoted_text


@pytest.mark.parametrize(
    ("text", "opened", "message"),
    [
        ("hi", False, "hi"),
        ('"""', True, ""),
        ('"""a', True, "a"),
        ('"""a\nb', True, "a\nb"),
        ('"""a\nb"""', False, "a\nb"),
        ('"""a"""', False, "a"),
        ('""""""', False, ""),
        ('"""a\n"""', False, "a\n"),
        ('a """b', False, 'a """b'),
        (' """a', False, ' """a'),
        ('/set system """a', True, '/set system """a'),
        ('/set  system   """a', True, '/set  system   """a'),
        ('/set system """a\nb"""', False, '/set system """a\nb"""'),
    ],
)
def test_three_quotes(text: str, opened: bool, message: str) -> None:
    assert is_open(text) is opened
    assert quoted_text(text) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/bye", True),
        ("hi", False),
        (" /bye", False),
        ("/bye\nx", False),
        ("x\n/bye", False),
        ('/set system """a\nb"""', True),
        ('/set system  """a\nb"""', True),
    ],
)
def test_commands_stand_on_a_line_of_their_own(text: str, expected: bool) -> None:
    assert is_command(text) is expected

"""The keys that the line editor reads, from people and from programs (cli §6.2). What they do is `prompt`'s."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from prompt_toolkit.input import Input, create_input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

ENTER = KeyPress(Keys.ControlM, "\r")


def as_meant(keys: Iterable[KeyPress]) -> list[KeyPress]:
    """Keys that came at once. A line feed is Ctrl+J, which breaks a line; but a program that types a whole line at
    once ends it with one, as `pexpect` does, and means Enter."""
    keys = list(keys)
    return [ENTER if key.data == "\n" and len(keys) > 1 else key for key in keys]


if sys.platform == "win32":

    def _open(stdin: TextIO) -> Input:
        return create_input(stdin)

else:
    from prompt_toolkit.input.vt100 import Vt100Input

    class _Keyboard(Vt100Input):
        def read_keys(self) -> list[KeyPress]:
            return as_meant(super().read_keys())

    def _open(stdin: TextIO) -> Input:
        return _Keyboard(stdin)


def open_keyboard(stdin: TextIO, typed: str) -> Input:
    """The terminal as the line editor reads it: first what was `typed` before it was there."""
    keyboard = _open(stdin)
    keys: list[KeyPress] = []
    Vt100Parser(keys.append).feed(typed)
    store_typeahead(keyboard, keys)
    return keyboard

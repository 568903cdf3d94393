"""The three standard streams of one command and what may be written to them. It draws nothing by itself.

Control sequences go to a stream only when it is a terminal and the user did not ask for plain text (cli G-01).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TextIO

from ..errors import LlameroError
from .format import printable

DEFAULT_COLUMNS = 80
DEFAULT_LINES = 24

GREY = "\x1b[38;5;245m"
CYAN = "\x1b[36m"
BOLD = "\x1b[1m"
ITALIC = "\x1b[3m"
UNDERLINE = "\x1b[4m"
STRIKE = "\x1b[9m"
RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Terminal:
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    is_plain: bool = False
    """CI, NO_COLOR or TERM=dumb: as if nothing were a terminal, when it comes to drawing."""

    @property
    def is_interactive(self) -> bool:
        """Somebody types and reads: cli §3.4.1."""
        return self.stdin.isatty() and self.stdout.isatty()

    @property
    def stdout_draws(self) -> bool:
        return self.stdout.isatty() and not self.is_plain

    @property
    def stderr_draws(self) -> bool:
        return self.stderr.isatty() and not self.is_plain

    def out(self, text: str) -> None:
        """Results; shown at once, because answers arrive word by word."""
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise LlameroError(f"the output cannot be written: {os.strerror(error.errno).lower()}") from error

    def safe(self, text: str) -> str:
        """A model's or a server's text as stdout may have it: all of it, but nothing that commands a terminal."""
        return printable(text) if self.stdout.isatty() else text

    def err(self, text: str) -> None:
        self.stderr.write(text)
        self.stderr.flush()

    def read_stdin(self) -> str:
        """All of a piped input, bytes that are not UTF-8 replaced; empty when somebody sits there."""
        if self.stdin.isatty():
            return ""
        return self.stdin.buffer.read().decode(errors="replace")


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal behind a stream, 80 by 24 when there is none or it does not know."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, lines = 0, 0
    return columns or DEFAULT_COLUMNS, lines or DEFAULT_LINES

"""Pseudo-terminals for tests: what a program writes to one, and typing into one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

WAIT_LIMIT_S = 10.0


def open_terminal(columns: int = 80, lines: int = 24) -> tuple[int, int]:
    """The two ends of a pseudo-terminal of that size: ours, and the program's."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return ours, theirs


@contextmanager
def terminal_stream(columns: int = 80) -> Iterator[tuple[TextIO, list[str]]]:
    """A text stream that is a terminal; what was written to it stands in the list once it is closed."""
    ours, theirs = open_terminal(columns)
    written: list[str] = []
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    try:
        yield stream, written
    finally:
        stream.close()
        data = b""
        try:
            while block := os.read(ours, 65536):
                data += block
        except OSError:
            pass  # Linux says EIO when the other side is closed
        os.close(ours)
        written.append(data.decode())


class TerminalProgram:
    """The command line in a process of its own, with a terminal for all its streams."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, columns: int = 80) -> None:
        self._ours, theirs = open_terminal(columns)
        self.output = ""
        self._seen = 0
        # the first terminal that the leader of a new session opens is the one whose Ctrl+C it hears
        reopen = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>"$0"', os.ttyname(theirs)]
        self._process = subprocess.Popen(
            [*reopen, sys.executable, "-m", "llamero.cli.main", *argv],
            stdin=theirs,
            env={"TERM": "xterm-256color", "PATH": os.environ["PATH"], **env},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> TerminalProgram:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def go_on_after_a_shell(self) -> None:
        """As a shell's `fg` does it: the shell's own modes are the terminal's when the program goes on."""
        modes = termios.tcgetattr(self._ours)
        modes[3] |= termios.ICANON | termios.ECHO
        termios.tcsetattr(self._ours, termios.TCSANOW, modes)
        self._process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + WAIT_LIMIT_S
        while termios.tcgetattr(self._ours)[3] & termios.ECHO:
            assert time.monotonic() < deadline, "what is typed is still shown"
            time.sleep(0.01)

    def expect(self, pattern: str) -> str:
        """Wait until the output after the last match matches; returns what came up to and with the match."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while not (match := re.compile(pattern, re.DOTALL).search(self.output, self._seen)):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no {pattern!r} in {self.output[self._seen :]!r}"
            if not self._read(left_s):
                raise AssertionError(f"ended without {pattern!r}: {self.output[self._seen :]!r}")
        text = self.output[self._seen : match.end()]
        self._seen = match.end()
        return text

    def _read(self, limit_s: float) -> bool:
        """Take in what is there, waiting at most so long; false when the program has closed its side."""
        if not select.select([self._ours], [], [], limit_s)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def wait(self) -> int:
        """Read to the end; the exit status."""
        while self._read(WAIT_LIMIT_S):
            pass
        return self._process.wait(WAIT_LIMIT_S)

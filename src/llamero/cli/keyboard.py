"""The keyboard while nobody asks for a line: nothing typed is mixed into an answer, and one key folds the thinking.

What is typed meanwhile waits in the terminal and is there at the next prompt (cli §6.4). To hear one key without
reading the others, that key is made the terminal's quit key for a while: the terminal then tells it as a signal.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .terminal import Terminal

FOLD_CODE = b"\x14"
"""Ctrl+T."""
BLOCK_BYTES = 4096
"""What a terminal keeps of a line."""

if sys.platform == "win32":

    @contextmanager
    def typing_waits(terminal: Terminal) -> Iterator[str]:
        """A Windows console reads its keys without showing them anyway."""
        yield ""

    @contextmanager
    def typing_shows(terminal: Terminal) -> Iterator[None]:
        """A Windows console needs nothing for that."""
        yield

    @contextmanager
    def folding(terminal: Terminal, on_fold: Callable[[], None]) -> Iterator[None]:
        """A Windows console tells no key as a signal: thinking is folded beforehand there, with `/set fold`."""
        yield

else:
    import termios

    @contextmanager
    def typing_waits(terminal: Terminal) -> Iterator[str]:
        """From now on keys are neither shown nor read, until the line editor asks for them. Ctrl+C works as ever.

        Gives what was typed before that, for the line editor to begin with.
        """
        if not terminal.is_interactive:
            yield ""
            return
        stdin = terminal.stdin.fileno()
        before = termios.tcgetattr(stdin)
        quiet = termios.tcgetattr(stdin)
        quiet[0] &= ~termios.ICRNL  # the line editor tells Enter from Ctrl+J
        quiet[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(stdin, termios.TCSANOW, quiet)
        try:
            yield _typed_before(stdin)
        finally:
            termios.tcsetattr(stdin, termios.TCSANOW, before)

    def _typed_before(stdin: int) -> str:
        """What waits in a terminal that has edited lines until now: of Enter it has made the code of Ctrl+J."""
        typed = b""
        while select.select([stdin], [], [], 0)[0] and (block := os.read(stdin, BLOCK_BYTES)):
            typed += block
        return typed.decode(errors="replace").replace("\n", "\r")

    @contextmanager
    def typing_shows(terminal: Terminal) -> Iterator[None]:
        """Within `typing_waits`, for another program that somebody talks to: keys are shown, and end a line, as ever.
        What it has changed of the terminal is undone after it."""
        if not terminal.is_interactive:
            yield
            return
        stdin = terminal.stdin.fileno()
        before = termios.tcgetattr(stdin)
        usual = termios.tcgetattr(stdin)
        usual[0] |= termios.ICRNL
        usual[3] |= termios.ICANON | termios.ECHO
        termios.tcsetattr(stdin, termios.TCSANOW, usual)
        try:
            yield
        finally:
            termios.tcsetattr(stdin, termios.TCSANOW, before)

    @contextmanager
    def folding(terminal: Terminal, on_fold: Callable[[], None]) -> Iterator[None]:
        """Ctrl+T calls `on_fold`. Does nothing where nobody types."""
        if not terminal.is_interactive or threading.current_thread() is not threading.main_thread():
            yield
            return
        stdin = terminal.stdin.fileno()
        before = termios.tcgetattr(stdin)
        attentive = termios.tcgetattr(stdin)
        attentive[3] |= termios.NOFLSH  # a fold must not swallow what was typed before it
        attentive[6][termios.VQUIT] = FOLD_CODE

        def go_on(number: int, frame: FrameType | None) -> None:
            """After Ctrl+Z: the shell has left its own modes. A job in its background may not touch them."""
            if os.tcgetpgrp(stdin) == os.getpgrp():
                termios.tcsetattr(stdin, termios.TCSANOW, attentive)

        def stop(number: int, frame: FrameType | None) -> None:
            """Ctrl+Z: what was typed before it was not meant for the shell."""
            termios.tcflush(stdin, termios.TCIFLUSH)
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, stop)

        handler = signal.signal(signal.SIGQUIT, lambda number, frame: on_fold())
        stopped = signal.signal(signal.SIGTSTP, stop)
        resumed = signal.signal(signal.SIGCONT, go_on)
        termios.tcsetattr(stdin, termios.TCSANOW, attentive)
        try:
            yield
        except KeyboardInterrupt:
            termios.tcflush(stdin, termios.TCIFLUSH)  # whoever stops an answer does not mean what they typed before
            raise
        finally:
            signal.signal(signal.SIGCONT, resumed)
            signal.signal(signal.SIGTSTP, stopped)
            termios.tcsetattr(stdin, termios.TCSANOW, before)
            signal.signal(signal.SIGQUIT, handler)

"""Runs a program to its end, line by line, on the calling thread. For the long-lived engine see `engines/process.py`.

A child cannot outlive the call: whatever ends it, an exception of the caller's own callback too, ends the child with
all it started. Should this process be killed, the child ends at its next line of output, which nobody reads any more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from .errors import Cancelled, LlameroError

MAX_LINE_BYTES = 16 * 1024
"""A longer line is read in pieces: it is a binary blob or an attack, not a message."""

TAIL_LINES = 20
"""Lines of output kept for the error."""

POLL_S = 0.1
"""How soon a cancelled call ends its child: a person does not notice, and ten questions a second cost nothing."""


class ChildFailed(LlameroError):
    """A child ended badly or took too long. `tail` holds its last lines, for the log or for an error to a person."""

    def __init__(self, message: str, tail: Sequence[str]) -> None:
        super().__init__(message)
        self.tail = tuple(tail)


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    cancelled: Callable[[], bool],
    timeout_s: float,
    niceness: int = 0,
) -> None:
    """Run `argv` to its end; each line that it prints, also to its standard error, goes to `on_line`.

    `cancelled` is asked first, and then on another thread ten times a second. With a `niceness`, up to 19, it gives way
    to other work, with all that it starts, where the system knows that. Raises Cancelled, or ChildFailed when the
    program cannot start, when it takes longer than `timeout_s`, or when its exit status is not 0.
    """
    if cancelled():
        raise Cancelled
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
        )
    except OSError as exc:
        raise ChildFailed(f"cannot start: {exc.strerror}", tail) from exc
    with process, _watched(process, cancelled, timeout_s):
        if niceness and sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError):  # it may be over already
                os.setpriority(os.PRIO_PGRP, process.pid, niceness)
        assert process.stdout is not None
        for raw in iter(partial(process.stdout.readline, MAX_LINE_BYTES), b""):
            line = raw.decode("utf-8", "replace").rstrip()
            tail.append(line)
            on_line(line)
        status = process.wait()
    if status:
        raise ChildFailed(f"exit status {status}", tail)


@contextlib.contextmanager
def _watched(process: subprocess.Popen[bytes], cancelled: Callable[[], bool], timeout_s: float) -> Iterator[None]:
    """End `process` when it is unwanted or late, and in any case when the block ends; say why by an exception."""
    verdict: list[LlameroError] = []
    finished = threading.Event()
    deadline = time.monotonic() + timeout_s

    def watch() -> None:
        while not finished.wait(POLL_S):
            if cancelled():
                verdict.append(Cancelled())
            elif time.monotonic() > deadline:
                verdict.append(ChildFailed(f"took longer than {timeout_s:.0f} s", ()))
            if verdict:
                _kill(process)
                return

    watcher = threading.Thread(target=watch, name=f"watch {process.pid}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        _kill(process)
    if verdict:
        raise verdict[0]


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)

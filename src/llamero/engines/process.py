"""A child process that cannot be forgotten: its own group, its output drained, ended with everything it started.

It knows nothing about models. On Linux the child also dies with us by the parent-death signal that `runner.py` sets;
everywhere else it watches its standard input, which ends when we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MAX_LINE_BYTES = 16 * 1024
"""A longer line of output is cut: it is a binary blob or an attack, not a message."""

TAIL_LINES = 60
"""Lines of output kept for error texts and the log."""

REAP_TIMEOUT_S = 5.0
"""A killed process that is not reaped by then sits in the kernel; waiting longer would hang the scheduler."""


class Process:
    """Start one with `spawn`; it must be ended with `kill`, also after it exited by itself."""

    def __init__(self, child: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.pid = child.pid
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.last_output_s = asyncio.get_running_loop().time()
        self.exited = asyncio.get_running_loop().create_future()
        """Resolves to the exit status once the process is gone and its output is read."""
        self._child = child
        self._on_line = on_line
        self._drain = asyncio.create_task(self._read_output(), name=f"drain {child.pid}")

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        first_line: bytes,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> Process:
        """Start `argv`; `first_line` is written to its standard input, which then stays open as our sign of life.

        Must run on the main thread's event loop: the parent-death signal follows the thread that spawned.
        Raises OSError when the program cannot be started.
        """
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=sys.platform != "win32",
        )
        process = cls(child, on_line)
        assert child.stdin is not None
        with contextlib.suppress(OSError):  # it died already: whoever waits for it sees the exit status
            child.stdin.write(first_line)
            await child.stdin.drain()
        return process

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    async def kill(self) -> None:
        """End the whole group at once and reap it. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._child.kill()
            else:
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.exited), REAP_TIMEOUT_S)

    async def _read_output(self) -> None:
        assert self._child.stdout is not None
        rest = b""
        while chunk := await self._child.stdout.read(64 * 1024):
            self.last_output_s = asyncio.get_running_loop().time()
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines.append(rest)
                rest = b""
            for line in lines:
                self._take(line)
        if rest:
            self._take(rest)
        status = await self._child.wait()
        if not self.exited.done():
            self.exited.set_result(status)

    def _take(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip()
        self.tail.append(text)
        self._on_line(text)


def describe_exit(status: int) -> str:
    """`exit status 1`, `signal: killed`: the words in which an engine's end is reported."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal: {signal.Signals(-status).name}"
    except ValueError:
        return f"signal: {-status}"

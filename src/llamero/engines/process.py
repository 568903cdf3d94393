"""A child process that cannot be forgotten: its own group, its output drained, ended with everything it started.

It knows nothing about models. On Linux the child also dies with us by the parent-death signal that `runner.py` sets;
everywhere else it watches its standard input, which ends when we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

MAX_LINE_BYTES = 16 * 1024
"""A longer line of output is read in pieces: it is a binary blob or an attack, not a message."""

TAIL_LINES = 60
"""Lines of output kept for error texts and the log."""

LAST_WORDS_S = 0.5
"""What a process wrote is read within milliseconds of its end, unless something that left its group holds the pipe."""

REAP_TIMEOUT_S = 5.0
"""A killed process that is not reaped by then sits in the kernel; waiting longer would hang the scheduler."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Process(asyncio.SubprocessProtocol):
    """Start one with `spawn`; it must be ended with `kill`, also after it exited by itself."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.last_output_s = loop.time()
        self.exited: asyncio.Future[int] = loop.create_future()
        """Resolves to the exit status once the process is gone and its output is read."""
        self._loop = loop
        self._on_line = on_line
        self._rest = b""
        self._transport: asyncio.SubprocessTransport
        self._hurry: asyncio.TimerHandle

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
        process = cls(on_line)
        await process._loop.subprocess_exec(
            lambda: process,
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=sys.platform != "win32",
        )
        stdin = cast(asyncio.WriteTransport, process._transport.get_pipe_transport(0))
        stdin.write(first_line)  # if it died already, whoever waits for it sees the exit status
        return process

    @property
    def alive(self) -> bool:
        return self._transport.get_returncode() is None

    @property
    def bytes_taken_in(self) -> int:
        """What it has read or mapped so far, as far as Linux tells: how a silent load shows that it gets on."""
        try:
            resident_pages = int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1])
            read_bytes = int(Path(f"/proc/{self.pid}/io").read_bytes().split()[1])  # `rchar: 123`
        except (OSError, ValueError, IndexError):
            return 0
        return max(resident_pages * PAGE_BYTES, read_bytes)

    def say(self, line: bytes) -> None:
        """Write to its standard input. One that has ended hears nothing."""
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        if self.alive and not stdin.is_closing():
            stdin.write(line)

    async def kill(self) -> None:
        """End the whole group at once and reap it. Safe to call twice."""
        if self.alive:
            self._kill_group()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.exited), REAP_TIMEOUT_S)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._transport.kill()
            else:
                os.killpg(self.pid, signal.SIGKILL)

    # --- what the event loop calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.last_output_s = self._loop.time()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        while len(self._rest) > MAX_LINE_BYTES:
            piece, self._rest = self._rest[:MAX_LINE_BYTES], self._rest[MAX_LINE_BYTES:]
            self._take(piece)

    def process_exited(self) -> None:
        if sys.platform != "win32":
            self._kill_group()  # at once: later the number may be somebody else's group
        self._hurry = self._loop.call_later(LAST_WORDS_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone and its pipes are read to their ends, or closed."""
        self._hurry.cancel()
        self._transport.close()
        if self._rest:
            self._take(self._rest)
        status = self._transport.get_returncode()
        if not self.exited.done():
            self.exited.set_result(status if status is not None else -1)

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        self.tail.append(text)
        self._on_line(text)


def describe_exit(status: int) -> str:
    """`exit status 1`, `signal: killed`: the words in which an engine's end is reported."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.strsignal(-status)
    except ValueError:
        name = None
    return f"signal: {(name or str(-status)).lower()}"

"""A child is heard to its last word, and ended with everything it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from llamero.engines.process import LAST_WORDS_S, MAX_LINE_BYTES, TAIL_LINES, Process, describe_exit
from tests.engines.starting import eventually, gone
from tests.running import is_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

Run = Callable[[Coroutine[Any, Any, None]], None]

on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""The server runs on uvloop where there is one; its processes are another implementation."""


async def spawn(folder: Path, code: str, first_line: bytes = b"") -> Process:
    argv = [sys.executable, "-I", "-S", "-c", code]
    return await Process.spawn(argv, env={}, cwd=folder, first_line=first_line)


async def lines_of(folder: Path, code: str, first_line: bytes = b"") -> list[str]:
    process = await spawn(folder, code, first_line)
    await process.exited
    return list(process.tail)


STARTS_A_CHILD = (
    "import subprocess as s; c = s.Popen(['sleep', '600'], start_new_session={apart}); print(c.pid, flush=True)"
)


@on_both_loops
def test_both_outputs_are_heard_to_the_last_word(run: Run, tmp_path: Path) -> None:
    async def check() -> None:
        heard: list[str] = []
        code = "import os, sys; os.write(1, b'one\\n'); os.write(2, b'two\\n'); os.write(1, b'\\xfflast'); sys.exit(3)"
        argv = [sys.executable, "-I", "-S", "-c", code]
        process = await Process.spawn(argv, env={}, cwd=tmp_path, first_line=b"", on_line=heard.append)
        assert await process.exited == 3
        assert heard == list(process.tail) == ["one", "two", "\ufffdlast"]
        assert not process.alive
        await process.kill()

    run(check())


async def test_only_the_end_of_a_long_story_is_kept(tmp_path: Path) -> None:
    lines = await lines_of(tmp_path, "for n in range(1000): print(n)")
    assert lines == [str(n) for n in range(1000 - TAIL_LINES, 1000)]


async def test_a_line_without_an_end_is_read_in_pieces(tmp_path: Path) -> None:
    lines = await lines_of(tmp_path, f"print('x' * {3 * MAX_LINE_BYTES + 5})")
    assert "".join(lines) == "x" * (3 * MAX_LINE_BYTES + 5)
    assert max(map(len, lines)) <= 2**16 + MAX_LINE_BYTES


async def test_it_gets_its_first_line_its_environment_and_its_folder(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.readline(), dict(os.environ).get('HOME'), os.getcwd())"
    order, rest = await lines_of(tmp_path, code, b"order\n")
    assert order == "order"
    assert rest.startswith(" None /")
    assert rest.endswith(tmp_path.name)


@on_both_loops
def test_its_standard_input_stays_open_as_long_as_we_live(run: Run, tmp_path: Path) -> None:
    async def check() -> None:
        process = await spawn(
            tmp_path, "import os; os.read(0, 9); print('heard', flush=True); os.read(0, 9)", b"order\n"
        )
        await eventually(lambda: process.tail)
        assert process.alive
        await process.kill()

    run(check())


@on_both_loops
def test_killing_ends_what_it_started_too(run: Run, tmp_path: Path) -> None:
    async def check() -> None:
        process = await spawn(tmp_path, STARTS_A_CHILD.format(apart=False) + "; c.wait()")
        (grandchild,) = await eventually(lambda: [int(line) for line in process.tail])
        await process.kill()
        assert await process.exited == -signal.SIGKILL
        assert not is_running(process.pid)
        await gone(grandchild)
        await process.kill()

    run(check())


async def test_a_stop_signal_that_is_ignored_changes_nothing(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    process = await spawn(tmp_path, deaf)
    await eventually(lambda: process.tail)
    await process.kill()
    assert not is_running(process.pid)


@on_both_loops
def test_what_outlives_it_ends_with_it_and_its_end_is_noticed(run: Run, tmp_path: Path) -> None:
    """A wrapper that leaves a program behind: that program held the output open, so the end was never noticed."""

    async def check() -> None:
        process = await spawn(tmp_path, STARTS_A_CHILD.format(apart=False) + "; raise SystemExit(5)")
        assert await asyncio.wait_for(process.exited, 5) == 5
        await gone(int(process.tail[0]))

    run(check())


@on_both_loops
def test_whoever_left_the_group_cannot_hide_the_end(run: Run, tmp_path: Path) -> None:
    async def check() -> None:
        process = await spawn(tmp_path, STARTS_A_CHILD.format(apart=True) + "; raise SystemExit(6)")
        started = time.monotonic()
        assert await asyncio.wait_for(process.exited, 5) == 6
        assert time.monotonic() - started < LAST_WORDS_S + 2
        os.kill(int(process.tail[0]), signal.SIGKILL)

    run(check())


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Process.spawn([str(tmp_path / "none")], env={}, cwd=tmp_path, first_line=b"")


async def test_it_may_end_before_it_has_read_its_first_line(tmp_path: Path) -> None:
    process = await spawn(tmp_path, "raise SystemExit(4)", b"x" * 2**20)
    assert await process.exited == 4


async def test_reading_shows_also_in_silence(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(30 * 2**20))
    then_waits = "import os; os.write(1, b'done\\n'); os.read(0, 9)"
    idle = await spawn(tmp_path, then_waits)
    reading = await spawn(tmp_path, f"open('weights', 'rb').read(); {then_waits}")
    await eventually(lambda: idle.tail and reading.tail)
    assert 0 < idle.bytes_taken_in < 30 * 2**20 < reading.bytes_taken_in
    await idle.kill()
    await reading.kill()
    assert reading.bytes_taken_in == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (3221225477, "exit status 3221225477"),  # an access violation on Windows
        (-signal.SIGKILL, "signal: killed"),
        (-signal.SIGSEGV, "signal: segmentation fault"),
        (-signal.SIGABRT, "signal: aborted"),
        (-99, "signal: 99"),
    ],
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words

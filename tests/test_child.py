"""A program is run to its end, and never longer than its caller wants."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from llamero import child
from llamero.errors import Cancelled

LIMIT_S = 30.0


def run(code: str, tmp_path: Path, on_line=lambda line: None, cancelled=lambda: False, **more) -> None:
    more = {"timeout_s": LIMIT_S, "env": {}} | more
    child.run([sys.executable, "-c", code], cwd=tmp_path, on_line=on_line, cancelled=cancelled, **more)


def gone(pid: int) -> bool:
    """Whether the process has ended; one that its adopter has not reaped yet has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_every_line_is_handed_over_also_those_of_standard_error(tmp_path: Path) -> None:
    lines: list[str] = []
    run(
        "import sys; print('a', flush=True); print('b', file=sys.stderr, flush=True); print('é')",
        tmp_path,
        lines.append,
    )
    assert lines == ["a", "b", "é"]


def test_a_failure_carries_the_status_and_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(child.ChildFailed, match=r"^exit status 3$") as caught:
        run("for n in range(100): print(n)\nraise SystemExit(3)", tmp_path)
    assert caught.value.tail == tuple(str(n) for n in range(100 - child.TAIL_LINES, 100))


def test_a_line_without_an_end_is_read_in_pieces(tmp_path: Path) -> None:
    lengths: list[int] = []
    run("print('x' * 100_000)", tmp_path, lambda line: lengths.append(len(line)))
    assert sum(lengths) == 100_000
    assert max(lengths) == child.MAX_LINE_BYTES


def test_it_gets_the_environment_and_the_folder_it_was_given(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import os; print(os.environ.get('A'), os.environ.get('HOME'), os.getcwd())"
    run(code, tmp_path, lines.append, env={"A": "1"})
    assert lines == [f"1 None {os.path.realpath(tmp_path)}"]


def test_a_program_that_does_not_exist_is_a_failure_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(child.ChildFailed, match="cannot start: No such file"):
        child.run(
            [str(tmp_path / "none")],
            cwd=tmp_path,
            env={},
            on_line=lambda line: None,
            cancelled=lambda: False,
            timeout_s=LIMIT_S,
        )


def test_what_is_cancelled_already_is_not_even_started(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        run("open('started', 'w')", tmp_path, cancelled=lambda: True)
    assert list(tmp_path.iterdir()) == []


SLEEPER_WITH_CHILD = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(grandchild.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_cancelled_call_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    cancelled = threading.Event()
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        cancelled.set()

    with pytest.raises(Cancelled):
        run(SLEEPER_WITH_CHILD, tmp_path, on_line, cancelled.is_set)
    _eventually_gone(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_error_in_the_callers_own_code_ends_the_child(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(SLEEPER_WITH_CHILD, tmp_path, on_line)
    _eventually_gone(pids[0])


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(child.ChildFailed, match="took longer than 0 s"):
        run("import time; time.sleep(600)", tmp_path, timeout_s=0.3)


def _eventually_gone(pid: int) -> None:
    deadline = time.monotonic() + 5.0
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


def test_a_child_gives_way_with_all_that_it_starts(tmp_path: Path) -> None:
    lines: list[str] = []
    wait = "import os, time\nwhile os.nice(0) != 7: time.sleep(0.01)\n"
    run(f"{wait}import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; print(os.nice(0))'])",
        tmp_path, lines.append, niceness=7)  # fmt: skip
    assert lines == ["7"]
    assert os.nice(0) != 7

"""Who waits for a core: read off made-up threads, and off real ones that share one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamero.engines.waits import Waits

MS = 1_000_000
PID = 4711


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path


def write(proc: Path, **threads: tuple[int, int]) -> None:
    """Milliseconds on a core and of waiting for one, of each thread."""
    for name, (ran, waited) in threads.items():
        folder = proc / str(PID) / "task" / name.removeprefix("t")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(f"{ran * MS} {waited * MS} 7\n")


def test_the_thread_that_waits_most_counts_since_the_last_look(proc: Path) -> None:
    waits = Waits(proc)
    write(proc, t1=(1000, 900), t2=(1000, 0), t3=(0, 0))
    assert waits.share(PID) == 0, "nothing is known yet"
    write(proc, t1=(1200, 900), t2=(1120, 80), t3=(1, 9))
    assert waits.share(PID) == pytest.approx(0.4), "of the second; the third hardly wanted to run"
    assert waits.share(PID) == 0, "nobody ran since"
    write(proc, t1=(1200, 900), t2=(1120, 80), t3=(1, 9), t4=(500, 500))
    assert waits.share(PID) == 0, "a new one is not known yet"
    waits.forget(PID)
    write(proc, t1=(1300, 1900))
    assert waits.share(PID) == 0


@pytest.mark.parametrize("text", [None, "", "1 2", "a b c"])
def test_what_a_kernel_does_not_tell(proc: Path, text: str | None) -> None:
    write(proc, t1=(0, 0))
    waits = Waits(proc)
    waits.share(PID)
    path = proc / str(PID) / "task" / "1" / "schedstat"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert waits.share(PID) == 0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell")
def test_two_real_processes_on_one_core() -> None:
    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    try:
        waits = Waits()
        time.sleep(0.3)
        waits.share(processes[0].pid)
        time.sleep(0.5)
        assert waits.share(processes[0].pid) > 0.3
    finally:
        for process in processes:
            process.kill()
            process.wait()

"""What a streamed token costs: counted by the kernel, and only when the streams really ran at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.clients import Stream, most_at_once
from bench.processes import busy, cpu_s, resident_mib
from bench.streams import Spent
from bench.wire import Failed


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(1, 2)], 1),
        ([(1, 2), (2, 3)], 1),  # one ends as the other begins
        ([(1, 3), (2, 4), (5, 6)], 2),
        ([(1, 9), (2, 9), (3, 4), (5, 8)], 3),
    ],
)
def test_streams_at_once(spans: list[tuple[float, float]], most: int) -> None:
    assert most_at_once([Stream(first_s, end_s, 1) for first_s, end_s in spans]) == most


def test_a_token_costs_what_more_tokens_cost_more() -> None:
    """A request costs 3 ms, a token 40 µs, and the engine takes 2 ms for one."""
    short = Spent(tokens=100, at_once=1, server_s=0.007, engine_s=0.2)
    long = Spent(tokens=600, at_once=1, server_s=0.027, engine_s=1.2)
    assert long.beyond(short).server_us == pytest.approx(40)
    assert long.beyond(short).engine_us == pytest.approx(2000)
    assert long.server_us == pytest.approx(45)


def test_answers_that_ended_early_give_no_figure() -> None:
    short = Spent(tokens=100, at_once=1, server_s=0.007, engine_s=0.2)
    with pytest.raises(Failed, match="nothing to compare"):
        short.beyond(short)


@pytest.mark.heavy  # beside other tests the child's memory was not told, twice
def test_the_cpu_time_of_another_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; print(sum(range(10**6))); time.sleep(60)"], stdout=-1
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        worked_s = cpu_s(child.pid)
        assert 0.005 < worked_s < 10
        time.sleep(0.05)
        assert cpu_s(child.pid) - worked_s < 0.02  # it sleeps
        assert resident_mib(child.pid) > 2
        child.kill()
    with pytest.raises(OSError, match="no process"):
        cpu_s(child.pid)


def test_our_own_cpu_time_is_what_python_says() -> None:
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)


def test_busy_processes_end_with_their_block() -> None:
    with busy(1):
        children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
        assert "while True: pass" in children.stdout
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    assert "while True: pass" not in children.stdout

"""What other programs do on our cores: read off a made-up /proc, and off the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamero.engines.neighbours import Neighbours

HZ = os.sysconf("SC_CLK_TCK")
ENGINE = 4711


class FakeProc:
    """A machine whose cores, server and engine have done what they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cores = sorted(os.sched_getaffinity(0))
        self.write(at_s=0, everybody_s=0, server_s=0, engine_s=0)

    def write(
        self, *, at_s: float, everybody_s: float, server_s: float, engine_s: float | None, ended_s: float = 0
    ) -> None:
        (self.folder / "uptime").write_text(f"{at_s} 1.0\n")
        rows = [f"cpu{core} {int(everybody_s * HZ / len(self.cores))} 0 0 99999 5 6 7 8 0 0" for core in self.cores]
        (self.folder / "stat").write_text("\n".join(["cpu  1 2 3", *rows, "cpu999 999999 0 0 0", "intr 5"]))
        self._process(os.getpid(), server_s, ended_s)
        if engine_s is not None:
            self._process(ENGINE, engine_s, 0)
        else:
            (self.folder / str(ENGINE) / "stat").unlink()

    def _process(self, pid: int, seconds: float, ended_s: float) -> None:
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["S", *"1" * 10, str(int(seconds * HZ)), "0", str(int(ended_s * HZ)), "0", "20"]
        (folder / "stat").write_text(f"{pid} (a ) name) {' '.join(fields)}\n")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    return FakeProc(tmp_path)


def passed(neighbours: Neighbours, proc: FakeProc, *spans: tuple[float, float, float]) -> None:
    """Look four times a second while everybody, our server and our engine do so much in each half second."""
    at = everybody = server = engine = 0.0
    neighbours.sample()
    for everybodys, servers, engines in [tuple(part / 2 for part in span) for span in spans for _ in "12"]:
        at, everybody, server, engine = at + 0.25, everybody + everybodys, server + servers, engine + engines
        proc.write(at_s=at, everybody_s=everybody, server_s=server, engine_s=engine)
        neighbours.sample()


def test_what_we_and_our_engines_do_is_no_neighbour(proc: FakeProc) -> None:
    neighbours = Neighbours(lambda: [ENGINE], proc.folder)
    passed(neighbours, proc, *[(1.0, 0.25, 0.75)] * 120)
    assert neighbours.busy_cores == pytest.approx((0, 0), abs=0.05)


def test_what_others_do_is_told_in_cores(proc: FakeProc) -> None:
    neighbours = Neighbours(lambda: [ENGINE], proc.folder)
    passed(neighbours, proc, *[(1.25, 0.25, 0.5)] * 120)
    assert neighbours.busy_cores == pytest.approx((1, 1), abs=0.05)


MINUTE = 120
"""In halves of a second."""


@pytest.mark.parametrize(
    ("spans", "cores"),
    [
        pytest.param([(0.0, 0, 0)] * MINUTE + [(0.5, 0, 0)] * 40, (0, 1), id="for twenty seconds"),
        pytest.param([(0.5, 0, 0)] * (MINUTE + 2), (1, 1), id="for a minute"),
        pytest.param([(0.5, 0, 0)] * MINUTE + [(0.0, 0, 0)] * 12, (0, 0), id="gone for six seconds"),
    ],
)
def test_who_stays_and_who_has_gone(
    proc: FakeProc, spans: list[tuple[float, float, float]], cores: tuple[float, float]
) -> None:
    neighbours = Neighbours(list, proc.folder)
    passed(neighbours, proc, *spans)
    assert neighbours.busy_cores == pytest.approx(cores, abs=0.05)


THEY, WE, BOTH = (1.0, 0.0, 0.0), (1.0, 0.1, 0.9), (1.0, 0.05, 0.45)


@pytest.mark.parametrize(
    ("turns", "cores"),
    [
        pytest.param([THEY] * 3 + [WE] * 3, 0, id="they take turns with us"),
        pytest.param([THEY] * 16 + [WE] * 4, 0, id="and we are seldom"),
        pytest.param([THEY] * 3 + [BOTH] * 3, 1, id="they do not wait for us"),
    ],
)
def test_who_works_only_while_we_do_not_is_in_nobodys_way(
    proc: FakeProc, turns: list[tuple[float, float, float]], cores: float
) -> None:
    """Another engine that is measured against ours, a question each, would else cost ours a thread after a minute."""
    neighbours = Neighbours(lambda: [ENGINE], proc.folder)
    passed(neighbours, proc, *(turns * MINUTE)[: 2 * MINUTE], *[THEY] * 3)
    least, _ = neighbours.busy_cores
    assert least == pytest.approx(cores, abs=0.1)


@pytest.mark.parametrize(
    ("spans", "busy"),
    [
        pytest.param([(0.2, 0.2, 0)] * 4, False, id="we are busy"),
        pytest.param([(0.15, 0, 0)] * 12, False, id="somebody reads along"),
        pytest.param([(0, 0, 0)] * 3 + [(0.3, 0, 0)], True, id="somebody began half a second ago"),
        pytest.param([(0.5, 0, 0)] * 3 + [(0, 0, 0)], False, id="and has ended since"),
        pytest.param([], False, id="nothing is known yet"),
    ],
)
def test_who_is_busy_now(proc: FakeProc, spans: list[tuple[float, float, float]], busy: bool) -> None:
    neighbours = Neighbours(lambda: [ENGINE], proc.folder)
    passed(neighbours, proc, *spans)
    assert neighbours.are_busy is busy


def test_an_engine_that_ended_is_not_taken_for_a_neighbour(proc: FakeProc) -> None:
    neighbours = Neighbours(lambda: [ENGINE], proc.folder)
    proc.write(at_s=1, everybody_s=10, server_s=1, engine_s=5)
    neighbours.sample()
    neighbours.sample()
    proc.write(at_s=3, everybody_s=12, server_s=1, engine_s=None, ended_s=7)
    neighbours.sample()
    assert neighbours.busy_cores == pytest.approx((0, 0), abs=0.05)


def test_a_machine_that_tells_nothing_has_no_neighbours(tmp_path: Path) -> None:
    neighbours = Neighbours(list, tmp_path)
    assert not neighbours.sample()
    assert neighbours.busy_cores == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_busy_process_is_seen() -> None:
    neighbours = Neighbours(list)
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for _ in range(6):
            neighbours.sample()
            time.sleep(0.2)
        assert neighbours.busy_cores[1] > 0.3
        assert neighbours.are_busy
    finally:
        process.kill()
        process.wait()

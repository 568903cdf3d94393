"""How long an engine's threads spin, changed while it works: by threads that only sleep, as many as libgomp minds."""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamero.engines.llamacpp import LlamaCppSettings
from tests.engines.starting import ENV, eventually, fake_engine, plan_of, running
from tests.parrot import write_parrot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libgomp, and looks into /proc")

CHILD = """
import ctypes, os, sys, time
libgomp = ctypes.CDLL("libgomp.so.1")
from llamero.engines.spinning import Spinning
threads = lambda: len(os.listdir("/proc/self/task"))
def reaches(wanted):
    deadline = time.monotonic() + 5
    while threads() != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads()
spinning = Spinning()
cores, before = len(os.sched_getaffinity(0)), threads()
told = []
for short in map(bool, map(int, sys.argv[1])):
    spinning.be(short=short)
    told.append(reaches(before + (cores + 1 if short else 0)) - before)
print(*told)
"""


@pytest.mark.skipif(ctypes.util.find_library("gomp") is None, reason="no libgomp")
@pytest.mark.parametrize("words", ["1", "10", "110", "0", "10101", "1100"])
def test_more_threads_than_processors_while_it_is_crowded(words: str) -> None:
    """They make libgomp's own wait for a moment only; told twice is told once, and afterwards they are gone."""
    done = subprocess.run([sys.executable, "-c", CHILD, words], capture_output=True, text=True, timeout=30)
    more = len(os.sched_getaffinity(0)) + 1
    assert done.stdout.split() == [str(more * int(word)) for word in words], done.stderr


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


async def test_a_real_engine_minds_others_and_answers_all_along(tmp_path: Path) -> None:
    model = write_parrot(tmp_path / "parrot.gguf", "Whether it is nobler.")
    async with running(plan_of(model), LlamaCppSettings(env=ENV, minds_others=True)) as engine:
        before = threads(engine.pid)
        for _ in range(2):
            engine.crowd(True)
            await eventually(lambda: threads(engine.pid) > before)
            reply = await engine.wire.tokenize("To be")
            assert reply
            engine.crowd(False)
            await eventually(lambda: threads(engine.pid) == before)


@pytest.mark.parametrize("minds_others", [True, False])
async def test_a_foreign_program_is_told_nothing_and_spins_little_from_the_start(
    tmp_path: Path, minds_others: bool
) -> None:
    async with fake_engine(tmp_path, minds_others=minds_others) as engine:
        engine.crowd(True)
        environment = await asyncio.to_thread(Path(f"/proc/{engine.pid}/environ").read_bytes)
        assert b"GOMP_SPINCOUNT=300" in environment.split(b"\0")

"""What the machine has: main memory, processor cores, GPUs (scheduler §8.1)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from llamero.engines import devices
from llamero.engines.devices import Gpu, Memory, physical_cores, probe_gpus, read_memory
from tests.engines.starting import ENV, eventually, gone

KIB = 1024

MEMINFO = """MemTotal:       16000 kB
MemFree:         1000 kB
MemAvailable:    9000 kB
Buffers:          200 kB
Cached:          3000 kB
HugePages_Total:    0
"""


@pytest.mark.parametrize(
    ("meminfo", "limit", "current", "total_kib", "available_kib"),
    [
        pytest.param(MEMINFO, None, None, 16000, 9000, id="no control group"),
        pytest.param(MEMINFO, "max\n", "5000000\n", 16000, 9000, id="no limit: what the group uses does not matter"),
        pytest.param(MEMINFO, f"{8000 * KIB}\n", f"{3000 * KIB}\n", 8000, 5000, id="limited"),
        pytest.param(MEMINFO, f"{12000 * KIB}\n", f"{1000 * KIB}\n", 12000, 9000, id="limit beyond what is free"),
        pytest.param(MEMINFO, f"{20000 * KIB}\n", f"{3000 * KIB}\n", 16000, 9000, id="limit beyond the machine"),
        pytest.param(MEMINFO, f"{8000 * KIB}\n", f"{9000 * KIB}\n", 8000, 0, id="over its limit already"),
        pytest.param(MEMINFO, f"{8000 * KIB}\n", None, 8000, 8000, id="use unknown"),
        pytest.param(MEMINFO.replace("MemAvailable", "MemGone"), None, None, 16000, 4200, id="older kernels"),
        pytest.param(MEMINFO + "Odd line without number: x\n", None, None, None, None, id="not readable"),
        pytest.param("MemFree: 1 kB\n", None, None, None, None, id="incomplete"),
        pytest.param(None, None, None, None, None, id="no such file"),
    ],
)
def test_main_memory(
    tmp_path: Path,
    meminfo: str | None,
    limit: str | None,
    current: str | None,
    total_kib: int | None,
    available_kib: int | None,
) -> None:
    """What /proc cannot tell is asked of `sysconf`, so it is never unknown."""
    for name, content in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", current)):
        if content is not None:
            (tmp_path / name).write_text(content)
    memory = read_memory(tmp_path / "meminfo", tmp_path)
    if total_kib is None or available_kib is None:
        assert memory.total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert 0 < memory.available_bytes <= memory.total_bytes
    else:
        assert memory == Memory(total_kib * KIB, available_kib * KIB)


def test_this_machine() -> None:
    memory = read_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("siblings", "cores"),
    [
        pytest.param(["0,2", "1,3", "0,2", "1,3"], 2, id="hyper-threads do not count"),
        pytest.param(["0", "1"], 2, id="none"),
        pytest.param([None, "1"], 1, id="a core that is switched off"),
        pytest.param([], 4, id="nothing known: all that may be used"),
        pytest.param([str(n) for n in range(64)], 4, id="no more than may be used"),
    ],
)
def test_processor_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: list[str | None], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    for number, text in enumerate(siblings):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        if text is not None:
            (topology / "thread_siblings_list").write_text(text + "\n")
    assert physical_cores(tmp_path) == cores


def device(name: str, kind: str, total_bytes: int = 8) -> dict[str, Any]:
    return {"name": name, "description": f"a {name}", "type": kind, "total_bytes": total_bytes, "free_bytes": 5}


def probe_runs(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the place of the one that asks the wheel."""
    monkeypatch.setattr(devices, "COMMAND", (sys.executable, "-I", "-S", "-c", code))


async def test_gpus_are_what_computes_and_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [device("CPU", "CPU"), device("CUDA0", "GPU"), device("Vulkan1", "IGPU"), device("BLAS", "ACCEL")]
    answer = json.dumps([*found, device("CUDA9", "GPU", total_bytes=0)])
    probe_runs(monkeypatch, f"import os; os.write(2, b'driver: hello\\n'); print({answer!r}); print('driver: bye')")
    assert await probe_gpus(ENV) == (Gpu("CUDA0", "a CUDA0", 8, 5), Gpu("Vulkan1", "a Vulkan1", 8, 5))


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "pass", "print('[{')", "print('[{]')", "raise ImportError('no such library')"],
    ids=["driver crashes", "silence", "cut", "garbage", "no wheel"],
)
async def test_a_probe_that_fails_finds_nothing(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    probe_runs(monkeypatch, code)
    assert await probe_gpus(ENV) == ()


HANGS = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"


async def test_a_probe_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(devices, "PROBE_TIMEOUT_S", 0.5)
    probe_runs(monkeypatch, HANGS)
    assert await probe_gpus(ENV) == ()
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_probe_that_is_given_up_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that is stopped right after its start."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    probe_runs(monkeypatch, HANGS)
    probe = asyncio.create_task(probe_gpus(ENV))
    pid = await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await gone(int(pid))


@pytest.mark.engine
async def test_the_wheel_is_asked_in_a_process_of_its_own() -> None:
    for gpu in await probe_gpus(ENV):
        assert gpu.name
        assert 0 <= gpu.free_bytes <= gpu.total_bytes
    assert "xllamacpp" not in sys.modules

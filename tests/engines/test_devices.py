"""What the machine has: main memory, processor cores, GPUs (scheduler §8.1)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.engines import devices
from llamero.engines.devices import (
    Gpu,
    GpuRules,
    Memory,
    physical_cores,
    probe_gpus,
    read_devices,
    read_memory,
    usable,
)
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


def test_in_a_container_files_that_were_read_are_no_memory_in_use(tmp_path: Path) -> None:
    """The kernel takes their pages back: a model that was just pulled does not stand in its own way."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory.max").write_text(f"{8000 * KIB}\n")
    (tmp_path / "memory.current").write_text(f"{7900 * KIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {500 * KIB}\ninactive_file {6000 * KIB}\nactive_file {1000 * KIB}\n")
    assert read_memory(tmp_path / "meminfo", tmp_path) == Memory(8000 * KIB, 7100 * KIB)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        pytest.param("200000 100000", 2, id="two cores' worth"),
        pytest.param("150000 100000", 1, id="a part of a core is none"),
        pytest.param("20000 100000", 1, id="less than one"),
        pytest.param("max 100000", 4, id="no limit"),
        pytest.param("nonsense", 4, id="not to be read"),
        pytest.param(None, 4, id="no control group"),
    ],
)
def test_cores_that_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4), raising=False)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert physical_cores(tmp_path, tmp_path) == cores


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
    assert physical_cores(tmp_path, tmp_path) == cores


MIB = 2**20
GIB = 2**30

TWO_CUDA = """\
ggml_cuda_init: found 2 CUDA devices (Total VRAM: 28526 MiB):
  Device 0: NVIDIA GeForce RTX 4080, compute capability 8.9, VMM: yes, VRAM: 16379 MiB
  Device 1: NVIDIA TITAN V, compute capability 7.0, VMM: yes, VRAM: 12147 MiB
load_backend: loaded CUDA backend from /usr/lib/ollama/libggml-cuda.so
Available devices:
  CUDA0: NVIDIA GeForce RTX 4080 (16379 MiB, 14900 MiB free)
  CUDA1: NVIDIA TITAN V (12147 MiB, 11800 MiB free)
"""
APU = """\
ggml_cuda_init: found 1 ROCm devices (Total VRAM: 98304 MiB):
  Device 0: AMD Radeon 8060S Graphics, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 98304 MiB
ggml_vulkan: Found 1 Vulkan devices:
ggml_vulkan: 0 = AMD Radeon 8060S Graphics (RADV GFX1151) (radv) | uma: 1 | fp16: 1 | bf16: 0 | warp size: 64
Available devices:
  ROCm0: AMD Radeon 8060S Graphics (98304 MiB, 98000 MiB free)
  Vulkan0: AMD Radeon 8060S Graphics (RADV GFX1151) (98500 MiB, 98000 MiB free)
"""
MAC = """\
ggml_metal_device_init: GPU name:   Apple M3 Max
Available devices:
  MTL0: Apple M3 Max (98304 MiB, 98303 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
"""


@pytest.mark.parametrize(
    ("lines", "gpus"),
    [
        pytest.param(
            TWO_CUDA,
            [
                Gpu("CUDA0", "NVIDIA GeForce RTX 4080", 16379 * MIB, 14900 * MIB, compute=(8, 9)),
                Gpu("CUDA1", "NVIDIA TITAN V", 12147 * MIB, 11800 * MIB, compute=(7, 0)),
            ],
            id="CUDA",
        ),
        pytest.param(
            APU,
            [
                Gpu(
                    "ROCm0",
                    "AMD Radeon 8060S Graphics",
                    98304 * MIB,
                    98000 * MIB,
                    is_integrated=True,
                    target="gfx1151",
                ),
                Gpu(
                    "Vulkan0",
                    "AMD Radeon 8060S Graphics (RADV GFX1151)",
                    98500 * MIB,
                    98000 * MIB,
                    is_integrated=True,
                ),
            ],
            id="ROCm and Vulkan, integrated",
        ),
        pytest.param(
            MAC,
            [
                Gpu("MTL0", "Apple M3 Max", 98304 * MIB, 98303 * MIB, is_integrated=True),
                Gpu("BLAS", "Accelerate", 0, 0),
            ],
            id="Metal",
        ),
        pytest.param("Available devices:\n", [], id="none"),
        pytest.param("  CUDA0: cut (16379 MiB, 149\n", [], id="cut"),
        pytest.param('[{"name": "CUDA0"}]\n', [], id="rows that lack something"),
        pytest.param('[{"name": "CUDA0",\n', [], id="rows that are cut"),
    ],
)
def test_what_an_engine_sees(lines: str, gpus: list[Gpu]) -> None:
    assert list(read_devices(lines.splitlines())) == gpus


def test_names_tell_the_library() -> None:
    found = read_devices((TWO_CUDA + APU + MAC).splitlines())
    assert [(gpu.library, gpu.index) for gpu in found] == [
        ("CUDA", 0),
        ("CUDA", 1),
        ("ROCm", 0),
        ("Vulkan", 0),
        ("Metal", 0),
        ("BLAS", 0),
    ]


RTX = Gpu("CUDA0", "NVIDIA GeForce RTX 4080", 16 * GIB, 15 * GIB, pci="0000:01:00.0")
RTX_IN_VULKAN = Gpu("Vulkan0", "NVIDIA GeForce RTX 4080", 16 * GIB, 15 * GIB, pci="0000:01:00.0")
SECOND_RTX = Gpu("CUDA1", "NVIDIA GeForce RTX 4080", 16 * GIB, 15 * GIB, pci="0000:02:00.0")
RADEON = Gpu("ROCm0", "AMD Radeon", 24 * GIB, 24 * GIB)
RADEON_IN_VULKAN = Gpu("Vulkan1", "AMD Radeon", int(23.6 * GIB), 24 * GIB)
SMALLER_RADEON = replace(RADEON_IN_VULKAN, total_bytes=16 * GIB)
ARC = Gpu("Vulkan2", "Intel Arc", 16 * GIB, 16 * GIB)
UHD = Gpu("Vulkan3", "Intel UHD", 8 * GIB, 8 * GIB, is_integrated=True)
ORIN = Gpu("CUDA0", "Orin", 30 * GIB, 20 * GIB, is_integrated=True)
STRIX_HALO = Gpu("ROCm0", "AMD Radeon 8060S", 96 * GIB, 90 * GIB, is_integrated=True, target="gfx1151")
PHOENIX = Gpu("ROCm0", "AMD Radeon 780M", 8 * GIB, 8 * GIB, is_integrated=True, target="gfx1103")
M3 = Gpu("MTL0", "Apple M3", 16 * GIB, 16 * GIB, is_integrated=True)
ALL = (RTX, RTX_IN_VULKAN, SECOND_RTX, RADEON, RADEON_IN_VULKAN, ARC, UHD)


@pytest.mark.parametrize(
    ("found", "rules", "names"),
    [
        pytest.param(ALL, {}, "CUDA0 CUDA1 ROCm0 Vulkan2", id="each card once, through its maker's library"),
        pytest.param(ALL, {"integrated": True}, "CUDA0 CUDA1 ROCm0 Vulkan2 Vulkan3", id="integrated ones too"),
        pytest.param(ALL, {"vulkan": False}, "CUDA0 CUDA1 ROCm0", id="no Vulkan"),
        pytest.param(ALL, {"library": "cuda_v13"}, "CUDA0 CUDA1", id="one library"),
        pytest.param(ALL, {"library": "rocm"}, "ROCm0", id="another"),
        pytest.param(ALL, {"library": "vulkan"}, "Vulkan0 Vulkan1 Vulkan2", id="Vulkan on purpose"),
        pytest.param(ALL, {"library": "cpu_avx2"}, "", id="none at all"),
        pytest.param((UHD,), {}, "", id="integrated, and slow"),
        pytest.param((ORIN,), {}, "CUDA0", id="integrated CUDA"),
        pytest.param((STRIX_HALO,), {}, "ROCm0", id="integrated, and worth it"),
        pytest.param((PHOENIX,), {}, "", id="integrated ROCm as a rule"),
        pytest.param((M3,), {}, "MTL0", id="Apple"),
        pytest.param((ORIN, M3), {"integrated": False}, "", id="none that is integrated"),
        pytest.param((Gpu("BLAS", "Accelerate", 0, 0),), {}, "", id="no memory, no GPU"),
        pytest.param((RTX_IN_VULKAN, ARC), {}, "Vulkan0 Vulkan2", id="Vulkan where there is nothing else"),
        pytest.param(
            (RADEON, replace(RADEON_IN_VULKAN, total_bytes=16 * GIB)),
            {},
            "ROCm0 Vulkan1",
            id="of one name, of two sizes",
        ),
    ],
)
def test_which_gpus_may_be_used(found: tuple[Gpu, ...], rules: dict[str, Any], names: str) -> None:
    assert " ".join(gpu.name for gpu in usable(found, GpuRules(**rules), {})) == names


@pytest.mark.parametrize(
    ("env", "ids"),
    [
        pytest.param({}, {"CUDA0": "0", "CUDA1": "1", "ROCm0": "0", "Vulkan2": "2"}, id="nothing is hidden"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "3, 5"}, {"CUDA0": "3", "CUDA1": "5"}, id="places"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "GPU-8f1c,GPU-77"}, {"CUDA0": "GPU-8f1c", "CUDA1": "GPU-77"}, id="names"),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, {"CUDA0": "0", "CUDA1": "1"}, id="empty is unset"),
        pytest.param({"ROCR_VISIBLE_DEVICES": "2,4", "HIP_VISIBLE_DEVICES": "1"}, {"ROCm0": "4"}, id="one in another"),
        pytest.param({"HIP_VISIBLE_DEVICES": "7"}, {"ROCm0": "7"}, id="HIP alone"),
        pytest.param({"GGML_VK_VISIBLE_DEVICES": "9,8,7"}, {"Vulkan2": "7"}, id="Vulkan"),
    ],
)
def test_cards_are_known_by_their_unfiltered_ids(env: dict[str, str], ids: dict[str, str]) -> None:
    found = {gpu.name: gpu.id for gpu in usable((RTX, SECOND_RTX, RADEON, ARC), GpuRules(), env)}
    assert found | ids == found


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("CUDA_VISIBLE_DEVICES", "ROCm0"),
        ("HIP_VISIBLE_DEVICES", "CUDA0 CUDA1"),
        ("ROCR_VISIBLE_DEVICES", "CUDA0 CUDA1"),
        ("GPU_DEVICE_ORDINAL", "CUDA0 CUDA1"),
        ("GGML_VK_VISIBLE_DEVICES", "CUDA0 CUDA1 ROCm0"),
    ],
)
def test_a_hidden_card_is_not_used_through_vulkan_either(name: str, left: str) -> None:
    assert " ".join(gpu.name for gpu in usable(ALL, GpuRules(), {name: "-1"})) == left


def device(name: str, kind: str, total_bytes: int = 8) -> dict[str, Any]:
    sizes = {"total_bytes": total_bytes, "free_bytes": 5}
    return {"name": name, "description": f"a {name}", "type": kind, "pci": "", "cuda_level": 0, **sizes}


def probe_runs(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the place of the one that asks the wheel."""
    monkeypatch.setattr(devices, "COMMAND", (sys.executable, "-I", "-S", "-c", code))


async def test_gpus_are_what_computes_and_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [device("CPU", "CPU"), device("CUDA0", "GPU"), device("Vulkan1", "IGPU"), device("BLAS", "ACCEL")]
    answer = json.dumps([*found, device("CUDA9", "GPU", total_bytes=0)])
    probe_runs(monkeypatch, f"import os; os.write(2, b'driver: hello\\n'); print({answer!r}); print('driver: bye')")
    rules = GpuRules(integrated=True)
    cuda, vulkan = Gpu("CUDA0", "a CUDA0", 8, 5, id="0"), Gpu("Vulkan1", "a Vulkan1", 8, 5, is_integrated=True, id="1")
    assert await probe_gpus(ENV, rules=rules) == (cuda, vulkan)
    assert await probe_gpus(ENV) == (cuda,)


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
    probe_runs(monkeypatch, HANGS)
    assert await probe_gpus(ENV, timeout_s=0.5) == ()
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


@pytest.mark.parametrize(
    ("says", "found"),
    [
        (["Available devices:", "  (none)"], ()),
        (
            [
                "loading",
                "Available devices:",
                "  CUDA0: A card (v2) (24576 MiB, 100 MiB free)",
                "  X: b (1 MiB, 0 MiB free)",
            ],
            (Gpu("CUDA0", "A card (v2)", 24 << 30, 100 << 20, id="0"), Gpu("X", "b", 1 << 20, 0, id="0")),
        ),
        (["error: unknown argument"], ()),
    ],
)
async def test_a_program_in_the_wheels_place_lists_what_it_sees(
    tmp_path: Path, says: list[str], found: tuple[Gpu, ...]
) -> None:
    program = tmp_path / "llama-server"
    lines = "".join(f"echo '{line}'\n" for line in says)
    program.write_text(f'#!/bin/sh\ntest "$1" = --list-devices || exit 1\n{lines}exit {0 if found else 1}\n')
    program.chmod(0o755)
    assert await probe_gpus(ENV, str(program)) == found
    assert await probe_gpus(ENV | {"PATH": str(tmp_path)}, "llama-server") == found
    assert await probe_gpus(ENV, "/no/such/program") == ()

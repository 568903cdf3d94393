"""What this machine computes on: main memory, and the GPUs that the engine sees. It places nothing.

Source: scheduler §1, §8.1. Memory figures are bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import Settings
from ..errors import EngineError
from .process import Process
from .processor import read_features
from .runner import COMMAND

PROBE_TIMEOUT_S = 90.0 if sys.platform == "win32" else 30.0
"""Driver start-up of a machine with many GPUs takes seconds; beyond this something hangs."""

MIB = 2**20

VISIBILITY: Mapping[str, tuple[str, ...]] = {
    # by library: the variables that make cards visible, each counting those that the one before it leaves
    "CUDA": ("CUDA_VISIBLE_DEVICES",),
    "ROCm": ("ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "HIP_VISIBLE_DEVICES"),
    "Vulkan": ("GGML_VK_VISIBLE_DEVICES",),
}

SAME_MEMORY_SHARE = 0.05
SAME_MEMORY_BYTES = 512 * MIB
"""Two libraries may keep unequal parts of one card's memory for themselves: so much, or that share of it."""

INTEGRATED_TARGETS = frozenset("gfx902 gfx90c gfx1035 gfx1036 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153".split())
WORTHY_TARGETS = frozenset({"gfx1151"})
_INTEGRATED = re.compile(r"Orin|Xavier|Thor|Tegra|GB10|Apple")
"""By their names, where a list does not tell."""


@dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    """As the engine lists it: `CUDA0`, `ROCm1`, `Vulkan0`, `MTL0`."""
    description: str
    total_bytes: int
    free_bytes: int
    is_integrated: bool = False
    """It computes in main memory."""
    id: str = ""
    """What names it in the variables that make devices visible, whatever hides others now."""
    pci: str = ""
    """Where it sits; empty: not known."""
    compute: tuple[int, int] | None = None
    """CUDA's version of the hardware."""
    target: str = ""
    """ROCm's: `gfx1151`."""
    cuda_level: int = 0
    """Of the driver; 0: not known."""

    @property
    def library(self) -> str:
        kind = self.name.rstrip("0123456789")
        return "Metal" if kind == "MTL" else kind

    @property
    def index(self) -> int:
        """Among those of its library that are visible."""
        number = self.name[len(self.name.rstrip("0123456789")) :]
        return int(number) if number else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRules:
    """Which of the GPUs that are there may be used."""

    library: str = ""
    """OLLAMA_LLM_LIBRARY: the name of a backend, such as `cuda_v13` or `cpu`; empty: any."""
    integrated: bool | None = None
    """OLLAMA_IGPU_ENABLE; None: those that are worth it."""
    vulkan: bool = True
    overhead_bytes: int = 0
    """Of each, not to be used."""

    @classmethod
    def of(cls, settings: Settings) -> GpuRules:
        return cls(
            library=settings.gpu_library,
            integrated=settings.gpu_integrated,
            vulkan=settings.gpu_vulkan,
            overhead_bytes=settings.gpu_overhead_bytes,
        )


NO_RULES = GpuRules()


def read_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Main memory, narrowed by the control group we run in. Unknown systems report what `sysconf` knows."""
    total, available = _host_memory(proc)
    limit = _number(cgroup / "memory.max")
    if limit is not None and limit < total:
        used = (_number(cgroup / "memory.current") or 0) - _cached_bytes(cgroup / "memory.stat")
        total, available = limit, min(available, max(0, limit - used))
    return Memory(total, available)


def _cached_bytes(stat: Path) -> int:
    """Of what a control group uses, pages of files: a model that was just pulled fills it with them, and the kernel
    takes them back when somebody needs memory (scheduler §8.3: free and reclaimable)."""
    try:
        rows = dict(line.split() for line in stat.read_text().splitlines())
        return sum(int(rows.get(name, 0)) for name in ("inactive_file", "active_file"))
    except (OSError, ValueError):
        return 0


def _host_memory(proc: Path) -> tuple[int, int]:
    try:
        lines = [line for line in proc.read_text().splitlines() if ":" in line]
        rows = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        free = sum(rows.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
        return rows["MemTotal"], rows.get("MemAvailable", free)
    except (OSError, KeyError, ValueError, IndexError):
        return _sysconf_memory()


def _sysconf_memory() -> tuple[int, int]:
    if sys.platform == "win32":
        return _windows_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sys.platform == "darwin":
        # macOS keeps little memory free and gives back what it caches; half is what it will part with without swapping
        return total, total // 2
    return total, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _windows_memory() -> tuple[int, int]:
    import ctypes

    status = (ctypes.c_uint64 * 8)()
    status[0] = ctypes.sizeof(status)  # the first field is a 32-bit length followed by a 32-bit load figure
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]  # Windows only
    return int(status[1]), int(status[2])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # `max` is not a number: no limit
        return None


async def probe_gpus(
    env: Mapping[str, str], program: str = "", rules: GpuRules = NO_RULES, *, timeout_s: float = PROBE_TIMEOUT_S
) -> tuple[Gpu, ...]:
    """The GPUs that a `llama-server` program can use and may; the wheel's, without one. None when asking fails."""
    try:
        lines = await _ask("--devices", _listing(program, env) if program else {}, env, timeout_s)
    except EngineError:
        return ()
    return usable(read_devices(lines), rules, env)


def _listing(program: str, env: Mapping[str, str]) -> dict[str, Any]:
    """What makes our child a foreign program that lists what it sees."""
    found = shutil.which(program, path=env.get("PATH"))
    if found is None:
        raise EngineError("it does not exist")
    return {"exec": [os.path.abspath(found), "--list-devices"]}


async def probe_features(env: Mapping[str, str]) -> frozenset[str]:
    """The processor's instructions that the wheel uses. EngineError when it does not tell."""
    lines = await _ask("--features", {}, env, PROBE_TIMEOUT_S)
    try:
        return read_features(json.loads(next(line for line in lines if line.startswith("{")))["features"])
    except (StopIteration, ValueError, KeyError):
        raise EngineError(f"it ends without an answer: {' '.join(lines[-3:])}") from None


async def _ask(flag: str, order: Mapping[str, Any], env: Mapping[str, str], timeout_s: float) -> list[str]:
    """What our child program prints. A driver or library that crashes must not take us along."""
    lines: list[str] = []
    first_line = json.dumps({"parent": os.getpid(), **order}).encode() + b"\n"
    try:
        child = await Process.spawn(
            (*COMMAND, flag), env=env, cwd=Path(sys.prefix), first_line=first_line, on_line=lines.append
        )
    except OSError as error:
        raise EngineError(f"it cannot be started: {error.strerror}") from error
    try:
        await asyncio.wait_for(asyncio.shield(child.exited), timeout_s)
    except TimeoutError:
        raise EngineError(f"it does not answer within {timeout_s:.0f} s") from None
    finally:
        await child.kill()
    return lines


_ROW = re.compile(r"\s+(\w{1,32}): (.{0,200}) \((\d{1,9}) MiB, (\d{1,9}) MiB free\)")
_CUDA = re.compile(r"\s+Device (\d{1,3}): .{0,200}?, compute capability (\d{1,3})\.(\d{1,3})")
_ROCM = re.compile(r"\s+Device (\d{1,3}): .{0,200}?, (gfx[0-9a-f]{1,8})")
_VULKAN = re.compile(r"ggml_vulkan: (\d{1,3}) = .{0,200}? \| uma: ([01])")


def read_devices(lines: Iterable[str]) -> tuple[Gpu, ...]:
    """What an engine says that it sees: rows of JSON from our child, or the list that a foreign program prints.

    Either may be preceded by what the drivers say of each card.
    """
    found: list[Gpu] = []
    known: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.startswith("[{"):
            found += _read_rows(line)
        elif match := _ROW.fullmatch(line):
            total, free = int(match[3]) * MIB, int(match[4]) * MIB
            found.append(Gpu(match[1], match[2], total, free, is_integrated=bool(_INTEGRATED.search(match[2]))))
        elif match := _CUDA.match(line):
            known[f"CUDA{match[1]}"] = {"compute": (int(match[2]), int(match[3]))}
        elif match := _ROCM.match(line):
            known[f"ROCm{match[1]}"] = {"target": match[2]}
            if match[2] in INTEGRATED_TARGETS:
                known[f"ROCm{match[1]}"]["is_integrated"] = True
        elif match := _VULKAN.match(line):
            known[f"Vulkan{match[1]}"] = {"is_integrated": match[2] == "1"}
    return tuple(replace(gpu, **known.get(gpu.name, {})) for gpu in found)


def _read_rows(line: str) -> list[Gpu]:
    try:
        return [
            Gpu(
                row["name"],
                row["description"],
                row["total_bytes"],
                row["free_bytes"],
                is_integrated=row["type"] == "IGPU",
                pci=row["pci"],
                cuda_level=row["cuda_level"],
            )
            for row in json.loads(line)
            if row["type"] in ("GPU", "IGPU")
        ]
    except (ValueError, KeyError, TypeError):
        return []


def usable(found: Sequence[Gpu], rules: GpuRules, env: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that may be used, under their unfiltered ids. `env` is what they were found with (scheduler §1, §8.1).

    1. What has no memory of its own or shared is a pseudo device.
    2. A variable that hides all cards of a library hides them in Vulkan as well: they are the same cards.
    3. One backend only, when it is named.
    4. Integrated ones where they are wanted.
    5. A card that is there twice is used through its maker's library.
    """
    cards = [gpu for gpu in found if gpu.total_bytes > 0]  # 1
    hidden = {library for library, names in VISIBILITY.items() if any(env.get(name) == "-1" for name in names)}
    if hidden:  # 2
        hidden.add("Vulkan")
    if not rules.vulkan:
        hidden.add("Vulkan")
    cards = [gpu for gpu in cards if gpu.library not in hidden]
    if rules.library:  # 3
        wanted = rules.library.lower().partition("_")[0]
        cards = [gpu for gpu in cards if gpu.library.lower() == wanted]
    cards = [gpu for gpu in cards if not gpu.is_integrated or _is_wanted(gpu, rules)]  # 4
    makers = [gpu for gpu in cards if gpu.library != "Vulkan"]
    cards = [gpu for gpu in cards if gpu in makers or not any(_is_same_card(gpu, other) for other in makers)]  # 5
    return tuple(replace(gpu, id=_unfiltered_id(gpu, env)) for gpu in cards)


def _is_wanted(gpu: Gpu, rules: GpuRules) -> bool:
    if rules.integrated is not None:
        return rules.integrated
    return gpu.library in ("CUDA", "Metal") or gpu.target in WORTHY_TARGETS


def _is_same_card(one: Gpu, other: Gpu) -> bool:
    if one.pci and other.pci:
        return one.pci == other.pci
    difference = abs(one.total_bytes - other.total_bytes)
    return one.description == other.description and (
        difference <= max(SAME_MEMORY_BYTES, SAME_MEMORY_SHARE * other.total_bytes)
    )


def _unfiltered_id(gpu: Gpu, env: Mapping[str, str]) -> str:
    """Each variable names cards by their place among those that the one before it leaves visible."""
    place = str(gpu.index)
    for name in reversed(VISIBILITY.get(gpu.library, ())):
        ids = [word.strip() for word in env.get(name, "").split(",") if word.strip()]
        if place.isdigit() and int(place) < len(ids):
            place = ids[int(place)]
    return place


def physical_cores(sys_cpu: Path = Path("/sys/devices/system/cpu"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that compute, hyper-threads not counted, within what this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = {text for cpu in sys_cpu.glob("cpu[0-9]*") if (text := _siblings(cpu))}
    return max(1, int(min(usable, len(cores) or usable, core_quota(cgroup))))


def core_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores' worth of time that the control group we run in may take, as `docker run --cpus` sets it."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # `max` is not a number: no limit
        return float("inf")


def _siblings(cpu: Path) -> str:
    try:
        return (cpu / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return ""

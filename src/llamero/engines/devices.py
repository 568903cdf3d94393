"""What this machine computes on: main memory, and the GPUs that the engine sees. It places nothing.

Source: scheduler §8.1. Memory figures are bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .process import Process
from .runner import COMMAND

PROBE_TIMEOUT_S = 30.0
"""Driver start-up of a machine with many GPUs takes seconds; beyond this something hangs."""


@dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    description: str
    total_bytes: int
    free_bytes: int


def read_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Main memory, narrowed by the control group we run in. Unknown systems report what `sysconf` knows."""
    total, available = _host_memory(proc)
    limit = _number(cgroup / "memory.max")
    if limit is not None and limit < total:
        used = _number(cgroup / "memory.current") or 0
        total, available = limit, min(available, max(0, limit - used))
    return Memory(total, available)


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


async def probe_gpus(env: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs that the engine wheel can use. Asked in a child: a driver that crashes must not take us along."""
    order = json.dumps({"parent": os.getpid()}).encode() + b"\n"
    lines: list[str] = []
    try:
        child = await Process.spawn(
            (*COMMAND, "--devices"), env=env, cwd=Path(sys.prefix), first_line=order, on_line=lines.append
        )
    except OSError:
        return ()
    try:
        await asyncio.wait_for(asyncio.shield(child.exited), PROBE_TIMEOUT_S)
        rows = json.loads(next(line for line in reversed(lines) if line.startswith("[{")))
    except (TimeoutError, StopIteration, ValueError):
        return ()
    finally:
        await child.kill()
    return tuple(
        Gpu(row["name"], row["description"], row["total_bytes"], row["free_bytes"])
        for row in rows
        if row["type"] in ("GPU", "IGPU") and row["total_bytes"] > 0
    )


def physical_cores(sys_cpu: Path = Path("/sys/devices/system/cpu")) -> int:
    """Cores that compute, hyper-threads not counted, within what this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = {text for cpu in sys_cpu.glob("cpu[0-9]*") if (text := _siblings(cpu))}
    return min(usable, len(cores)) if cores else usable


def _siblings(cpu: Path) -> str:
    try:
        return (cpu / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return ""

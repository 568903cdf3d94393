"""The machine: does the engine start and use the processor, is there memory, are others at work, what is the time."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ...engines.devices import GpuRules, physical_cores, probe_features, probe_gpus, read_memory
from ...engines.native import NativeEngines, wheel_version
from ...engines.processor import processor_features
from ...errors import EngineError
from ...messages import Found
from ...sizes import human_bytes
from . import Surroundings, fail, ok, warn

PROGRAM_TIMEOUT_S = 3.0
"""For `llama-server --version`."""
LITTLE_MEMORY_BYTES = 2**30
"""With less free, hardly any model loads."""
MUCH_SWAPPED = 0.1
"""Of main memory."""
DAY_S = 86_400

NVIDIA, AMD = Path("/proc/driver/nvidia"), Path("/dev/kfd")
"""Present where the driver of such a GPU is."""


def engine(here: Surroundings) -> Iterator[Found]:
    settings = here.settings
    if settings.llama_server:
        yield _program(settings.llama_server, "LLAMERO_LLAMA_SERVER", "set it to a llama-server, or unset it", here)
        return
    chosen = NativeEngines(settings.home).chosen()
    if chosen.warning:
        yield warn("engine", chosen.warning, "ollama engine build makes a new one")
    if chosen.program:
        yield _program(chosen.program, "the chosen engine", "ollama engine build makes a new one", here)
        return
    try:
        used = asyncio.run(probe_features(settings.engine_env))
    except EngineError as error:
        yield fail(
            "engine", f"xllamacpp {wheel_version()} is broken: {error}", "pip install --force-reinstall xllamacpp"
        )
        return
    unused = processor_features() - used
    advice = f"ollama engine build makes one that uses {', '.join(sorted(unused))} too" if unused else ""
    yield ok(
        "engine", f"xllamacpp {wheel_version()} starts and uses {', '.join(sorted(used)) or 'no special code'}", advice
    )


def _program(program: str, origin: str, advice: str, here: Surroundings) -> Found:
    """A `llama-server` that serves instead of the wheel: whether it starts, and what it says that it is."""
    found = shutil.which(program, path=here.settings.engine_env.get("PATH"))
    if found is None:
        return fail("engine", f"{origin}: there is no program {program}", advice)
    try:
        ran = subprocess.run(
            [found, "--version"],
            env=dict(here.settings.engine_env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {PROGRAM_TIMEOUT_S:.0f} s"
        return fail("engine", f"{origin}: {found} does not start: {reason}", advice)
    lines = (ran.stdout + ran.stderr).decode(errors="replace").splitlines()
    if ran.returncode:
        return fail("engine", f"{origin}: {found} ends with status {ran.returncode}: {' '.join(lines[-1:])}", advice)
    version = next((line for line in lines if line.startswith("version")), "it does not say its version")
    return ok("engine", f"{found} starts ({version})")


def gpu(here: Surroundings) -> Iterator[Found]:
    settings = here.settings
    program = settings.llama_server or NativeEngines(settings.home).chosen().program
    gpus = asyncio.run(probe_gpus(settings.engine_env, program, GpuRules.of(settings)))
    for each in gpus:
        free, total = human_bytes(each.free_bytes), human_bytes(each.total_bytes)
        yield ok("gpu", f"{each.name} {each.description}: {free} of {total} free")
    if gpus:
        return
    maker = "NVIDIA" if NVIDIA.exists() else "AMD" if AMD.exists() else ""
    if maker:
        advice = "install a wheel of xllamacpp that is built for it, or run ollama engine build with its toolkit"
        yield warn("gpu", f"there is a GPU by {maker} that the engine does not use", advice)
    else:
        yield ok("gpu", f"none: models run on {physical_cores()} processor cores")


def memory(here: Surroundings, meminfo: Path = Path("/proc/meminfo")) -> Iterator[Found]:
    found = read_memory(meminfo)
    text = f"{human_bytes(found.available_bytes)} of {human_bytes(found.total_bytes)} free"
    if found.available_bytes < LITTLE_MEMORY_BYTES:
        yield warn("memory", text, "close other programs, or ollama stop a model")
    else:
        yield ok("memory", text)
    swap = _swap(meminfo)
    if swap is None:
        return
    swapped, total = swap
    if swapped > MUCH_SWAPPED * found.total_bytes:
        advice = "use smaller models or a smaller num_ctx: what is swapped out crawls"
        yield warn("swap", f"{human_bytes(swapped)} of {human_bytes(total)} in use", advice)
    else:
        yield ok("swap", f"{human_bytes(swapped)} of {human_bytes(total)} in use" if total else "none")


def _swap(meminfo: Path) -> tuple[int, int] | None:
    """Bytes in use, and in all; None where the system does not tell."""
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total, free = (int(rows[name].split()[0]) * 1024 for name in ("SwapTotal", "SwapFree"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return total - free, total


def load(here: Surroundings) -> Iterator[Found]:
    if not hasattr(os, "getloadavg"):
        return
    busy, cores = os.getloadavg()[0], physical_cores()
    text = f"{busy:.1f} programs at work on {cores} cores"
    if busy > cores:
        yield warn("load", text, "if these are not answers of this server, stop them: they take its time")
    else:
        yield ok("load", text)


def clock(here: Surroundings) -> Iterator[Found]:
    """A clock that is far behind shows by this program's own files; certificates and keys are refused then."""
    now_s, installed_s = time.time(), Path(__file__).stat().st_mtime
    shown = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now_s < installed_s - DAY_S:
        yield fail("clock", f"it says {shown}, a day and more before this program was installed", "set the clock")
    else:
        yield ok("clock", shown)

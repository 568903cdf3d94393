"""What figures were measured on, and whether it was quiet. A figure without that is a rumour."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import llamero
from llamero.engines.devices import physical_cores, read_memory

QUIET_LOAD = 0.3
"""Load average above which somebody else is working: two engines on two cores ruin each other."""


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    cores: int
    """That we may use, physical ones."""
    memory_bytes: int
    system: str
    load: float
    """Average of the minute before."""
    versions: Mapping[str, str]

    @classmethod
    def this(cls) -> Machine:
        return cls(
            processor=_processor(),
            cores=physical_cores(),
            memory_bytes=read_memory().total_bytes,
            system=f"{platform.system()} {platform.release()}",
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
            versions=dict(_versions()),
        )

    @property
    def is_quiet(self) -> bool:
        return self.load <= QUIET_LOAD

    @property
    def text(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        memory = f"{self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.processor}, {self.cores} cores, {memory}, {self.system}; {versions}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    yield "Python", ".".join(map(str, sys.version_info[:3]))
    yield "llamero", llamero.__version__
    for name in ("xllamacpp", "uvicorn", "aiohttp"):
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)

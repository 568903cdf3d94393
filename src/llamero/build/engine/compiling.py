"""The compilers at work: cargo for what holds answers to schemas, cmake for the server. Politely, and with a log.

It decides nothing about the processor. Source: DESIGN §3.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ... import child
from ...engines.native import PROGRAM
from ...errors import DiskFull, LlameroError
from .toolchain import Toolchain

NICENESS = 19
"""Whoever works on this machine, or is answered by it, comes first."""
STEP_TIMEOUT_S = 12 * 3600.0
"""Half an hour on two cores that others use, too; kernels for a GPU take several times that."""
SPACE_BYTES = {"": 2 << 30, "cuda": 6 << 30, "rocm": 6 << 30, "vulkan": 4 << 30}
"""Free disk by kind of GPU. Sources, objects and the program of a build without one are 0.8 GiB."""

Report = Callable[[str, int, int], None]
"""Told what is being done, and how much of it is; 0 of 0 where nobody knows."""

SERVER_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",  # one file, which nothing else on this machine can change
    "-DLLAMA_OPENSSL=OFF",  # it serves on a socket of ours and fetches nothing
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # would be downloaded while it builds
    "-DGGML_CCACHE=OFF",
)
_SYSTEM_LIBRARIES = {"linux": "-ldl -lpthread -lm"}
"""What Rust's library needs of the system where the C library has it apart."""

_NINJA = re.compile(r"\[(\d{1,6})/(\d{1,6})\] ")
_MAKE = re.compile(r"\[ *(\d{1,3})%\] ")
_CULPRIT = re.compile(r"\b(fatal )?error\b", re.IGNORECASE)
_FULL = "No space left on device"


class BuildFailed(LlameroError):
    """A compiler gave up. The text says in which step; the log says why."""


@dataclass(frozen=True, slots=True)
class Compilers:
    tools: Toolchain
    env: Mapping[str, str]
    """What they see of the environment."""
    jobs: int
    log: TextIO
    report: Report
    cancelled: Callable[[], bool]

    def schemas(self, sources: Path) -> Path:
        """Build llguidance. Returns the folder with the library and its header. BuildFailed, DiskFull, Cancelled."""
        self._run(
            "building llguidance",
            [self.tools.cargo, "build", "--release", "--locked", "--package", "llguidance", f"--jobs={self.jobs}"],
            sources,
        )
        return sources / "target" / "release"

    def server(self, sources: Path, schemas: Path, folder: Path, flags: Sequence[str]) -> Path:
        """Build llama-server in `folder` with more flags for cmake. Returns the program.

        BuildFailed, DiskFull, Cancelled.
        """
        library = f'"{schemas / "libllguidance.a"}" {_SYSTEM_LIBRARIES.get(sys.platform, "")}'
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={self.tools.ninja}"] if self.tools.ninja else []
        configure = [
            *(self.tools.cmake, "-S", str(sources), "-B", str(folder), *generator),
            *(f"-DCMAKE_C_COMPILER={self.tools.cc}", f"-DCMAKE_CXX_COMPILER={self.tools.cxx}"),
            # llama.cpp's own option for this library would fetch its sources from elsewhere
            f'-DCMAKE_CXX_FLAGS=-DLLAMA_USE_LLGUIDANCE -I"{schemas}"',
            f"-DCMAKE_CXX_STANDARD_LIBRARIES={library}",
            *SERVER_OPTIONS,
            *flags,
        ]
        self._run("configuring llama-server", configure, sources)
        build = [self.tools.cmake, "--build", str(folder), "--target", PROGRAM, "--parallel", str(self.jobs)]
        self._run("building llama-server", build, sources)
        program = folder / "bin" / PROGRAM
        if not os.access(program, os.X_OK):
            raise BuildFailed("building llama-server: everything was compiled, and no program came of it")
        return program

    def _run(self, step: str, argv: Sequence[str], folder: Path) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            self.log.write(f"{line}\n")
            if _CULPRIT.search(line) or _FULL in line:
                lines.append(line)
            if progress := _progress(line):
                self.report(step, *progress)

        self.report(step, 0, 0)
        self.log.write(f"\n# {step}: {' '.join(argv)}\n")
        try:
            child.run(
                argv,
                cwd=folder,
                env=self.env,
                on_line=on_line,
                cancelled=self.cancelled,
                timeout_s=STEP_TIMEOUT_S,
                niceness=NICENESS,
            )
        except child.ChildFailed as exc:
            if any(_FULL in line for line in lines):
                raise DiskFull(f"{step}: the disk is full") from exc
            reason = next((line for line in lines if _CULPRIT.search(line)), "") or str(exc)
            raise BuildFailed(f"{step}: {reason[:300]}") from exc


def _progress(line: str) -> tuple[int, int] | None:
    """How far ninja or make are, out of a line of theirs."""
    if match := _NINJA.match(line):
        return int(match[1]), int(match[2])
    if match := _MAKE.match(line):
        return int(match[1]), 100
    return None

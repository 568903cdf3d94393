"""What it takes to compile the engine: which tools are there, what to install for those that are not.

Source: DESIGN §3. Nothing is installed by us.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import BadRequest, NotSupported

Gpu = Literal["cuda", "rocm", "vulkan", ""]
GPUS: tuple[Gpu, ...] = ("cuda", "rocm", "vulkan")

CMAKE_WHEEL = "pip install cmake"
"""Where the system's packages are out of reach; our extra `engine` brings it too."""

_COMPILERS = (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++")))
_PACKAGES = {
    "debian": "sudo apt install",
    "fedora": "sudo dnf install",
    "arch": "sudo pacman -S",
    "alpine": "sudo apk add",
    "suse": "sudo zypper install",
    "macos": "brew install",
}
_NAMES = {
    "compiler": {
        "debian": "build-essential",
        "fedora": "gcc-c++ make",
        "arch": "base-devel",
        "alpine": "build-base linux-headers",
        "suse": "gcc-c++ make",
    },
    "cmake": {"": "cmake"},
    "cargo": {"macos": "rust", "arch": "rust", "": "cargo"},
}
"""Packages by system; under the empty name what the others call it."""
_SYSTEMS = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse", "sles": "suse"}

_CHILD_NAMES = frozenset(
    "PATH HOME USER LOGNAME SYSTEMROOT CC CXX CUDACXX CUDA_HOME CUDA_PATH HIP_PATH ROCM_PATH VULKAN_SDK SDKROOT"
    " LD_LIBRARY_PATH LIBRARY_PATH CPATH CMAKE_PREFIX_PATH HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY"
    " SSL_CERT_FILE SSL_CERT_DIR".split()
)
_CHILD_PREFIXES = ("CARGO_", "RUSTUP_", "RUST")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Paths of the programs that a build needs."""

    cc: str
    cxx: str
    cmake: str
    cargo: str
    ninja: str = ""
    """Empty: make does it."""


def find(env: Mapping[str, str]) -> Toolchain:
    """The tools of this machine. NotSupported on Windows, BadRequest that says what to install."""
    if sys.platform == "win32":
        raise NotSupported("engines are built on Linux and macOS only; here LLAMERO_LLAMA_SERVER can name one")
    cc, cxx = (_first((env.get(variable, ""), *names), env) for variable, names in _COMPILERS)
    cmake, ninja, cargo = (_first((name,), env) for name in ("cmake", "ninja", "cargo"))
    has_generator = ninja or _first(("make", "gmake"), env)
    missing = [
        *(["compiler"] if not (cc and cxx and has_generator) else []),
        *(["cmake"] if not cmake else []),
        *(["cargo"] if not cargo else []),
    ]
    if missing:
        raise BadRequest(advice(missing, system_of(Path("/etc/os-release"))))
    return Toolchain(cc, cxx, cmake, cargo, ninja)


def advice(missing: Sequence[str], system: str) -> str:
    """What to install, in one sentence for each way. `missing` are keys of the table of packages."""
    names = {"compiler": "a C++ compiler", "cmake": "cmake", "cargo": "cargo (the Rust compiler)"}
    text = f"an engine cannot be built without {' and '.join(names[each] for each in missing)}"
    install = _PACKAGES.get(system, "")
    packages = [_NAMES[each].get(system, _NAMES[each].get("", "")) for each in missing]
    if install and all(packages):
        text += f"; install: {install} {' '.join(packages)}"
    elif system == "macos":
        brew = " ".join(filter(None, packages))
        text += "; install: xcode-select --install" + (f" && {install} {brew}" if brew else "")
    if "cmake" in missing:
        text += f"; cmake comes with {CMAKE_WHEEL} as well"
    if "cargo" in missing:
        text += "; for a newer cargo than the system's see rustup"
    return text


def system_of(os_release: Path) -> str:
    """The family of this system, as the tables here call it; empty for one that they do not know."""
    if sys.platform == "darwin":
        return "macos"
    try:
        lines = os_release.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    values = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    for word in (values.get("ID", ""), *values.get("ID_LIKE", "").split()):
        system = _SYSTEMS.get(word.partition("-")[0], word)
        if system in _PACKAGES:
            return system
    return ""


def gpu_of(wanted: str, env: Mapping[str, str]) -> Gpu:
    """The kind of GPU to build for. `auto`: the first that is there together with its toolkit; `none`: none.

    BadRequest when a kind is wanted whose toolkit is missing.
    """
    there = {
        "cuda": bool(_nvcc(env)) and (_exists("/dev/nvidiactl") or bool(_first(("nvidia-smi",), env))),
        "rocm": bool(_hipcc(env)) and _exists("/dev/kfd"),
        "vulkan": bool(_first(("glslc",), env)) and _exists("/dev/dri"),
    }
    match wanted:
        case "none":
            return ""
        case "auto":
            return next((kind for kind in GPUS if there[kind]), "")
        case "cuda" | "rocm" | "vulkan":
            if not there[wanted]:
                tool = {"cuda": "the CUDA toolkit (nvcc)", "rocm": "ROCm (hipcc)", "vulkan": "Vulkan's SDK (glslc)"}
                raise BadRequest(f"no engine for {wanted} can be built here: it takes the GPU and {tool[wanted]}")
            return wanted
    raise BadRequest(f"--gpu is auto, none, {', '.join(GPUS)}; not {wanted!r}")


def gpu_flags(gpu: Gpu, env: Mapping[str, str]) -> list[str]:
    """What cmake is told for a kind of GPU: this machine's own, as its compilers find it."""
    match gpu:
        case "cuda":
            return ["-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native", f"-DCMAKE_CUDA_COMPILER={_nvcc(env)}"]
        case "rocm":
            return ["-DGGML_HIP=ON"]
        case "vulkan":
            return ["-DGGML_VULKAN=ON"]
    return []


def child_env(env: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """What compilers and cargo see of the environment: where things are, and no flag that would change a build."""
    kept = {
        name: value for name, value in env.items() if name.upper() in _CHILD_NAMES or name.startswith(_CHILD_PREFIXES)
    }
    return kept | {"TMPDIR": str(scratch), "LC_ALL": "C", "CLICOLOR_FORCE": "0", "CARGO_TERM_COLOR": "never"}


def jobs(cores: int, available_bytes: int) -> int:
    """Compilers at a time: as many as there are cores, and as memory has room for."""
    return max(1, min(cores, available_bytes // COMPILER_BYTES))


COMPILER_BYTES = 3 << 29
"""1.5 GiB: the largest source file of llama.cpp takes gcc about that."""


def _first(names: Sequence[str], env: Mapping[str, str]) -> str:
    """The first of these that is there: on the PATH, beside our Python as wheels bring them, or in cargo's home."""
    cargo_home = env.get("CARGO_HOME") or os.path.join(env.get("HOME", ""), ".cargo")
    places = (env.get("PATH", os.defpath), sysconfig.get_path("scripts"), os.path.join(cargo_home, "bin"))
    path = os.pathsep.join(places)
    return next((found for name in names if name and (found := shutil.which(name, path=path))), "")


def _nvcc(env: Mapping[str, str]) -> str:
    homes = (env.get("CUDA_HOME", ""), env.get("CUDA_PATH", ""), "/usr/local/cuda")
    return _first((env.get("CUDACXX", ""), "nvcc", *(f"{home}/bin/nvcc" for home in homes if home)), env)


def _hipcc(env: Mapping[str, str]) -> str:
    return _first(("hipcc", f"{env.get('ROCM_PATH') or '/opt/rocm'}/bin/hipcc"), env)


def _exists(path: str) -> bool:
    return os.path.exists(path)


def machine() -> str:
    """`x86`, `arm`, or what the system calls it."""
    name = platform.machine().lower()
    if name in ("x86_64", "amd64", "i386", "i686"):
        return "x86"
    return "arm" if name in ("aarch64", "arm64") else name

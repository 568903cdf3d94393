"""The instructions of a processor that matter to an engine, by llama.cpp's names: what there is, and what is used.

What a processor says of itself is believed here, since it is only shown: `build/engine` tries everything out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

KERNEL_NAMES: Mapping[str, str] = {
    # x86
    "AVX": "avx",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX2": "avx2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    # ARM
    "NEON": "asimd",
    "FP16_VA": "asimdhp",
    "DOTPROD": "asimddp",
    "SVE": "sve",
    "MATMUL_INT8": "i8mm",
    "SME": "sme",
}
"""Linux' name of each."""

_USED = re.compile(r"(\w+) = 1")


def read_features(system_info: str) -> frozenset[str]:
    """Of llama.cpp's own line, `CPU : AVX = 1 | AVX2 = 1 | OPENMP = 1 |`, what is instructions."""
    return frozenset(_USED.findall(system_info)) & KERNEL_NAMES.keys()


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What this processor says that it has; nothing where the system does not tell."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            flags.update(value.split())
    return frozenset(name for name, kernel_name in KERNEL_NAMES.items() if kernel_name in flags)

"""What this processor really can do: each candidate is a tiny program that is compiled, run in a child, and checked.

What a processor says of itself is not asked: virtual machines advertise what crashes when it is used. Nor is the
compiler's `native`, which believes them. Source: DESIGN §3, issue "Fast, and fair under load", 6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import child
from .toolchain import Toolchain, machine

PROBE_TIMEOUT_S = 60.0
"""For one file of twenty lines, on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Instructions that the engine has code for."""

    name: str
    compiler_flags: tuple[str, ...]
    options: tuple[str, ...]
    """Of llama.cpp's cmake; for ARM parts of one option."""
    proof: str
    """Body of a C function: 0 when the instructions work and are right. `one` is 1, unknown to the compiler."""
    needs: str = ""
    """Without this one it is of no use."""


_AMX = """
    /* the kernel gives tiles out on request only */
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 1;
    struct { uint8_t palette, start; uint8_t zero[14]; uint16_t width[16]; uint8_t rows[16]; } shape = {0};
    shape.palette = 1;
    for (int i = 0; i < 3; i++) { shape.width[i] = 4; shape.rows[i] = 1; }
    _tile_loadconfig(&shape);
    _tile_zero(0);
"""

X86 = (
    Feature("sse4.2", ("-msse4.2",), ("SSE42",), "return _mm_extract_epi64(_mm_cmpgt_epi64(V2(one), V2(0)), 1) != -1;"),
    Feature(
        "avx", ("-mavx",), ("AVX",), "return _mm256_movemask_ps(_mm256_cmp_ps(F8(one), F8(1), _CMP_EQ_OQ)) != 255;"
    ),
    Feature(
        "f16c", ("-mf16c",), ("F16C",), "return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph(_mm_set1_ps(one), 0))) != 1;"
    ),
    Feature(
        "fma",
        ("-mfma",),
        ("FMA",),
        "return _mm256_cvtss_f32(_mm256_fmadd_ps(F8(one), F8(one), F8(one))) != 2;",
    ),
    Feature("bmi2", ("-mbmi2",), ("BMI2",), "return _pdep_u32(one, 0xf0) != 0x10;"),
    Feature("avx2", ("-mavx2",), ("AVX2",), "return _mm256_extract_epi32(_mm256_add_epi32(I8(one), I8(one)), 7) != 2;"),
    Feature(
        "avx-vnni",
        ("-mavxvnni",),
        ("AVX_VNNI",),
        "return _mm256_extract_epi32(_mm256_dpbusd_avx_epi32(I8(0), I8(one), I8(one)), 7) != 1;",
        needs="avx2",
    ),
    Feature(
        "avx512",
        ("-mavx512f", "-mavx512cd", "-mavx512vl", "-mavx512dq", "-mavx512bw"),
        ("AVX512",),
        "__m512i a = _mm512_mullo_epi64(_mm512_set1_epi64(one), _mm512_set1_epi64(3));"
        "a = _mm512_add_epi16(a, _mm512_lzcnt_epi32(_mm512_setzero_si512()));"
        "return _mm256_extract_epi64(_mm256_abs_epi64(_mm512_castsi512_si256(a)), 1) != 0x2000000023;",
        needs="avx2",
    ),
    Feature(
        "vbmi",
        ("-mavx512vbmi",),
        ("AVX512_VBMI",),
        "return _mm512_cvtsi512_si32(_mm512_permutexvar_epi8(_mm512_set1_epi32(one), _mm512_set1_epi32(one)))"
        " != 0x01010100;",
        needs="avx512",
    ),
    Feature(
        "vnni",
        ("-mavx512vnni",),
        ("AVX512_VNNI",),
        "return _mm512_cvtsi512_si32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), J16(one), J16(one))) != 1;",
        needs="avx512",
    ),
    Feature(
        "bf16",
        ("-mavx512bf16", "-mavx512f"),
        ("AVX512_BF16",),
        "__m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(one), _mm512_set1_ps(one));"
        "return _mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_setzero_ps(), a, a)) != 2;",
        needs="avx512",
    ),
    Feature(
        "amx-int8",
        ("-mamx-tile", "-mamx-int8"),
        ("AMX_TILE", "AMX_INT8"),
        _AMX
        + """
    int32_t a = 0x01010101 * one, sum = 0;
    _tile_loadd(1, &a, 4); _tile_loadd(2, &a, 4);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, &sum, 4);
    return sum != 4;""",
        needs="avx512",
    ),
    Feature(
        "amx-bf16",
        ("-mamx-tile", "-mamx-bf16"),
        ("AMX_TILE", "AMX_BF16"),
        _AMX
        + """
    uint32_t a = 0x3f803f80u * one; float sum = 0;
    _tile_loadd(1, &a, 4); _tile_loadd(2, &a, 4);
    _tile_dpbf16ps(0, 1, 2);
    _tile_stored(0, &sum, 4);
    return sum != 2;""",
        needs="amx-int8",
    ),
)

USUAL = frozenset({"sse4.2", "avx", "f16c", "fma", "bmi2", "avx2"})

_ARM_BASE = "armv8.2-a"
ARM = (
    Feature(
        "dotprod",
        (f"-march={_ARM_BASE}+dotprod",),
        ("dotprod",),
        "return vaddvq_s32(vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(one), vdupq_n_s8(one))) != 16;",
    ),
    Feature(
        "fp16",
        (f"-march={_ARM_BASE}+fp16",),
        ("fp16",),
        "return vgetq_lane_f16(vaddq_f16(vdupq_n_f16(one), vdupq_n_f16(one)), 3) != 2;",
    ),
    Feature(
        "i8mm",
        (f"-march={_ARM_BASE}+i8mm",),
        ("i8mm",),
        "return vgetq_lane_s32(vmmlaq_s32(vdupq_n_s32(0), vdupq_n_s8(one), vdupq_n_s8(one)), 0) != 8;",
        needs="dotprod",
    ),
    Feature(
        "sve",
        (f"-march={_ARM_BASE}+sve",),
        ("sve",),
        "return svaddv_s32(svptrue_b32(), svdup_n_s32(one)) != (int64_t) svcntw();",
        needs="dotprod",
    ),
)

_SOURCE = """
#include <stdint.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define V2(x) _mm_set1_epi64x(x)
#define F8(x) _mm256_set1_ps(x)
#define I8(x) _mm256_set1_epi32(x)
#define J16(x) _mm512_set1_epi32(x)
#elif defined(__aarch64__)
#include <arm_neon.h>
#ifdef __ARM_FEATURE_SVE
#include <arm_sve.h>
#endif
#endif
#ifdef __linux__
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
long syscall(long number, ...);
#endif
static int proof(int one) {
    (void) one;
    %s
}
int main(int argc, char **argv) { (void) argv; return proof(argc); }
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a build is told about the processor."""

    names: tuple[str, ...]
    cmake_flags: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """What the compiler knows and this processor does not do."""

    @property
    def tag(self) -> str:
        """A short name for the set: nobody needs to read what all processors of the last ten years can do."""
        has_usual = set(self.names) >= USUAL
        rest = [name for name in self.names if not (has_usual and name in USUAL)]
        return "-".join([*(["avx2"] if has_usual else []), *rest]) or "plain"


def find(
    tools: Toolchain,
    folder: Path,
    *,
    env: Mapping[str, str],
    without: Sequence[str],
    cancelled: Callable[[], bool],
) -> Found:
    """Try every feature of this kind of processor, in `folder`. `without` names some that shall not be used.

    Of a kind that has no probes here the compiler decides, and the proof of the finished engine judges.
    """
    probe = Probe(tools.cc, folder, env, cancelled)
    kind = machine()
    if kind not in ("x86", "arm"):
        return Found(("native",), ("-DGGML_NATIVE=ON",))
    verdicts = dict(_verdicts(X86 if kind == "x86" else ARM, probe, without))
    works = [feature for feature, verdict in verdicts.items() if verdict == "works"]
    flags = x86_flags(works) if kind == "x86" else arm_flags(works)
    names = tuple(feature.name for feature in works)
    refused = tuple(feature.name for feature, verdict in verdicts.items() if verdict == "crashes")
    return Found(names, ("-DGGML_NATIVE=OFF", *flags), refused)


def _verdicts(features: Sequence[Feature], probe: Probe, without: Sequence[str]) -> Iterator[tuple[Feature, str]]:
    works: set[str] = set()
    for feature in features:
        if feature.name in without or (feature.needs and feature.needs not in works):
            continue
        verdict = probe(feature.proof, feature.compiler_flags)
        if verdict == "works":
            works.add(feature.name)
        yield feature, verdict


def x86_flags(works: Sequence[Feature]) -> list[str]:
    """Every option said, on or off: what is left out would be at its default, which may be on."""
    on = {option for feature in works for option in feature.options}
    every = dict.fromkeys(option for feature in X86 for option in feature.options)
    return [f"-DGGML_{option}={'ON' if option in on else 'OFF'}" for option in every]


def arm_flags(works: Sequence[Feature]) -> list[str]:
    parts = [option for feature in works for option in feature.options]
    return [f"-DGGML_CPU_ARM_ARCH={'+'.join([_ARM_BASE, *parts]) if parts else 'armv8-a'}"]


class Probe:
    """Compiles and runs tiny programs."""

    def __init__(self, cc: str, folder: Path, env: Mapping[str, str], cancelled: Callable[[], bool]) -> None:
        self._cc = cc
        self._folder = folder
        self._env = env
        self._cancelled = cancelled

    def __call__(self, proof: str, flags: Sequence[str]) -> str:
        """`works`, `crashes` (or computes something else), or `unknown` to the compiler."""
        source, program = self._folder / "probe.c", self._folder / "probe"
        source.write_text(_SOURCE % proof)
        program.unlink(missing_ok=True)
        if not self._runs((self._cc, "-O1", *flags, str(source), "-o", str(program))):
            return "unknown"
        return "works" if self._runs((str(program),)) else "crashes"

    def _runs(self, argv: Sequence[str]) -> bool:
        with contextlib.suppress(child.ChildFailed):
            child.run(
                argv,
                cwd=self._folder,
                env=self._env,
                on_line=lambda line: None,
                cancelled=self._cancelled,
                timeout_s=PROBE_TIMEOUT_S,
            )
            return True
        return False

"""Instructions of processors: what there is, and what the engine uses."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from llamero.engines import devices
from llamero.engines.devices import probe_features
from llamero.engines.processor import processor_features, read_features
from llamero.errors import EngineError
from tests.engines.starting import ENV

X86 = (
    "processor\t: 0\nflags\t\t: fpu sse avx f16c fma avx2 bmi2 avx512f avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (X86, "AVX F16C FMA BMI2 AVX2 AVX512 AVX512_VNNI"),
        (ARM, "NEON FP16_VA DOTPROD MATMUL_INT8"),
        ("model name: flags\n\xff", ""),
        ("", ""),
    ],
    ids=["x86", "arm", "odd", "empty"],
)
def test_what_the_processor_has(tmp_path: Path, text: str, names: str) -> None:
    (tmp_path / "cpuinfo").write_text(text, encoding="latin-1")
    assert processor_features(tmp_path / "cpuinfo") == set(names.split())


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert processor_features(tmp_path / "cpuinfo") == frozenset()


def test_what_the_engine_uses() -> None:
    line = "CUDA : ARCHS = 500 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX = 1 | AVX512 = 0 | AVX2 = 1 | OPENMP = 1 | "
    assert read_features(line) == {"AVX", "AVX2"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('no such library')", "it ends without an answer: .*no such library"),
        ("pass", "it ends without an answer: "),
        ("print('{')", "it ends without an answer: {"),
        ("import time; time.sleep(60)", "it does not answer within 0 s"),
    ],
    ids=["no wheel", "silence", "cut", "hangs"],
)
async def test_a_wheel_that_is_broken(monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    monkeypatch.setattr(devices, "COMMAND", (sys.executable, "-I", "-S", "-c", code))
    monkeypatch.setattr(devices, "PROBE_TIMEOUT_S", 0.4)
    with pytest.raises(EngineError, match=reason):
        await probe_features(ENV)


@pytest.mark.engine
async def test_the_wheel_itself() -> None:
    assert platform.machine() != "x86_64" or await probe_features(ENV) >= {"AVX", "FMA"}

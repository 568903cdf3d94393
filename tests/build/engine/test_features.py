"""Features of a processor are those that have run on it, not those that it names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from llamero.build.engine import features
from llamero.build.engine.features import ARM, X86, Found, Probe, arm_flags, find
from llamero.build.engine.toolchain import Toolchain, child_env, machine
from tests.build.engine.fake_tools import called, install

ALL_ON = [
    f"-DGGML_{option}=ON"
    for option in (
        "SSE42 AVX F16C FMA BMI2 AVX2 AVX_VNNI AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16 AMX_TILE AMX_INT8 AMX_BF16"
    ).split()
]


def found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: dict[str, Any],
    *,
    without: tuple[str, ...] = (),
    kind: str = "x86",
) -> Found:
    monkeypatch.setattr(features, "machine", lambda: kind)
    env = install(tmp_path / "tools", script)
    tools = Toolchain(*(str(tmp_path / "tools" / name) for name in ("cc", "c++", "cmake", "cargo")))
    return find(tools, tmp_path, env=child_env(env, tmp_path), without=without, cancelled=lambda: False)


def test_a_processor_that_does_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = found(tmp_path, monkeypatch, {})
    assert everything.cmake_flags == ("-DGGML_NATIVE=OFF", *ALL_ON)
    assert everything.tag == "avx2-avx-vnni-avx512-vbmi-vnni-bf16-amx-int8-amx-bf16"
    assert not everything.refused


def test_what_crashes_is_left_out_although_the_compiler_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The virtual machine that advertises AMX and dies of it."""
    without_amx = found(tmp_path, monkeypatch, {"crashes": ["-mamx-tile"]})
    assert without_amx.refused == ("amx-int8",)
    assert {"-DGGML_AVX512=ON", "-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF"} <= set(
        without_amx.cmake_flags
    )
    assert "-mamx-bf16" not in str(called(tmp_path / "tools", "cc"))


def test_what_computes_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, monkeypatch, {"wrong": ["-mavx512bf16"]}).refused == ("bf16",)


def test_what_the_compiler_does_not_know_is_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = found(tmp_path, monkeypatch, {"unknown": ["-mavxvnni", "-mamx-tile"]})
    assert old.tag == "avx2-avx512-vbmi-vnni-bf16"
    assert not old.refused


def test_what_nobody_wants_is_not_even_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, monkeypatch, {}, without=("avx512", "avx-vnni")).tag == "avx2"
    assert "-mavx512" not in str(called(tmp_path / "tools", "cc"))


def test_an_old_processor_is_named_by_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = found(tmp_path, monkeypatch, {"crashes": ["-mavx", "-mavx2", "-mf16c", "-mfma", "-mbmi2"]})
    assert old.names == ("sse4.2",)
    assert old.tag == "sse4.2"
    assert Found((), ()).tag == "plain"


@pytest.mark.parametrize(
    ("crashes", "flag"),
    [
        ([], "armv8.2-a+dotprod+fp16+i8mm+sve"),
        (["-march=armv8.2-a+sve", "-march=armv8.2-a+i8mm"], "armv8.2-a+dotprod+fp16"),
        (["-march=armv8.2-a+dotprod"], "armv8.2-a+fp16"),
        ([feature.compiler_flags[0] for feature in ARM], "armv8-a"),
    ],
)
def test_arm_processors_get_one_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashes: list[str], flag: str
) -> None:
    on_arm = found(tmp_path, monkeypatch, {"crashes": crashes}, kind="arm")
    assert on_arm.cmake_flags == ("-DGGML_NATIVE=OFF", f"-DGGML_CPU_ARM_ARCH={flag}")
    assert arm_flags([]) == ["-DGGML_CPU_ARM_ARCH=armv8-a"]


def test_on_other_processors_the_compiler_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, monkeypatch, {}, kind="riscv64").cmake_flags == ("-DGGML_NATIVE=ON",)


KERNEL_NAMES = {"sse4.2": "sse4_2", "avx-vnni": "avx_vnni", "avx512": "avx512bw"} | {
    "vbmi": "avx512vbmi", "vnni": "avx512_vnni", "bf16": "avx512_bf16"
}  # fmt: skip
SLOW = pytest.mark.heavy
"""One takes half a second on a busy machine."""


@pytest.mark.skipif(shutil.which("cc") is None or machine() != "x86", reason="needs a C compiler on x86")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(feature.name, marks=() if feature.name in ("fma", "avx512") else SLOW)
        for feature in X86
        if not feature.name.startswith("amx")  # listed also where they crash
    ],
)
def test_the_real_proofs_agree_with_the_kernel(tmp_path: Path, name: str) -> None:
    """A proof that always fails would be seen here, and one that always succeeds on older processors."""
    feature = next(each for each in X86 if each.name == name)
    probe = Probe("cc", tmp_path, {"PATH": os.environ.get("PATH", os.defpath)}, lambda: False)
    listed = KERNEL_NAMES.get(name, name) in Path("/proc/cpuinfo").read_text().split()
    assert probe(feature.proof, feature.compiler_flags) in ("works" if listed else "crashes", "unknown")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_real_crash_is_survived(tmp_path: Path) -> None:
    probe = Probe("cc", tmp_path, {"PATH": os.environ.get("PATH", os.defpath)}, lambda: False)
    assert probe("__builtin_trap(); return 0;", ()) == "crashes"

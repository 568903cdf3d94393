"""What it takes to build an engine, and what a person is told to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero.build.engine import toolchain
from llamero.build.engine.toolchain import advice, child_env, find, gpu_flags, gpu_of, jobs, system_of
from llamero.errors import BadRequest
from tests.build.engine.fake_tools import install

GIB = 1 << 30


def test_the_tools_on_the_path_are_found(tmp_path: Path) -> None:
    tools = find(install(tmp_path))
    assert (tools.cc, tools.cxx, tools.cmake, tools.cargo, tools.ninja) == tuple(
        str(tmp_path / name) for name in ("cc", "c++", "cmake", "cargo", "ninja")
    )


def test_the_users_own_compiler_wins(tmp_path: Path) -> None:
    env = install(tmp_path)
    (tmp_path / "mine").symlink_to(tmp_path / "cc")
    assert find({**env, "CC": str(tmp_path / "mine"), "CXX": "no-such-compiler"}).cc == str(tmp_path / "mine")


def test_cargo_is_found_in_its_home(tmp_path: Path) -> None:
    env = install(tmp_path, without=("cargo",))
    install(tmp_path / ".cargo" / "bin", without=("cc", "c++", "cmake", "ninja"))
    assert find(env).cargo == str(tmp_path / ".cargo" / "bin" / "cargo")


@pytest.mark.parametrize("missing", ["cc", "c++", "cmake", "cargo"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    what = {"cc": r"a C\+\+ compiler", "c++": r"a C\+\+ compiler"}.get(missing, missing)
    with pytest.raises(BadRequest, match=f"^an engine cannot be built without {what}"):
        find(install(tmp_path, without=(missing,)))


@pytest.mark.parametrize(
    ("system", "missing", "said"),
    [
        ("debian", ["compiler", "cmake", "cargo"], "; install: sudo apt install build-essential cmake cargo;"),
        ("fedora", ["compiler"], "; install: sudo dnf install gcc-c++ make"),
        ("arch", ["cargo"], "; install: sudo pacman -S rust;"),
        ("alpine", ["compiler", "cmake"], "; install: sudo apk add build-base linux-headers cmake;"),
        ("suse", ["cmake"], "; install: sudo zypper install cmake;"),
        ("macos", ["compiler", "cargo"], "; install: xcode-select --install && brew install rust;"),
        ("macos", ["cmake"], "; install: brew install cmake;"),
        ("", ["cmake"], "without cmake; cmake comes with pip install cmake as well"),
    ],
)
def test_the_advice_fits_the_system(system: str, missing: list[str], said: str) -> None:
    assert said in advice(missing, system) + ";"


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian"),
        ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "suse"),
        ("ID=plan9\n", ""),
        ("", ""),
    ],
)
def test_systems_are_told_apart(tmp_path: Path, text: str, system: str) -> None:
    (tmp_path / "os-release").write_text(text)
    assert system_of(tmp_path / "os-release") == system
    assert system_of(tmp_path / "missing") == ""


def test_a_gpu_takes_its_toolkit_and_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = install(tmp_path)
    devices: set[str] = set()
    monkeypatch.setattr(toolchain, "_exists", devices.__contains__)
    assert gpu_of("auto", env) == gpu_of("none", env) == ""
    with pytest.raises(BadRequest, match=r"it takes the GPU and the CUDA toolkit \(nvcc\)"):
        gpu_of("cuda", env)
    (tmp_path / "nvcc").symlink_to(tmp_path / "cc")
    assert gpu_of("auto", env) == ""
    devices.add("/dev/nvidiactl")
    assert gpu_of("auto", env) == gpu_of("cuda", env) == "cuda"
    assert gpu_of("none", env) == ""
    assert f"-DCMAKE_CUDA_COMPILER={tmp_path / 'nvcc'}" in gpu_flags("cuda", env)
    with pytest.raises(BadRequest, match="--gpu is auto, none, cuda, rocm, vulkan; not 'metal'"):
        gpu_of("metal", env)


def test_the_compilers_see_no_secret_and_no_flags_of_the_user(tmp_path: Path) -> None:
    env = {"PATH": "/bin", "CFLAGS": "-march=native", "OLLAMA_API_KEY": "k", "CARGO_HOME": "/c", "https_proxy": "p"}
    assert child_env(env, tmp_path).items() >= {("PATH", "/bin"), ("CARGO_HOME", "/c"), ("https_proxy", "p")}
    assert not {"CFLAGS", "OLLAMA_API_KEY"} & child_env(env, tmp_path).keys()
    assert child_env(env, tmp_path)["TMPDIR"] == str(tmp_path)


@pytest.mark.parametrize(("cores", "gib", "wanted"), [(8, 64, 8), (8, 6, 4), (2, 1, 1), (1, 64, 1)])
def test_as_many_compilers_as_memory_has_room_for(cores: int, gib: int, wanted: int) -> None:
    assert jobs(cores, gib * GIB) == wanted

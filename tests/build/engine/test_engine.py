"""A native engine from its sources to its place, with compilers that compile nothing and a scripted judge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llamero.build.engine import Order, build, features, trial
from llamero.build.engine.compiling import BuildFailed, Report
from llamero.build.engine.proof import Measured, Unfit
from llamero.engines.native import NativeEngines, Record, wheel_version
from llamero.errors import BadRequest, Busy, Cancelled, DiskFull, LlameroError, RegistryError
from llamero.registry import packages
from llamero.registry.pip import PipSettings, read_settings
from llamero.store import Store
from tests.build.engine import fake_tools
from tests.registry.package_index import PackageServer, packed
from tests.small_disk import full, small_disk

FASTER, SLOWER = Measured(1.3, 1.1, 9), Measured(0.9, 1.0, 9)
NAME = f"{wheel_version()}-fma"
WITHOUT = tuple(feature.name for feature in features.X86 if feature.name != "fma")
"""To be quick: each is tried by two programs."""


class Bench:
    """A home to build in, an index to build from, tools to build with, and somebody who judges."""

    def __init__(self, folder: Path, index: PackageServer) -> None:
        self.folder = folder
        self.index = index
        self.tools = folder / "tools"
        self.natives = NativeEngines(folder / "home")
        self.judged: list[tuple[str, str]] = []
        self.steps: list[tuple[str, int, int]] = []

    def offer(self) -> None:
        self.index.offer(
            "xllamacpp",
            wheel_version(),
            packed(
                {
                    "x-1/thirdparty/llama.cpp/CMakeLists.txt": "",
                    "x-1/thirdparty/llama.cpp/LICENSE": "MIT",
                    "x-1/thirdparty/llama.cpp/common/CMakeLists.txt": "# v1.0.1:\nGIT_TAG x",
                }
            ),
        )
        self.index.offer("llguidance", "1.0.1", packed({"llguidance-1.0.1/Cargo.toml": ""}))

    def order(
        self,
        script: dict[str, Any] | None = None,
        *,
        verdict: Measured | LlameroError = FASTER,
        missing: tuple[str, ...] = (),
        cancelled: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> Order:
        env = fake_tools.install(self.tools, script, without=missing)
        env |= {"PIP_INDEX_URL": self.index.url, "PIP_CONFIG_FILE": os.devnull, "OLLAMA_API_KEY": "secret"}
        more = {"gpu": "none", "without": WITHOUT} | more

        async def judge(program: Path, model: Path, env: Mapping[str, str], report: Report) -> Measured:
            self.judged.append((_text(program), model.name))
            if isinstance(verdict, LlameroError):
                raise verdict
            return verdict

        return Order(
            natives=self.natives,
            store=Store(self.folder / "models"),
            env=env,
            engine_env={},
            report=lambda *step: self.steps.append(step),
            cancelled=cancelled,
            judge=judge,
            **more,
        )

    @property
    def left(self) -> set[str]:
        """What lies in the folder of the engines, scratch included."""
        folder = self.natives.folder
        return {path.name for path in [*folder.iterdir(), *(folder / "building").glob("*")]} - {"lock", "building"}


def _text(path: Path) -> str:
    return path.read_text()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(features, "machine", lambda: "x86")
    monkeypatch.setattr(trial, "BLOCKS", 1)  # nobody measures anything here
    with PackageServer() as index:
        # pip takes longer to start than all the rest; one test below asks it
        monkeypatch.setattr(packages, "read_settings", lambda *_: PipSettings(index.url))
        bench = Bench(tmp_path, index)
        bench.offer()
        yield bench


def test_a_faster_engine_is_built_and_serves(bench: Bench) -> None:
    record = build(bench.order())
    assert bench.judged == [(fake_tools.PROGRAM, "trial.gguf")]
    assert bench.natives.record(NAME) == record
    assert bench.natives.program(NAME).read_text() == fake_tools.PROGRAM
    chosen = bench.natives.chosen()
    assert (chosen.kind, chosen.record) == ("native", record)
    assert chosen.why == "it decodes 1.30 and prefills 1.10 times as fast as the wheel (a made-up model)"
    assert bench.left == {NAME, "used.json"}
    assert {path.name for path in (bench.natives.folder / NAME).iterdir()} == {
        "llama-server", "engine.json", "build.log", "LICENSE",
    }  # fmt: skip


def test_pip_knows_where_the_index_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "read_settings", read_settings)
    assert build(bench.order()).is_faster


def test_what_it_is_told_of_itself(bench: Bench) -> None:
    before_ns = time.time_ns()
    record = build(bench.order())
    assert record == Record(
        name=NAME,
        version=wheel_version(),
        source=f"xllamacpp-{wheel_version()}.tar.gz",
        source_sha256=bench.index.pages["xllamacpp"][0]["hashes"]["sha256"],
        features=("fma",),
        compiler="c++ (fake) 1.0",
        built_at_ns=record.built_at_ns,
        measured_on="a made-up model",
        decode_ratio=1.3,
        prefill_ratio=1.1,
        is_faster=True,
    )
    assert before_ns < record.built_at_ns < time.time_ns()


def test_compilers_give_way_and_see_no_secret(bench: Bench) -> None:
    build(bench.order(jobs=3))
    calls = {tuple(call["argv"][:2]): call for call in fake_tools.calls(bench.tools)}
    for call in (calls["cargo", "build"], calls["cmake", "--build"]):
        assert call["nice"] == 19
        assert "OLLAMA_API_KEY" not in call["names"]
    assert "--parallel" in calls["cmake", "--build"]["argv"]
    assert "3" in calls["cmake", "--build"]["argv"]
    assert "--locked" in calls["cargo", "build"]["argv"]


def test_the_server_is_configured_for_this_processor_with_llguidance(bench: Bench) -> None:
    build(bench.order())
    configure, _ = fake_tools.called(bench.tools, "cmake")
    assert {"-DGGML_NATIVE=OFF", "-DGGML_FMA=ON", "-DGGML_AVX512=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"} <= set(configure)
    assert any("-DLLAMA_USE_LLGUIDANCE" in word for word in configure)
    assert any(word.startswith("-DCMAKE_CXX_STANDARD_LIBRARIES=") and "libllguidance.a" in word for word in configure)
    assert not any("CUDA" in word for word in configure)


def test_the_steps_are_told(bench: Bench) -> None:
    build(bench.order({"prints": ["-- hello", "[1/4] a", "[ 50%] b", "[4/4] c"]}))
    steps = [step for step, _, _ in bench.steps]
    for words in ("trying out what this processor does", "it does fma", "fetching xllamacpp", "building llgui"):
        assert any(step.startswith(words) for step in steps), words
    building = [(done, total) for step, done, total in bench.steps if step == "building llama-server"]
    assert building == [(0, 0), (1, 4), (50, 100), (4, 4)]


def test_a_slower_engine_stays_and_does_not_serve(bench: Bench) -> None:
    assert not build(bench.order(verdict=SLOWER)).is_faster
    assert bench.natives.chosen().kind == "wheel"
    assert bench.natives.installed() != []


def test_one_that_is_there_is_only_measured_again(bench: Bench) -> None:
    first = build(bench.order())
    bench.index.pages.clear()
    again = build(bench.order(verdict=SLOWER))
    assert len(fake_tools.called(bench.tools, "cmake")) == 2
    assert (again.built_at_ns, again.decode_ratio) == (first.built_at_ns, 0.9)
    assert bench.natives.record(NAME) == again
    assert bench.natives.chosen().kind == "wheel"
    assert "is not faster: it decodes 0.90" in bench.natives.chosen().why


def test_one_that_has_become_unfit_does_not_serve_any_more(bench: Bench) -> None:
    build(bench.order())
    with pytest.raises(Unfit):
        build(bench.order(verdict=Unfit("an illegal instruction")))
    assert bench.natives.chosen().kind == "wheel"
    assert bench.natives.chosen().why == f"{NAME} is of no use any more: an illegal instruction"


def test_half_an_engine_gives_way(bench: Bench) -> None:
    build(bench.order())
    (bench.natives.folder / NAME / "engine.json").unlink()
    assert bench.natives.record(NAME) is None
    assert bench.natives.record(build(bench.order()).name)


def test_one_that_fails_its_proof_is_not_installed(bench: Bench) -> None:
    with pytest.raises(Unfit, match=r"it died \(the compilers' log: .*build\.log\)"):
        build(bench.order(verdict=Unfit("it died")))
    assert bench.left == {"build.log"}
    assert bench.natives.chosen().kind == "wheel"


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        pytest.param(
            {"prints": ["[1/2] a.cpp", "a.cpp:3:1: error: no such thing", "ninja: build stopped"], "fails": 1},
            BuildFailed,
            r"^building llama-server: a.cpp:3:1: error: no such thing \(the compilers' log: ",
            id="a compiler gives up",
        ),
        pytest.param({"fails": 2, "prints": []}, BuildFailed, "building llama-server: exit status 2", id="silently"),
        pytest.param({"silent": True}, BuildFailed, "no program came of it", id="nothing comes of it"),
        pytest.param(
            {"prints": ["fatal error: error writing to /tmp/x.s: No space left on device"], "fails": 1},
            DiskFull,
            "building llama-server: the disk is full",
            id="the disk is full",
        ),
    ],
)
def test_a_failed_build_leaves_its_log_only(
    bench: Bench, script: dict[str, Any], error: type[LlameroError], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(bench.order(script))
    assert bench.left == {"build.log"}
    assert "# building llama-server: " in (bench.natives.folder / "build.log").read_text()
    assert bench.judged == []


def test_another_archive_than_promised_is_not_compiled(bench: Bench) -> None:
    bench.index.pages.clear()
    bench.index.offer("xllamacpp", wheel_version(), b"evil", sha256="0" * 64)
    with pytest.raises(RegistryError, match="is not what the package index promised"):
        build(bench.order())
    assert bench.left == set()
    assert not fake_tools.called(bench.tools, "cmake")


def test_what_is_missing_is_told_before_anything_is_fetched(bench: Bench) -> None:
    with pytest.raises(BadRequest, match="cannot be built without cmake and cargo"):
        build(bench.order(missing=("cmake", "cargo")))
    with pytest.raises(BadRequest, match="no engine for cuda can be built here"):
        build(bench.order(gpu="cuda"))
    assert bench.index.requests == []


def test_a_cancelled_build_ends_everything(bench: Bench) -> None:
    order = bench.order({"sleeps": True}, cancelled=lambda: (bench.tools / "child").exists())
    with pytest.raises(Cancelled):
        build(order)
    assert not fake_tools.is_there(int((bench.tools / "child").read_text()))
    assert bench.left == set()


def test_two_builds_do_not_meet(bench: Bench) -> None:
    """The second begins while the first one's compiler runs, which is cancelled after that."""
    met: list[LlameroError] = []

    def begin_another() -> bool:
        if (bench.tools / "child").exists():
            with pytest.raises(Busy, match="an engine is being built already") as caught:
                build(bench.order())
            met.append(caught.value)
        return bool(met)

    with pytest.raises(Cancelled):
        build(bench.order({"sleeps": True}, cancelled=begin_another))
    assert met


def test_what_a_killed_build_left_is_swept(bench: Bench) -> None:
    left = bench.natives.folder / "building" / "0123"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    build(bench.order())
    assert not left.exists()


def test_a_disk_without_room_is_told_with_the_figures(bench: Bench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 32 << 20):
        with pytest.raises(DiskFull, match=r"takes 2\.1 GB of disk for a while, and 3\d MB are free"):
            build(bench.order())
        assert bench.left == set()


def test_a_disk_that_is_full_already_is_told(bench: Bench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 8 << 20) as disk, full(disk), pytest.raises(DiskFull):
        build(bench.order())

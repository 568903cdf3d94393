"""`ollama engine`: which program computes, why, and how another one is chosen (cli §3.16)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from llamero.engines.native import NativeEngines, wheel_version
from tests.build.engine import fake_tools
from tests.cli.conftest import Ollama, command
from tests.engines.native_engines import install, record
from tests.registry.package_index import PackageServer, packed
from tests.running import OLLAMA

OLD = "2025.1.1-avx2"
USAGE = "say `ollama engine`, `engine build`, `engine use wheel|native|PATH` or `engine remove NAME`"


@pytest.fixture
def ollama(tmp_path: Path) -> Ollama:
    """No server is asked."""
    return command("http://127.0.0.1:1", tmp_path)


@pytest.fixture
def natives(tmp_path: Path) -> NativeEngines:
    return NativeEngines(tmp_path / ".ollama")


def test_a_fresh_home_uses_the_wheel_and_says_how_to_have_more(ollama: Ollama) -> None:
    outcome = ollama("engine")
    assert outcome.status == 0
    first, features, why, *_ = outcome.out.splitlines()
    assert first == f"engine     wheel xllamacpp {wheel_version()}"
    assert features.startswith("features   ")
    assert why == "why        nothing else was chosen"
    assert "`ollama engine build` compiles one for this processor" in outcome.out


def test_the_engine_in_use_is_shown_with_its_ratios(ollama: Ollama, natives: NativeEngines) -> None:
    install(natives)
    install(natives, record(OLD, version="2025.1.1", built_at_ns=0))
    install(natives, record("native-slow", is_faster=False, decode_ratio=0.9, built_at_ns=2))
    natives.choose("native-avx512", "it decodes 1.25 times as fast")
    lines = ollama("engine").out.splitlines()
    assert lines[0] == "engine     native native-avx512"
    assert lines[1].startswith("build      xllamacpp-1.tar.gz, c++ 12, built ")
    assert lines[2:4] == ["features   avx2, avx512", "why        it decodes 1.25 times as fast"]
    table = [line.split() for line in lines[5:]]
    assert table[0][:4] == ["NATIVE", "ENGINE", "DECODE", "PREFILL"]
    assert [(row[0], row[1], row[-1]) for row in table[1:]] == [
        ("native-avx512", "1.25x", "used"),
        ("native-slow", "0.90x", "slower"),
        (OLD, "1.25x", "outdated"),
    ]


def test_the_same_as_json(ollama: Ollama, natives: NativeEngines) -> None:
    assert json.loads(ollama("engine", "--json").out) == {
        "used": {"kind": "wheel", "name": "xllamacpp", "version": wheel_version(), "why": "nothing else was chosen"},
        "native": [],
    }
    install(natives)
    natives.choose("native-avx512", "because")
    body = json.loads(ollama("engine", "--json").out)
    assert body["used"] == {"kind": "native", "name": "native-avx512", "version": wheel_version(), "why": "because"}
    assert body["native"][0]["decode_ratio"] == 1.25


def test_the_variable_wins_and_the_program_says_what_it_is(ollama: Ollama, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text('#!/bin/sh\necho "version: 1 ($1)"\n')
    program.chmod(0o755)
    lines = ollama("engine", env={"LLAMERO_LLAMA_SERVER": str(program)}).out.splitlines()
    assert lines == [
        f"engine     {program}",
        "build      version: 1 (--version)",
        "why        LLAMERO_LLAMA_SERVER is set",
    ]


def test_a_program_that_cannot_say_what_it_is_is_shown_all_the_same(ollama: Ollama) -> None:
    outcome = ollama("engine", env={"LLAMERO_LLAMA_SERVER": "/no/such/program"})
    assert outcome.out.splitlines()[0] == "engine     /no/such/program"
    assert "program does not say what it is" in outcome.err


def test_an_engine_is_chosen_and_given_back(ollama: Ollama, natives: NativeEngines) -> None:
    install(natives, record("a-avx2", built_at_ns=1))
    install(natives, record("a-avx512", built_at_ns=2))
    install(natives, record(OLD, version="2025.1.1", built_at_ns=3))
    for words, chosen in (("native", "a-avx512"), ("a-avx2", "a-avx2"), ("512", "a-avx512")):
        outcome = ollama("engine", "use", words)
        assert outcome.out == f"{chosen} is used from the next model on that is loaded\n"
        assert natives.chosen().record == natives.record(chosen)
    assert ollama("engine", "use", "wheel").out == "the wheel is used from the next model on that is loaded\n"
    assert natives.chosen().kind == "wheel"


def test_any_llama_server_may_be_used(ollama: Ollama, natives: NativeEngines, tmp_path: Path) -> None:
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert ollama("engine", "use", str(program)).status == 0
    assert (natives.chosen().kind, natives.chosen().program) == ("program", str(program))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["use", "native"], f"there is no native engine for xllamacpp {wheel_version()}: run `ollama engine build`"),
        (["use", "avx2"], "2025.1.1-avx2 is of another version than the wheel: run `ollama engine build`"),
        (["use", "amx"], "no native engine 'amx' is installed: `ollama engine` lists them"),
        (["use", "/no/such/program"], "/no/such/program is no program that can be run"),
        (["use", "/etc"], "/etc is no program that can be run"),
        (["remove", "amx"], "no native engine 'amx' is installed: `ollama engine` lists them"),
        (["remove"], USAGE),
        (["build", "now"], USAGE),
        (["buidl"], USAGE),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(ollama: Ollama, natives: NativeEngines, words: list[str], message: str) -> None:
    install(natives, record(OLD, version="2025.1.1"))
    outcome = ollama("engine", *words)
    assert (outcome.status, outcome.err) == (1, f"Error: {message}\n")


def test_an_engine_is_removed_and_the_wheel_takes_over(ollama: Ollama, natives: NativeEngines) -> None:
    install(natives)
    natives.choose("native-avx512", "it is faster")
    assert ollama("engine", "remove", "avx512").out == "removed native-avx512\n"
    assert natives.installed() == []
    assert (natives.chosen().kind, natives.chosen().warning) == ("wheel", "")


def test_a_machine_without_compilers_is_told_what_to_install(ollama: Ollama, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = ollama("engine", "build", env={"PATH": str(tmp_path / "empty")})
    assert outcome.status == 1
    assert "an engine cannot be built without a C++ compiler and " in outcome.err
    assert "cargo" in outcome.err, "cmake may be there: the extra `engine` brings it"


def test_the_help_tells_a_newcomer_what_this_is(ollama: Ollama) -> None:
    text = ollama("help", "engine").out
    for words in ("The engine is the program that computes.", "engine build", "C++ compiler, cmake and cargo", "--gpu"):
        assert words in text
    assert "  engine       Show which engine computes, or build a faster one" in ollama("help").out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl+C", "terminated"])
def test_a_signal_ends_the_compilers_too(tmp_path: Path, number: int) -> None:
    tools = tmp_path / "tools"
    env = fake_tools.install(tools, {"sleeps": True}) | {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    sources = {"x/thirdparty/llama.cpp/common/CMakeLists.txt": "# v1.0.1:\nGIT_TAG x"}
    with PackageServer() as index:
        index.offer("xllamacpp", wheel_version(), packed(sources))
        index.offer("llguidance", "1.0.1", packed({"llguidance-1.0.1/Cargo.toml": ""}))
        process = subprocess.Popen(
            [OLLAMA, "engine", "build", "--gpu", "none"],
            env=env | {"PIP_INDEX_URL": index.url},
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (tools / "child").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "building llama-server" in told
    assert not fake_tools.is_there(int((tools / "child").read_text()))
    assert not any((tmp_path / ".ollama" / "llamero" / "engines" / "building").iterdir())

"""Engines that were compiled on this machine, and the choice among them and the wheel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero.engines.native import PROGRAM, RECORD, Chosen, NativeEngines, wheel_version
from llamero.errors import BadRequest, NotFound
from tests.engines.native_engines import install, record


@pytest.fixture
def natives(tmp_path: Path) -> NativeEngines:
    return NativeEngines(tmp_path)


def test_without_a_choice_the_wheel_serves_and_nothing_is_made(natives: NativeEngines, tmp_path: Path) -> None:
    assert natives.chosen() == Chosen("wheel", why="nothing else was chosen")
    assert natives.installed() == []
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_engine_serves(natives: NativeEngines) -> None:
    program = install(natives)
    natives.choose("native-avx512", "it is faster")
    assert natives.chosen() == Chosen("native", str(program), "it is faster", record())
    natives.choose("wheel", "it was enough")
    assert natives.chosen() == Chosen("wheel", why="it was enough")


def test_another_program_may_be_chosen(natives: NativeEngines, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    natives.choose(str(program), "")
    assert natives.chosen() == Chosen("program", str(program))
    program.chmod(0o644)
    if os.geteuid():
        assert natives.chosen().kind == "wheel"
    program.unlink()
    assert natives.chosen().warning == f"{program} was chosen and cannot be run; the wheel serves"


def test_an_engine_of_another_version_does_not_serve(natives: NativeEngines) -> None:
    install(natives, record(version="2025.1.1"))
    natives.choose("native-avx512", "")
    chosen = natives.chosen()
    assert chosen.kind == "wheel"
    assert f"of version 2025.1.1, the wheel of {wheel_version()}" in chosen.warning
    assert "ollama engine build" in chosen.warning


@pytest.mark.parametrize("damage", ["program", "record", "garbage", "another name", "everything"])
def test_half_an_engine_is_none(natives: NativeEngines, damage: str) -> None:
    folder = install(natives).parent
    natives.choose(folder.name, "")
    match damage:
        case "program":
            (folder / PROGRAM).unlink()
        case "record":
            (folder / RECORD).unlink()
        case "garbage":
            (folder / RECORD).write_text("{")
        case "another name":
            folder.rename(folder.with_name("native-other"))
        case "everything":
            natives.remove([folder.name])
    assert natives.installed() == []
    assert natives.chosen().kind == "wheel"
    assert "native-avx512 was chosen and is gone" in natives.chosen().warning


@pytest.mark.parametrize("choice", ['{"engine": 1}', "", "null", '{"engine": "../../elsewhere"}', '{"engine": ".."}'])
def test_a_choice_that_makes_no_sense_is_the_wheel(natives: NativeEngines, choice: str) -> None:
    natives.choose("wheel", "")
    (natives.folder / "used.json").write_text(choice)
    assert natives.chosen().program == ""


def test_the_newest_comes_first(natives: NativeEngines) -> None:
    for number, name in enumerate(("b", "a", "c")):
        install(natives, record(name, built_at_ns=number))
    (natives.folder / "building").mkdir()
    assert [each.name for each in natives.installed()] == ["c", "a", "b"]


def test_an_engine_is_found_by_a_part_of_its_name(natives: NativeEngines) -> None:
    install(natives, record("1-avx2"))
    install(natives, record("1-avx2-avx512"))
    assert natives.find("512").name == "1-avx2-avx512"
    assert natives.find("1-avx2").name == "1-avx2"
    with pytest.raises(BadRequest, match="means several engines: "):
        natives.find("avx")
    with pytest.raises(NotFound, match="no native engine 'amx' is installed"):
        natives.find("amx")


def test_what_is_chosen_is_private_and_whole(natives: NativeEngines) -> None:
    natives.choose("wheel", "x")
    assert natives.folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in natives.folder.iterdir()] == ["used.json"]

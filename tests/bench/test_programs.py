"""The one command: what it knows, what it refuses, and that one program's failure is not the others'."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path

import pytest

import bench
from bench import __main__ as command
from bench.effort import Effort
from bench.engine_ratio import long_text
from bench.programs import OTHERS, PROGRAMS, PROMISED, measure_all
from bench.servers import EMBEDDER, MODEL, plan_of
from bench.turns import order

FOLDER = Path(bench.__file__).parent


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_can_be_measured_and_is_explained(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert list(inspect.signature(module.measure).parameters) == ["effort"]
    assert f"python -m bench.{name}" in (module.__doc__ or "")
    assert f"`{name}`" in (FOLDER / "README.md").read_text()


def test_a_program_that_fails_is_a_row_and_the_next_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    broken, parsers = measure_all(["no_such_program", "parsers"], Effort(quick=True))
    assert [figure.measured for figure in broken] == ["ModuleNotFoundError: No module named 'bench.no_such_program'"]
    assert parsers[0].values
    assert "Traceback" in capsys.readouterr().err


def test_without_names_it_measures_what_is_promised() -> None:
    assert command.arguments([]).names == []
    assert not set(PROMISED) & set(OTHERS)
    assert {**PROMISED, **OTHERS} == PROGRAMS


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["paralel"], "nothing is called paralel; there are engine_ratio"),
        (["--rounds", "0"], "'0' is no number of rounds"),
        (["--ours", "http://a"], "--ours needs somebody to compare with"),
        (["parallel", "--against", "http://a"], "names choose from what is measured against the bare engine"),
        (["--json", "/no/such/folder/figures.json"], "/no/such/folder is no folder"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_measured(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.arguments(words)
    assert error in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_every_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench", "template", "--rounds", "3", "--json", str(file)])
    assert command.main() == 0
    content = json.loads(file.read_text())
    assert [len(figure["values"]) for figure in content["figures"]] == [3, 3, 3]
    assert "llamero" in content["machine"]["versions"]
    assert "| rendering a template of" in capsys.readouterr().out


def test_a_wrong_address_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--ours", "http://127.0.0.1:1", "--against", "ftp://127.0.0.1"])
    assert command.main() == 1
    assert "error: nothing is asked by ftp: write an address like" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "is_embedder"), [(MODEL, False), (EMBEDDER, True)])
def test_the_bare_engine_gets_what_our_server_gives_its_own(
    starter_models: Path, model: str, is_embedder: bool
) -> None:
    plan = plan_of(model)
    assert plan.embedding is is_embedder
    assert plan.slots > 1
    assert plan.is_unified


def test_no_two_long_texts_begin_alike() -> None:
    texts = [long_text(number, 10)[0]["content"] for number in (1, 10, 11, 100)]
    assert len({text[: len("Text 1: ")] for text in texts}) == len(texts)
    assert order(2, 0) != order(2, 1)

"""The table of settings in the guides is the program's own: docs/environment.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs import environment
from docs.environment import BEGIN, END, FOLDER, LANGUAGES, Mistake, main, meanings_in, page
from llamero.config import TABLE

PAGES = ("configuration.md", "configuration.zh-CN.md", "environment.zh-CN.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in PAGES:
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def test_the_guides_are_up_to_date() -> None:
    assert main(["--check"]) == 0, "run `python docs/environment.py`"


def test_every_setting_stands_in_every_language(folder: Path) -> None:
    for language in LANGUAGES:
        text = (folder / language.page).read_text("utf-8")
        table = text.partition(BEGIN)[2].partition(END)[0]
        for variable in TABLE:
            assert table.count(f"| `{variable.name}` |") == 1


def test_a_change_is_seen_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "configuration.md"
    right = path.read_text("utf-8")
    path.write_text(right.replace("| `OLLAMA_HOST` |", "| `OLLAMA_HOTS` |"), "utf-8")
    assert main(["--check"], folder) == 1
    assert capsys.readouterr().err == "configuration.md is out of date: run `python docs/environment.py`\n"
    assert main([], folder) == 0
    assert path.read_text("utf-8") == right


def test_a_meaning_that_is_missing_or_too_many_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "environment.zh-CN.toml"
    path.write_text(path.read_text("utf-8").replace("OLLAMA_HOST = ", "OLLAMA_HOTS = "), "utf-8")
    assert main(["--check"], folder) == 1
    wanted = "environment.zh-CN.toml: missing, or not a setting: OLLAMA_HOST, OLLAMA_HOTS\n"
    assert capsys.readouterr().err == wanted


def test_a_page_without_marks_is_told(folder: Path) -> None:
    (folder / "configuration.md").write_text("# nothing\n")
    with pytest.raises(Mistake, match="needs the marks"):
        page(LANGUAGES[0], folder)


def test_cells_keep_their_bars() -> None:
    assert list(environment._markdown(("a",), [("x|y",)])) == ["| a |", "| --- |", "| x\\|y |"]
    assert meanings_in(LANGUAGES[0], FOLDER)["LLAMERO_MIRRORS"].startswith("host=URL|URL")

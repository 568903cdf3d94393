"""The history file that both programs share (cli §6.5)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llamero.cli.history import History


def opened(path: Path, *, is_saved: bool = True) -> History:
    return History(path, is_saved=is_saved, warn=pytest.fail)


def test_the_last_hundred_entries_are_kept_in_a_private_file(tmp_path: Path) -> None:
    """partly L-92"""
    path = tmp_path / ".ollama" / "history"
    history = opened(path)
    for number in range(120):
        history.add(f"  entry {number} ")
    history.add("   ")
    lines = path.read_text().splitlines()
    assert (len(lines), lines[0], lines[-1]) == (100, "entry 20", "entry 119")
    assert opened(path).entries == lines == history.entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_suffix(".tmp").exists()


def test_an_entry_of_several_lines_survives_as_one(tmp_path: Path) -> None:
    """partly L-92"""
    path = tmp_path / "history"
    opened(path).add('"""a\n\nb"""')
    assert path.read_bytes() == '"""a\u2028\u2028b"""\n'.encode()
    assert opened(path).entries == ['"""a\n\nb"""']


def test_nothing_is_saved_when_it_is_off_but_the_file_is_there(tmp_path: Path) -> None:
    """partly L-92"""
    path = tmp_path / "history"
    history = opened(path, is_saved=False)
    history.add("secret")
    assert path.read_text() == ""
    history.is_saved = True
    history.add("open")
    assert path.read_text() == "open\n"


def test_a_home_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    warnings: list[str] = []
    history = History(tmp_path / "file" / "history", is_saved=True, warn=warnings.append)
    history.add("a")
    history.add("b")
    assert history.entries == ["a", "b"]
    assert len(warnings) == 1
    assert warnings[0].startswith("the history is not saved: ")


def test_a_broken_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"\n a \n\xff\n\n")
    assert opened(path).entries == ["a", "\ufffd"]

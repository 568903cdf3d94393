"""Conversations that are kept (cli G-16)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamero.cli import sessions
from llamero.cli.sessions import Sessions


def record(question: str, day: int = 1, model: str = "m") -> dict[str, Any]:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": question}]
    return {"saved_at": f"2026-08-{day:02}T10:00:00+00:00", "model": model, "messages": messages}


@pytest.fixture
def kept(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", pytest.fail)


def test_the_newest_comes_first(kept: Sessions) -> None:
    for day, model in ((2, "a"), (3, "b"), (1, "a")):
        kept.keep(kept.new_path(), record(f"day\n {day}", day, model))
    assert [each.title for each in kept.all()] == ["day 3", "day 2", "day 1"]
    newest = kept.newest("a")
    assert newest is not None
    assert (newest.title, newest.turns) == ("day 2", 1)
    assert kept.newest("c") is None


def test_a_conversation_is_kept_once(kept: Sessions) -> None:
    path = kept.new_path()
    kept.keep(path, record("one"))
    kept.keep(path, record("two"))
    assert [each.title for each in kept.all()] == ["two"]


def test_the_oldest_make_room(kept: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_KEPT", 3)
    for day in range(1, 6):
        kept.keep(kept.new_path(), record(str(day), day))
    assert [each.title for each in kept.all()] == ["5", "4", "3"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"messages": 1}', json.dumps(record("x") | {"messages": [1]})])
def test_what_is_no_conversation_is_passed_over(kept: Sessions, tmp_path: Path, content: str) -> None:
    kept.keep(kept.new_path(), record("one"))
    (tmp_path / "sessions" / "other.json").write_text(content)
    assert [each.title for each in kept.all()] == ["one"]


def test_nobody_else_looks_into_the_new_folders(tmp_path: Path) -> None:
    folder = tmp_path / "llamero" / "sessions"
    kept = Sessions(folder, pytest.fail)
    kept.keep(kept.new_path(), record("one"))
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder)] == [0o700, 0o700]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("a file")
    said: list[str] = []
    kept = Sessions(tmp_path / "sessions", said.append)
    for _ in range(2):
        kept.keep(kept.new_path(), record("one"))
    assert len(said) == 1
    assert said[0].startswith("the conversation is not kept: ")
    assert kept.all() == []

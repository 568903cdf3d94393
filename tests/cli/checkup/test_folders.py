"""Where the models are: room, speed, and who may do what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamero.cli.checkup import Surroundings, folders
from llamero.cli.checkup.folders import GB, SMALLEST_TRIED_BYTES, permissions, space, speed
from llamero.client import Client
from llamero.config import Settings
from llamero.messages import Found
from tests.cli.scripted_server import Reply, ScriptedServer


def said(found: Iterator[Found]) -> list[tuple[str, str]]:
    return [(each.level, each.status) for each in found]


@pytest.mark.parametrize(("free", "level"), [(100 * GB, "ok"), (9 * GB, "warn"), (GB // 2, "fail"), (0, "fail")])
def test_room_for_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: str) -> None:
    """Asked of the nearest folder that exists: that of the models may be made later."""
    asked = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr("llamero.cli.checkup.folders.shutil.disk_usage", disk_usage)
    (found,) = space(tmp_path / "not" / "yet")
    assert found.level == level
    assert asked == [tmp_path]


def test_the_speed_of_the_disk(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / f"sha256-{'0' * 64}"
    blob.parent.mkdir()
    blob.write_bytes(bytes(SMALLEST_TRIED_BYTES))
    (found,) = speed(tmp_path)
    assert found.status.startswith("weights are read at ")
    assert blob.stat().st_size == SMALLEST_TRIED_BYTES


def test_a_slow_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / f"sha256-{'0' * 64}"
    blob.parent.mkdir()
    blob.write_bytes(bytes(SMALLEST_TRIED_BYTES))
    monkeypatch.setattr(folders, "_read_speed", lambda path: 50_000_000.0)
    assert said(speed(tmp_path)) == [("warn", "weights are read at 50 MB/s: 5 GB take 100 s")]


@pytest.mark.parametrize("size", [None, SMALLEST_TRIED_BYTES - 1])
def test_without_a_large_file_nothing_is_measured(tmp_path: Path, size: int | None) -> None:
    if size is not None:
        (tmp_path / "blobs").mkdir()
        (tmp_path / "blobs" / f"sha256-{'0' * 64}").write_bytes(bytes(size))
    assert list(speed(tmp_path)) == []


def test_folders_in_order(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "models"
    (home / "llamero").mkdir(parents=True, mode=0o700)
    key = home / "id_ed25519"
    key.touch(mode=0o600)
    (root / "blobs").mkdir(parents=True)
    assert [level for level, _ in said(permissions(home, root))] == ["ok"]
    key.chmod(0o644)
    (home / "llamero").chmod(0o755)
    found = list(permissions(home, root))
    assert [each.advice for each in found] == [f"chmod 600 {key}", f"chmod 700 {home / 'llamero'}"]
    assert {each.level for each in found} == {"warn"}


def test_folders_of_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root may do everything, so the system's answer is made up."""
    blob = tmp_path / "blobs" / f"sha256-{'0' * 64}"
    blob.parent.mkdir()
    blob.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = said(permissions(tmp_path / "none", tmp_path))
    assert [level for level, _ in found] == ["fail", "fail"]
    assert "cannot be used" in found[0][1]
    assert "1 files in" in found[1][1]


@pytest.mark.parametrize(("told", "levels"), [(True, ["warn"]), (False, [])], ids=["another folder", "the same"])
def test_a_server_with_another_folder(tmp_path: Path, told: bool, levels: list[str]) -> None:
    with ScriptedServer() as server:
        theirs = "/srv/models" if told else str(tmp_path)
        server.replies["GET /api/llamero/store"] = Reply(json={"models": theirs})
        env = {"OLLAMA_MODELS": str(tmp_path), "OLLAMA_HOST": server.address, "HOME": str(tmp_path)}
        settings = Settings.from_env(env)
        found = folders.folders(Surroundings(env, settings, Client(settings.host)))
        assert [each.level for each in found if each.subject == "models"] == levels

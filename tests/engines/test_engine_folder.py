"""What a killed server left of its engines is removed by the next one; what is in use or not ours stays."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.engines import engine_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines listen at a port there")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short, as a socket's path has to be."""
    with tempfile.TemporaryDirectory(prefix="l") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def listening(folder: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / engine_folder.SOCKET))
    server.listen()
    return server


def grow_old(*folders: Path) -> None:
    then = time.time() - 2 * engine_folder.FORGOTTEN_S
    for folder in folders:
        os.utime(folder, (then, then))


def test_where_nobody_listens_any_more_the_folder_goes(temporary: Path) -> None:
    dead = engine_folder.make()
    listening(dead).close()
    empty = engine_folder.make()
    grow_old(dead, empty)
    engine_folder.sweep()
    assert not dead.exists()
    assert not empty.exists()


def test_what_is_in_use_or_young_or_holds_something_else_stays(temporary: Path) -> None:
    used, young, other = engine_folder.make(), engine_folder.make(), engine_folder.make()
    with listening(used):
        listening(young).close()
        (other / "notes").write_text("mine")
        linked = temporary / f"{engine_folder.PREFIX}linked"
        linked.symlink_to(other)
        grow_old(used, other)
        engine_folder.sweep()
        assert used.is_dir()
        assert young.is_dir()
        assert (other / "notes").is_file()
        assert linked.is_symlink()


def test_a_long_temporary_folder_is_no_place_for_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    folder = engine_folder.make()
    try:
        with listening(folder):
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        (folder / engine_folder.SOCKET).unlink()
        folder.rmdir()

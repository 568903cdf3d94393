"""Folders for work in progress: private, gone afterwards, cleared away after a crash but never while in use."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from llamero.errors import DiskFull
from llamero.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def test_a_scratch_folder_is_private_and_gone_after_its_block(store: Store) -> None:
    with store.scratch() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert folder.parent == store.root / ".llamero" / "tmp"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.parent.iterdir()) == []


def test_it_is_gone_after_an_error_too_and_a_full_disk_is_told_as_such(store: Store) -> None:
    def work() -> None:
        with store.scratch() as folder:
            (folder / "file").write_text("x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match="no space left on device"):
        work()
    assert list((store.root / ".llamero" / "tmp").iterdir()) == []


def test_a_start_clears_what_a_crash_left_but_not_what_is_in_use(store: Store) -> None:
    crashed = store.root / ".llamero" / "tmp" / "0123"
    (crashed / "deep").mkdir(parents=True)
    (crashed / "deep" / "file").write_text("x")
    with store.scratch() as folder:
        other = Store(store.root)
        other.start()
        other.close()
        assert folder.exists()
        assert not crashed.exists()

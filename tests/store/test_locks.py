"""Locks between our processes, and staged files whose lock tells that somebody works on them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llamero.errors import Busy
from llamero.store import locks
from llamero.store.locks import FileLock
from llamero.store.staging import Staging

HOLD = """
import sys
from pathlib import Path
from llamero.store.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


def test_another_process_is_excluded_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "private" / "lock"
    ours = FileLock(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not ours.try_acquire()
        process.kill()
    assert ours.try_acquire()
    assert ours.is_ours
    ours.release()
    assert not ours.is_ours


def test_threads_and_objects_exclude_each_other(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    inside = 0

    def work(lock: FileLock) -> None:
        nonlocal inside
        for _ in range(5):
            with lock.held():
                inside += 1
                assert inside == 1
                inside -= 1

    threads = [threading.Thread(target=work, args=(lock,)) for lock in (first, first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert first.try_acquire()


def test_waiting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_WAIT_S", 0.02)
    holder, waiter = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with holder.held(), pytest.raises(Busy, match="another process holds the lock"), waiter.held():
        pass
    with waiter.held():
        pass


def test_releasing_what_is_not_held_does_nothing(tmp_path: Path) -> None:
    FileLock(tmp_path / "lock").release()


def test_a_sweep_spares_files_in_the_making(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "private" / "tmp")
    assert staging.sweep() == 0
    with staging.file(tmp_path) as working:
        working.write(b"half")
        left = tmp_path / "private" / "tmp" / "left"
        left.write_bytes(b"by a crash")
        (tmp_path / "private" / "tmp" / "folder").mkdir()
        assert staging.sweep() == len(b"by a crash")
        assert not left.exists()
        working.write(b" and half")
        working.place(tmp_path / "done")
    assert (tmp_path / "done").read_bytes() == b"half and half"

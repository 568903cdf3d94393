"""A disk that is small enough to be filled: a file system of its own in memory, where this user may mount one.

with small_disk(tmp_path / "disk", 64 * MIB) as disk: ...
with full(disk): ...      # not a byte fits
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_STEPS_BYTES = (1 << 20, 4096, 512)
"""How much is written at once while the disk is filled. What is left for one is room for the next."""


@contextmanager
def small_disk(folder: Path, size_bytes: int, kind: str = "tmpfs") -> Iterator[Path]:
    """Mount it at `folder`; where that is not allowed the test is skipped. `ext4` lies in a file beside the folder."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root on Linux")
    folder.mkdir()
    source, options = "tmpfs", f"size={size_bytes},mode=755"
    if kind != "tmpfs":
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        _run("mkfs." + kind, "-q", "-m", "0", str(image))  # without blocks kept back for root
        source, options = str(image), "loop"
    _run("mount", "-t", kind, "-o", options, source, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which(command[0]) else None
    if done is None or done.returncode:
        pytest.skip(f"{command[0]} is not possible here: {done.stderr.strip() if done else 'not installed'}")


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take all room but so much. Returns the file to remove for having it back."""
    path = disk / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for step_bytes in _STEPS_BYTES:
            with _until_full():
                while True:
                    os.write(descriptor, bytes(step_bytes))
            os.fsync(descriptor)  # blocks that were set aside for what is written later are free again
        size_bytes = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, max(0, size_bytes - leave_bytes))
    finally:
        os.close(descriptor)
    return path


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def full(disk: Path, leave_bytes: int = 0) -> Iterator[None]:
    path = fill(disk, leave_bytes)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()

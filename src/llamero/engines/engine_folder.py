"""The private folder of one engine, in which its socket lies; those of servers that were killed are removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path

PREFIX = "llamero-engine-"

SOCKET = "engine.sock"

MAX_SOCKET_PATH_BYTES = 100
"""The kernel's bound is 104 bytes on macOS and 108 on Linux."""

FORGOTTEN_S = 3600.0
"""Age from which a folder counts as left behind when nobody answers at its socket: a young one may not listen yet."""


def make() -> Path:
    """A new folder that only we can enter (`mkdtemp` promises 0700), where a socket's path is short enough."""
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))


def sweep() -> None:
    """Remove the folders in which nobody listens any more. What cannot be removed stays: it is some bytes of /tmp."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        for folder in Path(_parent()).glob(f"{PREFIX}*"):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _parent() -> str:
    parent = tempfile.gettempdir()
    path_bytes = len(os.fsencode(parent)) + len(f"/{PREFIX}12345678/{SOCKET}")
    return "/tmp" if path_bytes > MAX_SOCKET_PATH_BYTES and sys.platform != "win32" else parent


def _is_abandoned(folder: Path) -> bool:
    """Whether it is ours, old, and holds at most a socket that refuses."""
    try:
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_ours or time.time() - found.st_mtime < FORGOTTEN_S:
            return False
        names = os.listdir(folder)
        return not names or (names == [SOCKET] and _is_refused(folder / SOCKET))
    except OSError:  # it is gone, or its listener is busy
        return False


def _is_refused(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # somebody who listens may be too busy to accept
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False

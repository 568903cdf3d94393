"""Who listens on a port of this machine, as far as Linux shows it to this user. Nobody is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LISTENING = "0A"
"""The state of a socket in the kernel's tables."""


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """`ollama, pid 123`; empty where it cannot be seen: another user's process, or another system."""
    wanted = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(proc / "net" / table, port)}
    if not wanted:
        return ""
    for process in proc.glob("[0-9]*"):
        if wanted & set(_links(process / "fd")):
            return f"{_name(process)}, pid {process.name}"
    return ""


def _inodes(table: Path, port: int) -> Iterator[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return
    for row in rows:
        if len(row) > 9 and row[3] == LISTENING and row[1].rpartition(":")[2] == f"{port:04X}":
            yield row[9]


def _links(folder: Path) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(folder / name)
        except OSError:
            continue


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"

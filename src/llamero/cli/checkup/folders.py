"""The folders: where the models are, how much fits there and how quickly it is read, and who may do what."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ...errors import LlameroError
from ...messages import Found
from ...sizes import human_bytes
from . import Surroundings, fail, ok, warn

GB = 10**9
NO_ROOM_BYTES = GB
LITTLE_ROOM_BYTES = 10 * GB
"""About two models of the usual sizes."""

TRIED_BLOCK_BYTES = 4 * 2**20
TRIED_S = 0.5
TRIED_BYTES = 512 * 2**20
SMALLEST_TRIED_BYTES = 16 * 2**20
"""Of a file; what is read of a smaller one says little."""
SLOW_BYTES_PER_S = 150_000_000
"""A hard disk, or a network."""

MAX_BLOBS_SEEN = 10_000
"""A folder with more would take more than a moment."""


def folders(here: Surroundings) -> Iterator[Found]:
    root = here.settings.models
    try:
        theirs = Path(here.client.models_folder())
    except LlameroError:
        theirs = root
    if theirs != root.absolute() and "OLLAMA_MODELS" in here.env:
        text = f"the server keeps its models in {theirs}, OLLAMA_MODELS here says {root}"
        yield warn("models", text, "set it alike for the server, or unset it here")
    yield from space(theirs)
    yield from speed(theirs)
    yield from permissions(here.settings.home, theirs)


def space(root: Path) -> Iterator[Found]:
    """How much more fits."""
    there = next((path for path in (root, *root.absolute().parents) if path.exists()), None)
    if there is None:
        return
    free_bytes = shutil.disk_usage(there).free
    text = f"{human_bytes(free_bytes)} free for {root}"
    advice = "ollama rm a model, ollama prune, or set OLLAMA_MODELS to another disk"
    if free_bytes < NO_ROOM_BYTES:
        yield fail("disk", text, advice)
    elif free_bytes < LITTLE_ROOM_BYTES:
        yield warn("disk", text, advice)
    else:
        yield ok("disk", text)


def speed(root: Path) -> Iterator[Found]:
    """How quickly weights are read, past the system's cache, which holds them only when they were read before."""
    largest = max(_blobs(root), key=lambda entry: entry.stat().st_size, default=None)
    if largest is None or largest.stat().st_size < SMALLEST_TRIED_BYTES:
        return
    try:
        per_s = _read_speed(largest.path)
    except OSError:
        return  # `permissions` says why
    text = f"weights are read at {human_bytes(int(per_s))}/s: 5 GB take {5 * GB / per_s:.0f} s"
    if per_s < SLOW_BYTES_PER_S:
        yield warn("disk speed", text, "put OLLAMA_MODELS on a faster disk, or keep models loaded (OLLAMA_KEEP_ALIVE)")
    else:
        yield ok("disk speed", text)


def _read_speed(path: str) -> float:
    """Bytes per second."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    except OSError:  # not every file system can do without its cache
        file = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(-1, TRIED_BLOCK_BYTES) as block:  # aligned, as reading without a cache needs it
            began_s, done_bytes = time.perf_counter(), 0
            while done_bytes < TRIED_BYTES and time.perf_counter() - began_s < TRIED_S:
                got = os.readv(file, [block]) if hasattr(os, "readv") else len(os.read(file, TRIED_BLOCK_BYTES))
                if not got:
                    break
                done_bytes += got
            return max(1, done_bytes) / (time.perf_counter() - began_s)
    finally:
        os.close(file)


def permissions(home: Path, root: Path) -> Iterator[Found]:
    """Whether this user may read and write what is his, and whether others may not read what is secret."""
    found = [*_not_ours(home), *_not_ours(root), *_not_readable(root), *_open_to_others(home)]
    yield from found or [ok("permissions", f"{home} and {root} can be used, and keys are private")]


def _not_ours(folder: Path) -> Iterator[Found]:
    if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        advice = "run this as that user, or give it to yours: sudo chown -R"
        yield fail("permissions", f"{folder} belongs to {_owner(folder)} and cannot be used", advice)


def _not_readable(root: Path) -> Iterator[Found]:
    closed = [entry for entry in _blobs(root) if not os.access(entry.path, os.R_OK)]
    if closed:
        text = f"{len(closed)} files in {root / 'blobs'} cannot be read, the first belongs to {_owner(closed[0].path)}"
        yield fail("permissions", text, "give them to this user: sudo chown -R")


def _open_to_others(home: Path) -> Iterator[Found]:
    if os.name != "posix":
        return
    for path in (home / "id_ed25519", home / "llamero"):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            wanted = "700" if path.is_dir() else "600"
            yield warn("permissions", f"others can look into {path} (mode {mode:o})", f"chmod {wanted} {path}")


def _blobs(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / "blobs") as entries:
            found = [entry for entry, _ in zip(entries, range(MAX_BLOBS_SEEN), strict=False) if entry.is_file()]
    except OSError:
        return []
    return [entry for entry in found if entry.name.startswith("sha256-")]


def _owner(path: Path | str) -> str:
    number = os.stat(path).st_uid
    if os.name != "posix":
        return str(number)
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"

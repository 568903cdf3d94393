"""How fast a blob is pulled over loopback, verified and on the disk, against plain copy + sha256 of the same file.

A registry in another process serves a generated file with `sendfile`; copy and pull take turns. A pull ends with its
bytes flushed to the disk; the copy is counted without its flush and with it.

    python -m bench.pull [rounds]
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llamero.names import Digest
from llamero.registry import thread
from llamero.registry.download import download
from llamero.registry.limit import Pace
from llamero.registry.network import Network
from llamero.registry.session import Origin, Session
from llamero.store import Store

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios

ROUNDS = 9
SIZE_BYTES = 1 << 30
BLOCK_BYTES = 1 << 20


def measure(effort: Effort) -> list[Figure]:
    size_bytes = effort.size(SIZE_BYTES, 16 * BLOCK_BYTES)
    copies_s, flushed_s, pulls_s = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source"
        digest = generate(source, size_bytes)
        with serving(source) as port:
            for _ in range(effort.rounds_of(ROUNDS)):
                copied_s, and_flushed_s = copy_and_hash(source, folder / "copy")
                copies_s.append(copied_s)
                flushed_s.append(and_flushed_s)
                pulls_s.append(pull(port, digest, size_bytes, folder / "models"))
    return [
        Figure("pull over loopback / copy + sha256, bytes per second", ratios(copies_s, pulls_s), goal=0.7),
        Figure("pull over loopback / copy + sha256, both flushed", ratios(flushed_s, pulls_s)),
        Figure("pull, verified and flushed", tuple(size_bytes / 1e6 / pull_s for pull_s in pulls_s), "MB/s"),
    ]


def generate(path: Path, size_bytes: int) -> Digest:
    content_hash = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(0, size_bytes, BLOCK_BYTES):
            block = os.urandom(BLOCK_BYTES)
            content_hash.update(block)
            file.write(block)
    return Digest(content_hash.hexdigest())


def copy_and_hash(source: Path, target: Path) -> tuple[float, float]:
    """Seconds for both, and with the flush."""
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        hashlib.file_digest(file, "sha256")
        copied_s = time.perf_counter() - started
        os.fsync(file.fileno())
    flushed_s = time.perf_counter() - started
    target.unlink()
    return copied_s, flushed_s


def pull(port: int, digest: Digest, size_bytes: int, models: Path) -> float:
    store = Store(models)
    origin = Origin(f"http://127.0.0.1:{port}", "library", "m", "registry", f"127.0.0.1:{port}", may_be_private=True)

    async def work() -> None:
        async with Session(origin, Network(home=models)) as session:
            await download(store, digest, size_bytes, [session], pace=Pace(), report=lambda completed: None)

    started = time.perf_counter()
    thread.run(work(), cancelled=lambda: False)
    seconds = time.perf_counter() - started
    store.blobs.remove(digest, "measured")
    return seconds


@contextmanager
def serving(path: Path) -> Iterator[int]:
    """A registry with one blob, in a process of its own. Yields its port."""
    command = [sys.executable, "-m", "bench.pull", "serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def serve(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, path), daemon=True).start()


def answer(connection: socket.socket, path: Path) -> None:
    """Range requests with their ranges, one after the other; the probe without a range with the head alone."""
    size_bytes = path.stat().st_size
    with connection, path.open("rb") as file:
        requests = connection.makefile("rb")
        while True:
            head = b"".join(iter(requests.readline, b"\r\n"))
            if not head:
                return
            wanted = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", head)
            if wanted is None:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes)
                return
            start, last = int(wanted[1]), int(wanted[2])
            connection.sendall(
                b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                % (last - start + 1, start, last, size_bytes)
            )
            while start <= last:
                start += os.sendfile(connection.fileno(), file.fileno(), start, last - start + 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    else:
        alone(measure, __doc__)

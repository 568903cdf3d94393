"""Clients that want no answer: many connections that are silent, slow, or gone. For tests, and for `bench.soak`."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

DRIP_S = 1.0

HEAD = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

FLOODS: dict[str, bytes] = {
    "header fields": HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(10_000)) + b"\r\n",
    "a long field": HEAD + b"X: " + b"a" * 2**20 + b"\r\n\r\n",
    "chunks of one byte": CHUNKED + b"1\r\na\r\n" * 100_000,
    "trailers": CHUNKED + b"0\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(100_000)),
    "empty lines": b"\r\n" * 2**19,
    "requests at once": (HEAD + b"\r\n") * 2000,
}
"""Each is sent again and again, on a connection of its own."""


def allow_files(count: int) -> bool:
    """Have this process open so many; false when the system does not let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count <= hard or (soft < count and hard == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= count


@contextmanager
def connected(port: int, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many open connections, each of which has sent that much."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connections.append(connection)
            if sent:
                connection.sendall(sent)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def reset(connection: socket.socket) -> None:
    """Close it so that the other side is told that it was broken off."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def meanwhile(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Each in a thread, until its event is set."""
    is_over = threading.Event()
    threads = [threading.Thread(target=work, args=(is_over,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(10)


def dripping(connections: Sequence[socket.socket], drop: bytes) -> Callable[[threading.Event], None]:
    """Send a drop on each, once a second; those that were closed are left alone."""

    def drip(is_over: threading.Event) -> None:
        while not is_over.wait(DRIP_S):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(drop)

    return drip


def flooding(port: int, flood: bytes) -> Callable[[threading.Event], None]:
    """Send it on one connection after the other."""

    def pour(is_over: threading.Event) -> None:
        while not is_over.wait(0.01):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(flood)
                while connection.recv(65536):
                    pass

    return pour


def answer_s(port: int) -> float:
    """How long somebody waits for the version, with a connection of their own. Raises OSError."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    if not reply.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"the probe was answered {reply[:80]!r}")
    return time.monotonic() - started

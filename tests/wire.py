"""A line before a server that counts what passes, and remembers what was asked for.

with Wire(server.port) as wire: ...  # ask http://{wire.host}/
wire.received_bytes                   # by whoever asks, heads included
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

BLOCK_BYTES = 64 << 10
"""Also the buffer of each connection: little is on its way that nobody has taken yet."""

_RANGE = re.compile(rb"GET (\S+) HTTP/1\.1\r\n(?:[^\r]+\r\n)*?range: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """One request for a range."""

    path: str
    start: int
    last: int


class Wire:
    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.received_bytes = 0
        self.ranges: list[Asked] = []
        self._count = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def forget(self) -> None:
        with self._count:
            self.received_bytes = 0
            self.ranges = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # `accept` ends, which closing alone would not bring about
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target_port)) as server:
            up = threading.Thread(target=self._up, args=(client, server), daemon=True)
            up.start()
            self._down(server, client)
            up.join()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(BLOCK_BYTES):
                found = _RANGE.findall(data)
                with self._count:
                    self.ranges += [Asked(path.decode(), int(start), int(last)) for path, start, last in found]
                server.sendall(data)
        _end(server)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(BLOCK_BYTES):
                client.sendall(data)
                with self._count:
                    self.received_bytes += len(data)
        _end(client)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

"""A process that only copies bytes between clients and a server: the least that anything in between costs.

    python -m bench.relay PORT

prints its port, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import uvloop


@dataclass(frozen=True, slots=True)
class Relay:
    pid: int
    url: str


class Upstream(asyncio.Protocol):
    def __init__(self, client: Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.upstream = cast(asyncio.Transport, transport)
        self._client.upstream.write(bytes(self._client.unsent))

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.transport.close()


class Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, port: int) -> None:
        self._port = port
        self.unsent = bytearray()
        self.upstream: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: Upstream(self), "127.0.0.1", self._port))

    def data_received(self, data: bytes) -> None:
        if self.upstream is None:
            self.unsent += data
        else:
            self.upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.upstream is not None:
            self.upstream.close()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Client(port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def relayed(port: int) -> Iterator[Relay]:
    """One in front of a server on this machine."""
    process = subprocess.Popen([sys.executable, "-m", "bench.relay", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Relay(process.pid, f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))

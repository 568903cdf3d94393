"""Connections that have not come as far as TLS: real sockets, and certificates of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llamero.server.handshakes import Handshakes, Reception
from llamero.server.tls import Files, Tls
from tests.certificates import Authority

PATIENCE_S = 10.0


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@dataclass
class Secured:
    handshakes: Handshakes
    port: int
    trust: ssl.SSLContext
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def silent(self) -> asyncio.StreamWriter:
        """A connection that says nothing."""
        before = len(self.handshakes)
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(writer)
        await until(lambda: len(self.handshakes) > before)
        return writer

    async def echoes(self) -> bool:
        """Whether a sound client is served; it stays connected until the end of the test."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)
        except (ConnectionError, ssl.SSLError):
            return False
        self.opened.append(writer)
        writer.write(b"x")
        return await asyncio.wait_for(reader.read(1), PATIENCE_S) == b"x"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 # what happens in a transport sets no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def secured(folder: Path, most: int, most_each: int, *, spared: bool = False) -> AsyncIterator[Secured]:
    authority = Authority(folder, "authority")
    pair = authority.issue("server")
    handshakes = Handshakes(most, lambda address: spared, most_each)
    trust = ssl.create_default_context(cafile=str(authority.file))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reception = Reception(listening, Tls(Files(pair.certificate, pair.key)).context, Echo, handshakes)
        at = Secured(handshakes, listening.getsockname()[1], trust)
        yield at
        await reception.close()
        assert not len(handshakes)
    for writer in at.opened:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_whoever_says_nothing_has_only_so_many(tmp_path: Path) -> None:
    """partly X-78: over TLS. Who has shaken hands counts no more, and who leaves makes room."""
    async with secured(tmp_path, most=100, most_each=2) as at:
        assert await at.echoes()
        assert await at.echoes()
        assert len(at.handshakes) == 0
        silent = [await at.silent() for _ in range(2)]
        assert not await at.echoes()
        silent.pop().close()
        await until(lambda: len(at.handshakes) == 1)
        assert await at.echoes()


@pytest.mark.parametrize(("most", "spared", "is_served"), [(3, True, True), (2, True, False)])
async def test_a_proxy_has_as_many_as_there_may_be(tmp_path: Path, most: int, spared: bool, is_served: bool) -> None:
    async with secured(tmp_path, most, most_each=1, spared=spared) as at:
        for _ in range(2):
            await at.silent()
        assert await at.echoes() is is_served


async def test_a_handshake_that_fails_is_over(tmp_path: Path) -> None:
    async with secured(tmp_path, most=9, most_each=1) as at:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(100), PATIENCE_S)).startswith(b"HTTP/1.1 400 ")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            await until(lambda: not len(at.handshakes))
        assert await at.echoes()


def test_an_ipv6_customer_is_one_party() -> None:
    handshakes = Handshakes(100, lambda address: False, most_each=2)
    assert handshakes.begin("2001:db8::1") == handshakes.begin("2001:db8::2")
    assert handshakes.begin("2001:db8::3") is None
    assert handshakes.begin("2001:db8:0:1::1") is not None

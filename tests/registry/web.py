"""Small real servers on loopback: what a session talks to in these tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from tests.certificates import Pair, self_signed

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

DIGEST = "sha256:" + "ab" * 32


class Site:
    """A server that remembers what it was asked. `host:port` of it is `place`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[web.BaseRequest] = []
        self.place = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        return await self._handler(request)

    @property
    def asked(self) -> list[str]:
        """`GET /path?query` of each request, as it was written."""
        return [f"{request.method} {request.raw_path}" for request in self.requests]

    def header(self, name: str) -> list[str | None]:
        return [request.headers.get(name) for request in self.requests]


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    site = Site(handler)
    runner = web.ServerRunner(web.Server(site.handle), shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await listening.start()
    site.place = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield site
    finally:
        await runner.cleanup()


def answer(status: int = 200, text: str = "", **headers: str) -> Handler:
    """A server that says the same to everybody; `_` in a header's name stands for `-`."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers={key.replace("_", "-"): headers[key] for key in headers})

    return handle


@asynccontextmanager
async def tunnel(place: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy whose every CONNECT ends at `place`. Gives its own host:port, and the hosts that were asked for."""
    wanted: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        wanted.append(head.split()[1])
        host, _, port = place.rpartition(":")
        onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pipe(reader, onward_writer), pipe(onward_reader, writer))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}", wanted


def certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that vouches for itself: its file, and a server's context with it."""
    pair = self_signed(Pair(folder / "registry.pem", folder / "registry.key"), *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return pair.certificate, context

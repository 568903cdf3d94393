"""Small real servers on loopback: what a session talks to in these tests."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a registry")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "registry.pem"
    file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    both = folder / "with-key.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    both.write_bytes(pem + file.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return file, context

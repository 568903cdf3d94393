"""A registry's blob side on loopback, in the running event loop, with faults on order. A program, not a mock.

    async with FaultyServer() as server:
        digest = server.add(content)                     # served under its digest
        server.blobs[digest] = b"something else"         # ... or wrong on purpose
        server.style = "redirect"                        # see Style
        server.faults.append(status(500, times=3))       # the first fault that applies to a request answers it
        async with server.session() as source: ...       # a real `registry.session.Session` with it
        server.asked                                     # every request, in order; bytes_asked: those for content
        server.sent_bytes                                # content sent so far, of all blobs

Where a blob lies depends on `style`; faults and `bytes_per_s` are for that place only. `expire_links()` makes every
link that was given out answer 403 with an HTML page, as storages do with signed links that are used up. `login`
("user:pw") is asked for (Basic) by the registry, never by the storage. `manifests` maps paths such as
"library/m/manifests/latest" to bodies.

A fault answers the requests for which `when` is true, `times` of them, after `spare` of them went by untouched.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from llamero.names import Digest
from llamero.registry.network import Network
from llamero.registry.session import Kind, Origin, Session

Style = Literal["direct", "location", "redirect", "elsewhere"]
"""How the registry answers for a blob: 200 with the bytes; 200 with a Location; 307; 307 to another host name."""

BLOCK_BYTES = 16 * 1024
ALWAYS = 1 << 30

HTML = b"<html><body>no such thing, but in many words</body></html>"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """With the query."""
    headers: dict[str, str]
    """Names in lower case."""
    connection: int
    """Which connection it came on, counted from 0."""

    @property
    def range(self) -> tuple[int, int] | None:
        """First byte and the one after the last."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) + 1 if match[2] else ALWAYS) if match else None


@dataclass
class Fault:
    act: Callable[[Reply], Awaitable[None]]
    when: Callable[[Request], bool] = lambda request: True
    times: int = ALWAYS
    spare: int = 0

    def takes(self, request: Request) -> bool:
        if not self.when(request) or self.times <= 0:
            return False
        if self.spare:
            self.spare -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Reply:
    """One answer on its way."""

    request: Request
    content: bytes
    """The whole blob."""
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: FaultyServer

    async def head(self, status: int, length: int | None, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [] if length is None else [f"Content-Length: {length}"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def body(self, data: bytes, bytes_per_s: float = 0) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            block = data[at : at + BLOCK_BYTES]
            if bytes_per_s or self.server.bytes_per_s:
                await asyncio.sleep(len(block) / (bytes_per_s or self.server.bytes_per_s))
            self.writer.write(block)
            await self.writer.drain()
            self.server.sent_bytes += len(block)

    async def right(self, *, stop_after: int | None = None, bytes_per_s: float = 0, **headers: str) -> None:
        """What a faultless server answers, or the beginning of it."""
        size = len(self.content)
        start, stop = self.request.range or (0, size)
        stop = min(stop, size)
        if start >= stop > 0:
            await self.head(416, 0, Content_Range=f"bytes */{size}")
            return
        if self.request.range:
            await self.head(206, stop - start, Content_Range=f"bytes {start}-{stop - 1}/{size}", **headers)
        else:
            await self.head(200, size, **headers)
        await self.body(self.content[start:stop][:stop_after], bytes_per_s)

    async def hung_up(self) -> None:
        """Wait until the other side closes the connection."""
        await self.reader.read()


class FaultyServer:
    def __init__(self, *, style: Style = "redirect", login: str = "") -> None:
        self.style = style
        self.login = login
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.bytes_per_s = 0.0
        """Of each connection; 0 is as fast as it goes."""
        self.asked: list[Request] = []
        self.bytes_asked: list[Request] = []
        self.sent_bytes = 0
        self.in_flight = 0
        self.most_in_flight = 0
        """Requests for bytes that were being answered at once."""
        self.port = 0
        self._links = 0
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    # --- what a test does with it ---

    def add(self, content: bytes) -> Digest:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return digest

    def expire_links(self) -> None:
        self._links += 1

    def session(self, kind: Kind = "registry", home: Path = Path("/nonexistent")) -> Session:
        user = f"{self.login}@" if self.login else ""
        host = f"127.0.0.1:{self.port}"
        origin = Origin(f"http://{user}{host}", "library", "m", kind, host, may_be_private=True)
        return Session(origin, Network(home=home, allow_private=("localhost", "127.0.0.1")))

    @property
    def ranges(self) -> list[tuple[int, int] | None]:
        """Of the requests for bytes, in order."""
        return [request.range for request in self.bytes_asked]

    # --- the server ---

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self._connections = self._connections, self._connections + 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(await _read_request(reader, number), reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may go on."""
        self.asked.append(request)
        path, _, query = request.path.partition("?")
        reply = Reply(request, b"", reader, writer, self)
        if path.startswith("/storage/"):
            reply.content = self.blobs[Digest.parse(path.removeprefix("/storage/"))]
            if query != f"signature={self._links}%3D":  # as it was given, not quoted anew
                await reply.head(403, len(HTML), Content_Type="text/html")
                await reply.body(HTML)
                return True
            return await self._give_bytes(reply)
        given = request.headers.get("authorization", "")
        if self.login and given != "Basic " + base64.b64encode(self.login.encode()).decode():
            await reply.head(401, 0, WWW_Authenticate='Basic realm="registry"')
            return True
        name = path.removeprefix("/v2/")
        text = name.rpartition("/blobs/")[2]
        if name in self.manifests:
            await reply.head(200, len(self.manifests[name]))
            await reply.body(self.manifests[name])
        elif not text.startswith("sha256:") or Digest.parse(text) not in self.blobs:
            await reply.head(404, 0)
        elif self.style == "direct":
            reply.content = self.blobs[Digest.parse(text)]
            return await self._give_bytes(reply)
        else:
            host = f"http://localhost:{self.port}" if self.style == "elsewhere" else ""
            link = f"{host}/storage/{text}?signature={self._links}%3D"
            await reply.head(200 if self.style == "location" else 307, 0, Location=link)
        return True

    async def _give_bytes(self, reply: Reply) -> bool:
        self.bytes_asked.append(reply.request)
        fault = next((fault for fault in self.faults if fault.takes(reply.request)), None)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await (fault.act(reply) if fault else reply.right())
        finally:
            self.in_flight -= 1
        return fault is None


# --- the faults ------------------------------------------------------------------------------------------------------


def status(code: int, body: bytes = b"", **options: Any) -> Fault:
    async def act(reply: Reply) -> None:
        await reply.head(code, len(body))
        await reply.body(body)

    return Fault(act, **options)


def html_403(**options: Any) -> Fault:
    return status(403, HTML, **options)


def stall(after_bytes: int = 0, *, head: bool = True, **options: Any) -> Fault:
    """So many bytes and then none, until the other side hangs up. Without `head` not even a status line."""

    async def act(reply: Reply) -> None:
        if head:
            await reply.right(stop_after=after_bytes)
        await reply.hung_up()

    return Fault(act, **options)


def cut(after_bytes: int = 0, **options: Any) -> Fault:
    """The connection ends in the middle."""

    async def act(reply: Reply) -> None:
        await reply.right(stop_after=after_bytes)

    return Fault(act, **options)


def slow(bytes_per_s: float, **options: Any) -> Fault:
    async def act(reply: Reply) -> None:
        await reply.right(bytes_per_s=bytes_per_s)

    return Fault(act, **options)


def whole(**options: Any) -> Fault:
    """200 and everything, whatever range was asked for."""

    async def act(reply: Reply) -> None:
        await reply.head(200, len(reply.content))
        await reply.body(reply.content)

    return Fault(act, **options)


def other_range(content_range: str, **options: Any) -> Fault:
    """206 with a Content-Range that was not asked for; the body is as long as the one that was."""

    async def act(reply: Reply) -> None:
        start, stop = reply.request.range or (0, len(reply.content))
        await reply.head(206, stop - start, **({"Content_Range": content_range} if content_range else {}))
        await reply.body(bytes(stop - start))

    return Fault(act, **options)


def endless(**options: Any) -> Fault:
    """The right answer, but for a Content-Length of a terabyte, and more bytes after the right ones."""

    async def act(reply: Reply) -> None:
        start, stop = reply.request.range or (0, len(reply.content))
        await reply.head(206, 10**12, Content_Range=f"bytes {start}-{stop - 1}/{len(reply.content)}")
        await reply.body(reply.content[start:stop])
        await reply.body(bytes(BLOCK_BYTES))
        await reply.hung_up()

    return Fault(act, **options)


def said_to_be_gzip(**options: Any) -> Fault:
    """The right bytes under `Content-Encoding: gzip`."""

    async def act(reply: Reply) -> None:
        await reply.right(Content_Encoding="gzip")

    return Fault(act, **options)


def instead(content: bytes, **options: Any) -> Fault:
    """Bytes of another blob of the same size."""

    async def act(reply: Reply) -> None:
        reply.content = content
        await reply.right()

    return Fault(act, **options)


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    return Request(method, path, headers, connection)

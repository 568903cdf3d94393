"""A proxy before any registry (or other HTTP server) that lets requests fail by rule.

    rules = [Rule(Cut(1000), method="PATCH"), Rule(Answer(503), path="/manifests/", times=2)]
    async with FaultProxy("127.0.0.1:5000", rules) as proxy: ...  # ask http://{proxy.host}/

The first rule that fits a request and is not used up acts on it. A connection carries one request. The `Host` header
passes unchanged, so a registry that makes absolute URLs makes them lead through the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

BLOCK_BYTES = 64 << 10

Way = Literal["up", "down"]
"""The body of the request, or that of the answer."""


@dataclass(frozen=True)
class Delay:
    """The request is handed on later."""

    delay_s: float


@dataclass(frozen=True)
class Answer:
    """The proxy answers by itself."""

    status: int
    body: bytes = b""


@dataclass(frozen=True)
class Cut:
    """Both connections end after so many bytes of a body."""

    after_bytes: int
    way: Way = "down"


@dataclass(frozen=True)
class Stall:
    """After so many bytes of a body nothing more comes, and nothing ends."""

    after_bytes: int
    way: Way = "down"


@dataclass(frozen=True)
class Corrupt:
    """One byte of a body is changed."""

    at_byte: int
    way: Way = "down"


@dataclass(frozen=True)
class DropRange:
    """The server does not learn that a range was wanted."""


Fault = Delay | Answer | Cut | Stall | Corrupt | DropRange


@dataclass
class Rule:
    fault: Fault
    method: str = ""
    """Empty: any."""
    path: str = ""
    """Part of the request's path and query."""
    skip: int = 0
    """So many fitting requests pass unharmed first."""
    times: int | None = 1
    """None: for ever."""

    def takes(self, method: str, target: str) -> bool:
        """Whether it acts on this request, which then is counted."""
        if self.times == 0 or self.method not in ("", method) or self.path not in target:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    def __init__(self, target: str, rules: Sequence[Rule] = ()) -> None:
        """`target` is `host:port`. Rules may be added to `rules` while it runs."""
        self.rules = list(rules)
        self.requests: list[str] = []
        """Method and target of each request, in order."""
        self._target, _, port = target.rpartition(":")
        self._target_port = int(port)
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connection(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._request(client, to_client)
        finally:
            to_client.close()

    async def _request(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        line, headers = await _head(client)
        method, target, _ = line.split(" ", 2)
        self.requests.append(f"{method} {target}")
        fault = next((rule.fault for rule in self.rules if rule.takes(method, target)), None)
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.delay_s)
        if isinstance(fault, Answer):
            head = f"HTTP/1.1 {fault.status} Fault\r\nContent-Length: {len(fault.body)}\r\nConnection: close\r\n\r\n"
            to_client.write(head.encode() + fault.body)
            await to_client.drain()
            return
        dropped = {"connection"} | ({"range"} if isinstance(fault, DropRange) else set())
        kept = [header for header in headers if header.partition(":")[0].lower() not in dropped]
        server, to_server = await asyncio.open_connection(self._target, self._target_port)
        try:
            to_server.write("\r\n".join([line, *kept, "Connection: close", "", ""]).encode())
            up = asyncio.create_task(_pass_on(client, to_server, fault, "up"))
            down = asyncio.create_task(_answer(server, to_client, fault))
            # the client may still be sending when the answer is complete, and the other way round
            done, rest = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up in done and not up.exception() and not up.result():
                await down
            for task in rest:
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        finally:
            to_server.close()


async def _head(reader: asyncio.StreamReader) -> tuple[str, list[str]]:
    first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    return first, headers


async def _answer(server: asyncio.StreamReader, to_client: asyncio.StreamWriter, fault: Fault | None) -> None:
    line, headers = await _head(server)
    to_client.write("\r\n".join([line, *headers, "", ""]).encode("latin-1"))
    await _pass_on(server, to_client, fault, "down")


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None, way: Way) -> bool:
    """Hand a body on until its sender ends. True when it was cut."""
    mine = isinstance(fault, Cut | Stall | Corrupt) and fault.way == way
    async for block in _blocks(reader, fault if mine else None):
        writer.write(block)
        await writer.drain()
    if mine and isinstance(fault, Stall):
        await asyncio.Event().wait()
    return mine and isinstance(fault, Cut)


async def _blocks(reader: asyncio.StreamReader, fault: Fault | None) -> AsyncIterator[bytes]:
    seen_bytes = 0
    while block := await reader.read(BLOCK_BYTES):
        match fault:
            case Cut(after_bytes) | Stall(after_bytes):
                yield block[: max(after_bytes - seen_bytes, 0)]
                if seen_bytes + len(block) > after_bytes:
                    return
            case Corrupt(at_byte) if seen_bytes <= at_byte < seen_bytes + len(block):
                at = at_byte - seen_bytes
                yield block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
            case _:
                yield block
        seen_bytes += len(block)

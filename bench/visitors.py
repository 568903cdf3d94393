"""Clients of a soaked server, many at once on one event loop, and what became of each. `soak` sends them."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.crowd import answer_s

from .figures import Figure
from .servers import MODEL

ANSWER_TOKENS = 16
PATIENCE_S = 600.0
"""For one answer: hundreds of them share a machine."""

WRITTEN_BYTES, WRITE_PAUSE_S = 512, 0.25
"""Of a slow writer at a time: twice the slowest that a server allows."""

PROBE_PAUSE_S = 0.1

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that is broken off."""

SMALL: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/api/version", None),
    ("GET", "/api/tags", None),
    ("GET", "/v1/models", None),
    ("GET", "/api/ps", None),
    ("POST", "/api/show", {"model": MODEL}),
)


class Unwanted(Exception):
    """An answer that is none, or not the one that was asked for."""


FAILURES = (aiohttp.ClientError, OSError, TimeoutError, EOFError, Unwanted)


@dataclass
class Tally:
    """What became of requests of one kind."""

    took_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def count(self, request: Awaitable[None]) -> None:
        started_s = time.monotonic()
        try:
            await request
        except FAILURES as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        else:
            self.took_s.append(time.monotonic() - started_s)

    def figures(self, name: str) -> list[Figure]:
        count = len(self.took_s) + len(self.errors)
        rows = [Figure(f"{name}: failed of {count}", (float(len(self.errors)),), goal=0, better="less")]
        if self.took_s:
            rows.append(Figure(f"{name}: the median", (quantile(self.took_s, 0.5),), "s", better="less"))
            rows.append(Figure(f"{name}: 99 of 100 within", (quantile(self.took_s, 0.99),), "s", better="less"))
        return rows


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def question(number: int, tokens: int = ANSWER_TOKENS, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell a story about {number} ships."}]
    return {"model": MODEL, "messages": messages, "options": {"num_predict": tokens}, **more}


@asynccontextmanager
async def client(port: int, connections: int = 0, *, keeps: bool = True) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=connections, force_close=not keeps)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, timeout=timeout) as session:
        yield session


async def chat(
    session: aiohttp.ClientSession, number: int, *, tokens: int = ANSWER_TOKENS, pause_s: float = 0.0
) -> None:
    """Read a streamed answer to its end, with a pause behind each line. Raises Unwanted when it has no end."""
    last = b""
    async with session.post("/api/chat", json=question(number, tokens)) as response:
        async for line in response.content:
            last = line
            await asyncio.sleep(pause_s)
    if response.status != 200 or b'"done":true' not in last:
        raise Unwanted(f"{response.status} {last[:200]!r}")


async def chat_slowly_asked(port: int, number: int) -> None:
    """Send a question of some kilobytes a few bytes at a time."""
    body = json.dumps(question(number, stream=False, padding="x" * 4000)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_head(body) + b"Connection: close\r\n\r\n")
        for at in range(0, len(body), WRITTEN_BYTES):
            writer.write(body[at : at + WRITTEN_BYTES])
            await asyncio.sleep(WRITE_PAUSE_S)
        reply = await asyncio.wait_for(reader.read(), PATIENCE_S)
    finally:
        writer.close()
    if not reply.startswith(b"HTTP/1.1 200 ") or b'"done":true' not in reply:
        raise Unwanted(repr(reply[:200]))


async def small(session: aiohttp.ClientSession, number: int) -> None:
    method, path, body = SMALL[number % len(SMALL)]
    async with session.request(method, path, json=body) as response:
        await response.read()
    if response.status != 200:
        raise Unwanted(f"{method} {path}: {response.status}")


async def vanish(port: int, *, sent: float = 1.0, pieces: int = 0, wait_s: float = 0.0, tokens: int = 200) -> None:
    """Ask for a long answer and break the connection off: with that share of the question sent, so many lines read."""
    body = json.dumps(question(pieces, tokens)).encode()
    asked = _head(body) + b"\r\n" + body
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(asked[: int(sent * len(asked))])
        with suppress(EOFError, ConnectionError):
            for _ in range(pieces):
                await asyncio.wait_for(reader.readuntil(b"}\n"), PATIENCE_S)
        await asyncio.sleep(wait_s)
    finally:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


@asynccontextmanager
async def probed(port: int) -> AsyncIterator[list[float]]:
    """How long somebody waits for the version while other things go on, some times per second."""
    waits: list[float] = []

    async def probe() -> None:
        while True:
            waits.append(await asyncio.to_thread(answer_s, port))
            await asyncio.sleep(PROBE_PAUSE_S)

    probing = asyncio.create_task(probe())
    try:
        yield waits
    finally:
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing


def _head(body: bytes) -> bytes:
    return b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)

"""Connections on a small app, under limits that a test can wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from llamero.server.connections import Connection, Connections, Limits

GET = b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"
TIGHT = {"idle_s": 0.1, "head_s": 0.1, "body_grace_s": 0.1, "stall_s": 0.1}
PATIENCE_S = 10.0


class App:
    """Answers /now at once, /body when it has it, /wait when it is told to, and /flood with more than anybody reads."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.go = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.paths.append(scope["path"])
        request = Request(scope, receive)
        reply = b"now"
        try:
            match scope["path"]:
                case "/body":
                    reply = await request.body()
                    self.headers = scope["headers"]
                case "/wait":
                    await self.go.wait()
                case "/gone":
                    await _end_of(receive)
                case "/flood":
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    gone = asyncio.ensure_future(_end_of(receive))
                    while not gone.done():
                        await send({"type": "http.response.body", "body": b"x" * 2**16, "more_body": True})
                        await asyncio.sleep(0)
                    return
            headers = [(b"content-length", str(len(reply)).encode())]
            if scope["path"] == "/refuse":
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": reply})
        finally:
            self.ended.set()


async def _end_of(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> tuple[int, bytes]:
        """Status and body of the next reply, which has a length."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split()[0])
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


Connect = Callable[[], AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def served(app: App, *, spared: bool = True, **limits: Any) -> AsyncIterator[tuple[Connections, Connect]]:
    connections = Connections(Limits(check_s=0.02, linger_s=0.1, **limits), lambda address: spared)
    config = uvicorn.Config(app, http=connections.connection, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.startup([listening])

    @asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    try:
        yield connections, connect
    finally:
        app.go.set()
        (listener,) = server.servers
        listener.close()
        for connection in tuple(server.server_state.connections):
            connection.shutdown()
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 # what happens in a connection sets no event
            await asyncio.sleep(0.01)


# --- requests --------------------------------------------------------------------------------------------------------


async def test_requests_are_answered_one_after_the_other() -> None:
    """However many were sent at once: the second is looked at when the first has its answer."""
    app = App()
    async with served(app) as (_, connect), connect() as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 2)
        await until(lambda: app.paths == ["/wait"])
        await asyncio.sleep(0.05)
        assert app.paths == ["/wait"]
        app.go.set()
        assert [await client.reply() for _ in range(3)] == [(200, b"now")] * 3
        assert app.paths == ["/wait", "/now", "/now"]


async def test_who_leaves_is_missed_at_once_although_more_requests_were_sent() -> None:
    app = App()
    async with served(app) as (_, connect):
        async with connect() as client:
            client.send(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
            await until(lambda: app.paths == ["/gone"])
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)
        assert app.paths == ["/gone"]


async def test_trailers_are_no_part_of_the_head() -> None:
    """CVE-2026-22815: what comes behind a body decides nothing about it."""
    app = App()
    async with served(app) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await until(lambda: app.paths == ["/body"])
        client.send(b"0\r\nAuthorization: Bearer x\r\n\r\n" + GET)
        assert [await client.reply() for _ in range(2)] == [(200, b"a"), (200, b"now")]
        assert [name for name, _ in app.headers] == [b"host", b"transfer-encoding"]


async def test_an_offer_of_http_2_is_declined_and_the_body_read() -> None:
    """As Java's client makes it with every request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    async with served(App()) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Length: 4\r\n\r\nabcd" + GET)
        assert [await client.reply() for _ in range(2)] == [(200, b"abcd"), (200, b"now")]


MALFORMED = {
    "ours to refuse": b"GET / HTTP/1.1\nHost: x\n\n",
    "the parser's": b"NONSENSE / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the parser's with a body": b"NONSENSE / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "a chunk's size": b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
    "a chunk's end": b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
}


async def test_a_malformed_request_is_told_so_and_the_last() -> None:
    """The first of its connection or the second."""
    async with served(App()) as (_, connect):
        for name, data in MALFORMED.items():
            for before in (b"", GET):
                async with connect() as client:
                    client.send(before)
                    assert not before or await client.reply() == (200, b"now")
                    client.send(data + GET)
                    status, body = await client.reply()
                    assert (status, body[:27]) == (400, b'{"error":"malformed request'), name
                    assert await client.is_closed()


async def test_a_chunk_that_is_malformed_ends_the_request_that_waits_for_it() -> None:
    app = App()
    async with served(app) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await until(lambda: app.paths == ["/body"])
        client.send(b"-1\r\n")
        assert (await client.reply())[0] == 400
        assert await client.is_closed()
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)


# --- bodies that nobody reads ----------------------------------------------------------------------------------------


async def test_the_rest_of_a_small_body_is_read_and_forgotten() -> None:
    async with served(App()) as (_, connect), connect() as client:
        client.send(b"POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert await client.reply() == (200, b"now")
        client.send(b"x" * 100_000 + GET)
        assert await client.reply() == (200, b"now")


async def test_otherwise_the_connection_ends_with_the_answer() -> None:
    """Partly X-45: a body that is large, of unknown length, or not sent yet. Nobody can say where the next request
    begins before all that was read."""
    expecting = b"Expect: 100-continue\r\nContent-Length: 5"
    async with served(App()) as (_, connect):
        for fields in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", expecting):
            async with connect() as client:
                client.send(b"POST /now HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
                assert await client.reply() == (200, b"now")
                assert await client.is_closed(), fields


async def test_who_is_still_sending_reads_the_answer_before_the_connection_breaks() -> None:
    """Closed at once, the client's system would throw the answer away and say that the connection was reset."""
    async with served(App()) as (connections, connect), connect() as client:
        client.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 2**20)
        assert await client.reply() == (200, b"now")
        await until(lambda: len(connections) == 0)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_a_head_that_does_not_end() -> None:
    """Partly X-78: slowloris. Each byte in time is not enough."""
    async with served(App(), head_s=0.2) as (_, connect), connect() as client:
        client.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                client.send(b"X: a\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            assert (await client.reply())[0] == 408
        finally:
            dripping.cancel()
        assert await client.is_closed()


async def test_a_body_that_hardly_comes() -> None:
    """Partly X-78: a kibibyte per second, or the connection ends."""
    app = App()
    async with served(app, body_grace_s=0.2) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        assert (await client.reply())[0] == 408
        assert await client.is_closed()
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)


async def test_a_fast_beginning_does_not_buy_a_slow_end() -> None:
    async with served(App(), body_grace_s=0.2) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 60001\r\n\r\n" + b"x" * 60_000)
        assert (await client.reply())[0] == 408


async def test_a_slow_body_that_is_quick_enough() -> None:
    async with served(App(), body_bytes_per_s=1000, body_grace_s=0.5) as (_, connect), connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.1)
            client.send(b"x" * 100)
        assert await client.reply() == (200, b"x" * 600)


async def test_a_body_that_we_do_not_take_is_not_late() -> None:
    """The app has not asked for it: its client can do nothing about that."""
    app = App()
    async with served(app, body_grace_s=0.1) as (_, connect), connect() as client:
        client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000)
        await until(lambda: app.paths == ["/wait"])
        await asyncio.sleep(0.4)
        app.go.set()
        assert await client.reply() == (200, b"now")


async def test_a_client_that_waits_for_our_word_is_not_late() -> None:
    app = App()
    async with served(app, body_grace_s=0.1) as (_, connect), connect() as client:
        client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        await until(lambda: app.paths == ["/wait"])
        await asyncio.sleep(0.4)
        app.go.set()
        assert await client.reply() == (200, b"now")


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_an_idle_connection_ends_without_a_word(sent: bytes) -> None:
    async with served(App(), idle_s=0.2) as (connections, connect), connect() as client:
        client.send(sent)
        assert await client.is_closed()
        await until(lambda: len(connections) == 0)


async def test_an_answer_may_take_longer_than_everything_else() -> None:
    app = App()
    async with served(app, **TIGHT) as (_, connect), connect() as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: app.paths == ["/wait"])
        await asyncio.sleep(0.5)
        app.go.set()
        assert await client.reply() == (200, b"now")


async def test_a_client_that_reads_nothing_loses_its_answer() -> None:
    """Partly X-77: whoever made it learns that nobody is there."""
    app = App()
    async with served(app, stall_s=0.2) as (connections, connect), connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: app.paths == ["/flood"])
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)
        await until(lambda: len(connections) == 0)


async def test_a_slow_reader_keeps_its_answer() -> None:
    app = App()
    async with served(app, stall_s=0.3) as (_, connect), connect() as client:
        client.send(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0.1)
            assert len(await client.reader.readexactly(2**21)) == 2**21
        assert not app.ended.is_set()


# --- how many --------------------------------------------------------------------------------------------------------


async def test_more_connections_than_there_may_be_are_refused() -> None:
    async with served(App(), connections=2) as (connections, connect):
        async with connect() as first, connect() as second:
            await until(lambda: len(connections) == 2)
            async with connect() as third:
                assert (await third.reply())[0] == 503
                assert await third.is_closed()
            for client in (first, second):
                client.send(GET)
                assert await client.reply() == (200, b"now")
        await until(lambda: len(connections) == 0)
        async with connect() as again:
            again.send(GET)
            assert await again.reply() == (200, b"now")


async def test_more_connections_of_one_address_than_it_may_have_are_refused() -> None:
    async with served(App(), spared=False, per_address=1) as (connections, connect):
        for _ in range(3):
            async with connect() as first:
                await until(lambda: len(connections) == 1)
                async with connect() as second:
                    assert (await second.reply())[0] == 429
                first.send(GET)
                assert await first.reply() == (200, b"now")
            await until(lambda: len(connections) == 0)


class Faraway(asyncio.Transport):
    """The end of a connection from an address that no test can have; it keeps what it is sent."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 5)})
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
async def test_connections_of_one_ipv6_network_count_together(first: str, second: str, alike: bool) -> None:
    connections = Connections(Limits(per_address=1), lambda address: False)
    config = uvicorn.Config(App(), log_config=None)
    config.load()

    def connected(address: str) -> tuple[Connection, Faraway]:
        connection, transport = connections.connection(config, ServerState(), {}), Faraway(address)
        connection.connection_made(transport)
        return connection, transport

    before, kept = connected(first)
    after, other = connected(second)
    assert not kept.sent
    assert other.sent.startswith(b"HTTP/1.1 429 ") is alike
    for connection in (before, after):
        connection.connection_lost(None)
    assert len(connections) == 0
    assert not connected(second)[1].sent, "who has left does not count"


async def test_a_trusted_address_may_have_as_many_as_it_likes() -> None:
    async with served(App(), spared=True, per_address=1) as (_, connect), connect(), connect() as second:
        second.send(GET)
        assert await second.reply() == (200, b"now")


async def test_whoever_lingers_is_gone_in_time() -> None:
    async with served(App()) as (connections, connect), connect() as client:
        client.send(b"GET\0")
        assert (await client.reply())[0] == 400
        await until(lambda: len(connections) == 0)

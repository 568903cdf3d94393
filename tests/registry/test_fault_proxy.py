"""The proxy that lets requests fail: tests that rely on a fault must be able to rely on its happening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.registry.fault_proxy import Answer, Corrupt, Cut, Delay, DropRange, FaultProxy, Rule, Stall
from tests.registry.web import serving

CONTENT = bytes(range(256)) * 2048
"""Some blocks of the proxy."""


async def content(request: web.BaseRequest) -> web.StreamResponse:
    """Content for a GET, all of it or a range; for everything else whether it was the content."""
    if request.method == "GET":
        wanted = request.http_range
        return web.Response(body=CONTENT[wanted], status=206 if "Range" in request.headers else 200)
    return web.Response(text=str(await request.read() == CONTENT))


@asynccontextmanager
async def client(rules: Sequence[Rule]) -> AsyncIterator[tuple[aiohttp.ClientSession, FaultProxy]]:
    async with (
        serving(content) as site,
        FaultProxy(site.place, rules) as proxy,
        aiohttp.ClientSession(proxy.url) as session,
    ):
        yield session, proxy


async def body(session: aiohttp.ClientSession, method: str = "GET", **more: object) -> bytes:
    async with session.request(method, "/blob?x=1", **more) as response:  # type: ignore[arg-type]
        return await response.read()


async def test_without_rules_everything_passes() -> None:
    async with client([]) as (session, proxy):
        assert await body(session) == CONTENT
        assert await body(session, "PUT", data=CONTENT) == b"True"
        assert await body(session, headers={"Range": "bytes=5-9"}) == CONTENT[5:10]
        assert proxy.requests == ["GET /blob?x=1", "PUT /blob?x=1", "GET /blob?x=1"]


async def test_a_rule_waits_for_its_request_and_is_used_up() -> None:
    rules = [Rule(Answer(503, b"busy"), method="GET", path="/blob", skip=1, times=2)]
    async with client(rules) as (session, _):
        assert await body(session, "PUT", data=CONTENT) == b"True"
        answers = [await body(session) for _ in range(4)]
        assert [answer if answer == b"busy" else b"" for answer in answers] == [b"", b"busy", b"busy", b""]


async def test_an_answer_is_cut() -> None:
    async with client([Rule(Cut(100_000))]) as (session, _), session.get("/blob") as response:
        assert await response.content.readexactly(100_000) == CONTENT[:100_000]
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_a_request_is_cut() -> None:
    async with client([Rule(Cut(100_000, way="up"))]) as (session, _):
        # no PUT: the client would send that a second time by itself
        with pytest.raises(aiohttp.ClientError):
            await body(session, "POST", data=CONTENT)
        assert await body(session, "POST", data=CONTENT) == b"True"


async def test_an_answer_stalls() -> None:
    async with client([Rule(Stall(1000))]) as (session, _), session.get("/blob") as response:
        assert await response.content.readexactly(1000) == CONTENT[:1000]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.read(1), 0.05)


async def test_a_byte_is_changed() -> None:
    async with client([Rule(Corrupt(70_000)), Rule(Corrupt(0, way="up"), method="PUT")]) as (session, _):
        received = await body(session)
        assert [at for at in range(len(CONTENT)) if received[at] != CONTENT[at]] == [70_000]
        assert await body(session, "PUT", data=CONTENT) == b"False"


async def test_a_range_is_dropped() -> None:
    async with client([Rule(DropRange(), times=None)]) as (session, _):
        for _ in range(2):
            assert await body(session, headers={"Range": "bytes=5-9"}) == CONTENT


async def test_a_request_is_delayed() -> None:
    async with client([Rule(Delay(0.1))]) as (session, _):
        started = asyncio.get_running_loop().time()
        assert await body(session) == CONTENT
        assert asyncio.get_running_loop().time() - started >= 0.1

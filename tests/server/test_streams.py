"""A stream while nothing comes, without a server: what is sent into the silence, and that nothing of it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import Request

from llamero.dialects import sse
from llamero.errors import EngineDied, LlameroError
from llamero.server.streams import Stream

IDLE_S = 0.02


class Listener:
    """The other end of one ASGI request."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_over = False
        self.heard = asyncio.Event()
        self.gone = asyncio.Event()

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.body":
            self.pieces.append(message["body"])
            self.is_over = not message["more_body"]
            self.heard.set()

    async def receive(self) -> dict:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def listen(self, source: AsyncGenerator[bytes, None]) -> None:
        request = Request({"type": "http", "headers": []}, self.receive)
        stream = Stream(source, "text/event-stream", failed, [], request, lambda: sse.KEEP_ALIVE, idle_s=IDLE_S)
        await stream({"type": "http"}, self.receive, self.send)


def failed(error: LlameroError) -> bytes:
    return f"failed: {error}".encode()


async def test_silence_is_filled_with_comments() -> None:
    """§1.4: a model that thinks for a minute is not taken for a dead connection."""
    listener = Listener()

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"first"
        while listener.pieces.count(sse.KEEP_ALIVE) < 2:
            listener.heard.clear()
            await listener.heard.wait()
        yield b"second"
        yield b"third"

    await listener.listen(source())
    assert listener.pieces == [b"first", sse.KEEP_ALIVE, sse.KEEP_ALIVE, b"second", b"third", b""]
    assert listener.is_over


async def test_an_error_behind_a_silence_ends_the_stream() -> None:
    listener = Listener()

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await listener.heard.wait()
        while sse.KEEP_ALIVE not in listener.pieces:
            listener.heard.clear()
            await listener.heard.wait()
        raise EngineDied("no more")

    await listener.listen(source())
    assert listener.pieces == [b"first", sse.KEEP_ALIVE, b"failed: no more", b""]


async def test_whoever_leaves_in_a_silence_ends_the_work() -> None:
    listener = Listener()
    ended = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(listener.listen(source()))
    while sse.KEEP_ALIVE not in listener.pieces:
        listener.heard.clear()
        await listener.heard.wait()
    listener.gone.set()
    await asyncio.wait_for(task, 5)
    assert ended.is_set()

"""A reply in pieces, which can still fail and ends when its client leaves; and other work that ends with its client.

It knows no dialect. Source: native-api §1.8, §1.9; compat-api §1.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import Busy, Cancelled, LlameroError
from .disclosure import discreet

log = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"

HEADERS = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""So that no proxy between holds pieces back."""

IDLE_S = 15.0
"""Of silence, after which a stream that can says that it is alive: proxies cut connections off after 30 or 60."""

STOPPING = Busy("the server is stopping")

WriteError = Callable[[LlameroError], bytes]

_T = TypeVar("_T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Do some work for a client; when the client leaves, cancel it, wait until it has let go, and raise Cancelled.

    The request's body must have been read: the next message can then only be the disconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Cancelled
    finally:
        for each in (gone, task):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def lines(
    source: AsyncGenerator[bytes, None],
    write_error: WriteError,
    headers: Sequence[tuple[str, str]],
    request: Request,
) -> Stream:
    """A stream of lines; an error is the last one."""

    async def ended() -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(source):
            async for line in source:
                yield line + b"\n"

    return Stream(ended(), NDJSON, lambda error: write_error(error) + b"\n", headers, request)


class Stream(Response):
    """Each piece is sent as soon as it exists. Closes its source when that ends, fails, or nobody listens.

    `failed` writes the end of a stream that broke off, `idle` what is sent into a silence of `idle_s` seconds.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        content_type: str,
        failed: WriteError,
        headers: Sequence[tuple[str, str]],
        request: Request,
        idle: Callable[[], bytes] | None = None,
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        super().__init__(status_code=200)
        self.headers["content-type"] = content_type  # starlette would add a charset to events, which have none
        del self.headers["content-length"]
        for name, value in (*HEADERS, *headers):
            self.headers.append(name, value)
        self._source = source
        self._failed = failed
        self._request = request
        self._idle = idle
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await unless_gone(self._request, self._pump(send))
        except Cancelled:
            pass  # nobody is there to read an end
        except asyncio.CancelledError:
            # the server stops, and this answer has had its time: say so, and let the task end
            await send({"type": "http.response.body", "body": self._failed(STOPPING), "more_body": False})

    async def _pump(self, send: Send) -> None:
        async def tell(piece: bytes) -> None:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        async with contextlib.aclosing(self._source):
            try:
                if self._idle is None:
                    async for piece in self._source:
                        await tell(piece)
                else:
                    await self._pump_or_idle(tell, self._idle)
            except LlameroError as error:
                await tell(self._failed(discreet(error)))
            except Exception:
                log.exception("a stream failed unexpectedly")
                await tell(self._failed(LlameroError("internal server error")))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump_or_idle(
        self, tell: Callable[[bytes], Coroutine[Any, Any, None]], idle: Callable[[], bytes]
    ) -> None:
        while True:
            piece = asyncio.ensure_future(anext(self._source, b"\0"))
            try:
                while not (await asyncio.wait((piece,), timeout=self._idle_s))[0]:
                    await tell(idle())
            finally:
                if not piece.done():
                    piece.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await piece
            if piece.result() == b"\0":
                return
            await tell(piece.result())

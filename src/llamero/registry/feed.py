"""One source of one blob: where its bytes are, and requests for ranges of them whose answers are not taken on trust.

It writes nothing and counts no tries. Source: store-registry §3.3 no. 6 and 7, §3.6; security §10.1.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Protocol

import aiohttp

from ..errors import RegistryAnswered, RegistryError
from ..names import Digest
from .network import translated
from .session import Located, Origin

PLAIN_BYTES = 1_000_000
"""A smaller blob is asked for without a range: one request that every server understands."""

_MOVED = frozenset({401, 403, 404, 410})
"""How a storage says that a signed link is used up: the registry is asked for another one."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Source(Protocol):
    """Who may have a blob: `session.Session`."""

    @property
    def origin(self) -> Origin: ...

    async def locate(self, digest: Digest) -> Located: ...

    def open(
        self, located: Located, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]: ...


class Stalled(Exception):
    """Not a byte came for too long. It says nothing about the blob and is no fault of the registry's."""


class Body:
    """The bytes of an answer, from the one that was asked for on."""

    def __init__(self, response: aiohttp.ClientResponse, skip_bytes: int, stall_s: float) -> None:
        self._response = response
        self._skip_bytes = skip_bytes
        self._stall_s = stall_s

    async def read(self) -> bytes:
        """What has arrived, at least one byte. Stalled, or RegistryError when there is no more."""
        while True:
            with translated("GET", self._response.url), _patience():
                async with asyncio.timeout(self._stall_s):
                    # as it came from the socket; `readany` would copy several blocks into one
                    data, is_chunks_end = await self._response.content.readchunk()
            if is_chunks_end and not data:
                continue
            if not data:
                raise RegistryError("unexpected EOF", retryable=True)
            if self._skip_bytes < len(data):
                break
            self._skip_bytes -= len(data)
        rest, self._skip_bytes = data[self._skip_bytes :], 0
        return rest


class Feed:
    def __init__(self, source: Source, digest: Digest, size_bytes: int, stall_s: float) -> None:
        self.source = source
        self._digest = digest
        self._size_bytes = size_bytes
        self._stall_s = stall_s
        self._located: Located | None = None
        self._locating = asyncio.Lock()
        self.has_answered = False
        """Whether it has ever said where the blob is. What fails before that is likely to fail for good."""

    async def locate(self) -> Located:
        """Where the bytes are, asked once however many want to know. RegistryError, Forbidden."""
        async with self._locating:
            if self._located is None:
                self._located = await self.source.locate(self._digest)
                self.has_answered = True
            return self._located

    @asynccontextmanager
    async def open(self, start: int, stop: int, *, whole: bool) -> AsyncIterator[Body]:
        """Ask for the bytes from `start` up to before `stop`. Stalled, RegistryError.

        `whole` says that an answer with the whole blob will do: its bytes before `start` are skipped. More bytes than
        were asked for may come.
        """
        located = await self.locate()
        async with AsyncExitStack() as stack:
            with _patience():
                async with asyncio.timeout(self._stall_s):
                    response = await stack.enter_async_context(self.source.open(located, self._headers(start, stop)))
            if response.status in _MOVED and self._located is located:
                self._located = None
            yield Body(response, self._check(response, start, stop, whole), self._stall_s)

    def _headers(self, start: int, stop: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if not (start == 0 and stop == self._size_bytes < PLAIN_BYTES):
            headers["Range"] = f"bytes={start}-{stop - 1}"
        return headers

    def _check(self, response: aiohttp.ClientResponse, start: int, stop: int, whole: bool) -> int:
        """Which bytes these are: how many of them come before `start`. Error pages and other ranges are refused."""
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            given = response.headers.get("Content-Range", "")
            match = _CONTENT_RANGE.fullmatch(given.strip())
            wanted = (str(start), str(stop - 1))
            if match is None or match.groups()[:2] != wanted or match[3] not in ("*", str(self._size_bytes)):
                raise RegistryError("the registry sent another range than was asked for", retryable=True)
            return 0
        if response.status != HTTPStatus.OK:
            raise RegistryAnswered(f"unexpected status code {response.status}", response.status)
        if not whole:
            raise RegistryError("the registry sent the whole blob for a range of it", retryable=True)
        if response.content_length not in (None, self._size_bytes):
            raise RegistryError(
                f"size mismatch: want {self._size_bytes} bytes, got {response.content_length}", retryable=True
            )
        return start


def is_final(error: RegistryError) -> bool:
    """Whether asking again is in vain: a registry that was reached and refused, other than for a time."""
    if isinstance(error, RegistryAnswered):
        return error.answer_status < 500 and error.answer_status not in (408, 425, 429)
    return not error.retryable


@contextmanager
def _patience() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Stalled from error

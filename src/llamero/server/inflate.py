"""Compressed bodies of requests, unpacked within a limit. Source: compat-api §1.2; security §5."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import Callable, Iterator

import zstandard

from ..errors import BadRequest, LlameroError, TooLarge

ZSTD_WINDOW_BYTES = 8 * 2**20
"""Of memory that a frame may make the decoder hold."""

_ZSTD_PIECE_BYTES = 256
"""Fed at a time. The smallest block has four bytes and may become 128 KiB: so much is 8 MiB at the most."""

_ZLIB_FED_BYTES = 64 * 2**10
_PIECE_BYTES = 2**20

MAX_AT_ONCE = 2
"""Bodies that are unpacked at the same time: a few kilobytes become the largest that may be, and a hundred clients who
send such would have no memory left between them."""

_turns = asyncio.Semaphore(MAX_AT_ONCE)

PLAIN = ("", "identity")

FAILED = "failed to decompress request body"
UNSUPPORTED = "unsupported content encoding"

Unpack = Callable[[bytes], Iterator[bytes]]
"""From a compressed body to its pieces. Raises BadRequest for a damaged one."""


async def inflated(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was before its `Content-Encoding`. Raises BadRequest for a damaged one, TooLarge, or 415."""
    match encoding.strip().lower():
        case coding if coding in PLAIN:
            return body
        case "gzip" | "x-gzip":
            unpack = _gunzip
        case "deflate":
            unpack = _inflate
        case "zstd":
            unpack = _unzstd
        case _:
            raise LlameroError(UNSUPPORTED, status=415)
    async with _turns:
        return await asyncio.to_thread(_within, limit_bytes, unpack, body)


def insist_plain(encoding: str) -> None:
    """For routes that unpack nothing, as the reference's own. Raises LlameroError with 415."""
    if encoding.strip().lower() not in PLAIN:
        raise LlameroError(UNSUPPORTED, status=415)


def _within(limit_bytes: int, unpack: Unpack, body: bytes) -> bytes:
    """Unpacked twice, first without keeping it: what turns out too large has never been held."""
    size = 0
    for piece in unpack(body):
        size += len(piece)
        if size > limit_bytes:
            raise TooLarge(limit_bytes)
    held = io.BytesIO()  # which needs no second copy for the whole
    for piece in unpack(body):
        held.write(piece)
    return held.getvalue()


def _gunzip(body: bytes) -> Iterator[bytes]:
    return _zlib_pieces(body, wbits=31)


def _inflate(body: bytes) -> Iterator[bytes]:
    return _zlib_pieces(body, wbits=zlib.MAX_WBITS)


def _zlib_pieces(body: bytes, wbits: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits)
    try:
        for at in range(0, len(body), _ZLIB_FED_BYTES):
            data = body[at : at + _ZLIB_FED_BYTES]
            while data and not decoder.eof:
                yield decoder.decompress(data, _PIECE_BYTES)
                data = decoder.unconsumed_tail
        while not decoder.eof:
            if not (piece := decoder.decompress(b"", _PIECE_BYTES)):
                raise BadRequest(FAILED)
            yield piece
    except zlib.error as error:
        raise BadRequest(FAILED) from error


def _unzstd(body: bytes) -> Iterator[bytes]:
    frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
    try:
        for at in range(0, len(body), _ZSTD_PIECE_BYTES):
            yield frame.decompress(body[at : at + _ZSTD_PIECE_BYTES])
    except zstandard.ZstdError as error:
        raise BadRequest(FAILED) from error
    if not frame.eof:
        raise BadRequest(FAILED)

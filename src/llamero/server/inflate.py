"""Compressed bodies of requests, unpacked within a limit. Source: compat-api §1.2; security §5."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import zstandard

from ..errors import BadRequest, LlameroError, TooLarge

ZSTD_WINDOW_BYTES = 8 * 2**20
"""Of memory that a frame may make the decoder hold."""

_ZSTD_PIECE_BYTES = 1024
"""Fed at a time. The smallest block has four bytes and may become 128 KiB: so much is 32 MiB at the most."""

FAILED = "failed to decompress request body"


async def inflated(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was before its `Content-Encoding`. Raises BadRequest for a damaged one, TooLarge, or 415."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            decoder: Any = zlib.decompressobj(wbits=31)
        case "deflate":
            decoder = zlib.decompressobj()
        case "zstd":
            decoder = None
        case _:
            raise LlameroError("unsupported content encoding", status=415)
    return await asyncio.to_thread(_unzstd if decoder is None else _inflate, body, limit_bytes, decoder)


def _inflate(body: bytes, limit_bytes: int, decoder: Any) -> bytes:
    try:
        data: bytes = decoder.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BadRequest(FAILED) from error
    if len(data) > limit_bytes:
        raise TooLarge(limit_bytes)
    if not decoder.eof:
        raise BadRequest(FAILED)
    return data


def _unzstd(body: bytes, limit_bytes: int, decoder: None) -> bytes:
    frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
    parts: list[bytes] = []
    left = limit_bytes
    try:
        for at in range(0, len(body), _ZSTD_PIECE_BYTES):
            parts.append(frame.decompress(body[at : at + _ZSTD_PIECE_BYTES]))
            left -= len(parts[-1])
            if left < 0:
                raise TooLarge(limit_bytes)
    except zstandard.ZstdError as error:
        raise BadRequest(FAILED) from error
    if not frame.eof:
        raise BadRequest(FAILED)
    return b"".join(parts)

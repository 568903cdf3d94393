"""Compressed bodies of requests, unpacked within a limit. Source: compat-api §1.2; security §5."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import zstandard

from ..errors import BadRequest, LlameroError, TooLarge

ZSTD_WINDOW_BYTES = 8 * 2**20
"""Of memory that a frame may make the decoder hold."""

_CHUNK_BYTES = 2**20

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
    parts: list[bytes] = []
    left = limit_bytes
    try:
        with zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).stream_reader(body) as reader:
            while chunk := reader.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise TooLarge(limit_bytes)
                parts.append(chunk)
    except zstandard.ZstdError as error:
        raise BadRequest(FAILED) from error
    return b"".join(parts)

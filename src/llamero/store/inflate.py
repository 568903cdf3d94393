"""A gzip stream read as what is in it, and refused when it swells beyond reason. Source: security §2 (archives)."""

from __future__ import annotations

import zlib

from .tar import Readable, bad

MAGIC = b"\x1f\x8b"
READ_BYTES = 64 << 10
_GZIP_WINDOW = 31

MAX_RATIO = 50
"""Bytes out for one byte in: weights shrink to two thirds at best, a bomb of zeros to a thousandth."""
FREE_BYTES = 64 << 20
"""What may come out before anybody counts: a small model of zeros is no bomb."""


class Inflated:
    """Reads like the stream inside. Raises BadRequest for a damaged or cut stream, and for a bomb."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
        self._packed = b""
        """Taken from the stream and not yet unpacked."""
        self._taken_bytes = 0
        self._given_bytes = 0

    def read(self, size: int = READ_BYTES, /) -> bytes:
        try:
            data = self._some(size)
        except zlib.error:
            raise bad("the compressed stream is damaged") from None
        self._given_bytes += len(data)
        if self._given_bytes > FREE_BYTES + MAX_RATIO * self._taken_bytes:
            raise bad(f"it grows to more than {MAX_RATIO} times its size")
        return data

    def _some(self, size: int) -> bytes:
        while True:
            if self._unpacker.eof:
                # another packed stream may follow; anything else there is padding
                self._packed = self._unpacker.unused_data or self._take()
                if not self._packed.startswith(MAGIC[:1]):
                    return b""
                self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
            data = self._unpacker.decompress(self._packed, size)
            self._packed = self._unpacker.unconsumed_tail
            if data:
                return data
            if not self._packed and not self._unpacker.eof:
                self._packed = self._take()
                if not self._packed:
                    raise bad("the compressed stream is cut off")

    def _take(self) -> bytes:
        packed = self._stream.read(READ_BYTES)
        self._taken_bytes += len(packed)
        return packed

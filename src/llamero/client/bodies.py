"""Bodies too long to be held in memory: files that go out, and downloads."""

from __future__ import annotations

import http.client
from typing import Protocol

from ..errors import ClientError

UPLOAD_BLOCK_BYTES = 2**20


class Readable(Protocol):
    """What an upload needs of a file."""

    def read(self, size: int = ..., /) -> bytes: ...


class Download:
    """A long reply that is read as it comes."""

    def __init__(self, response: http.client.HTTPResponse, size_bytes: int, start_bytes: int) -> None:
        self.size_bytes = size_bytes
        """How much there is to read here."""
        self.start_bytes = start_bytes
        """How much of the whole lies before it."""
        self._response = response
        self._left_bytes = size_bytes

    def read(self, size: int = UPLOAD_BLOCK_BYTES, /) -> bytes:
        """At most `size` bytes, and none only at the end. ClientError when the connection ends before that."""
        try:
            data = self._response.read(min(size, self._left_bytes)) if self._left_bytes else b""
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"the connection to the server broke: {error}") from error
        if not data and self._left_bytes:
            raise ClientError(f"the server hung up with {self._left_bytes} bytes still to come; its log says why")
        self._left_bytes -= len(data)
        return data

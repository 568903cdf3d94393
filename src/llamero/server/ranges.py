"""Which part of a representation a GET asks for: `Range` and `If-Range`, for one range of bytes. It reads nothing.

Source: RFC 9110 §13.1.5, §14. Several ranges at once, other units and nonsense are answered with the whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import LlameroError

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class OutOfRange(LlameroError):
    """Nothing is where the range begins."""

    status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"range not satisfiable: there are {size_bytes} bytes")
        self._size_bytes = size_bytes

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Range": f"bytes */{self._size_bytes}"}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to `stop` of `size_bytes`."""

    start: int
    stop: int
    size_bytes: int
    is_part: bool

    @property
    def status(self) -> int:
        return 206 if self.is_part else 200

    def headers(self, etag: str) -> dict[str, str]:
        headers = {"Accept-Ranges": "bytes", "ETag": etag, "Content-Length": str(self.stop - self.start)}
        if self.is_part:
            headers["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{self.size_bytes}"
        return headers


def asked_span(headers: Mapping[str, str], size_bytes: int, etag: str) -> Span:
    """What to send of a representation with this strong etag. Raises OutOfRange."""
    whole = Span(0, size_bytes, size_bytes, is_part=False)
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag) != etag:
        return whole
    first, last = match[1], match[2]
    if not first and not last:
        return whole
    if not first:  # the last so many bytes
        start, stop = max(size_bytes - int(last), 0), size_bytes
    else:
        start, stop = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return whole
    if start >= stop:
        raise OutOfRange(size_bytes)
    return Span(start, stop, size_bytes, is_part=True)

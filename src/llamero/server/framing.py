"""How the bytes of a connection divide into requests, and which of them no parser may see. Pure.

It stands before httptools, which reads more than RFC 9112 allows: chunk sizes behind any number of zeros, other codings
before `chunked`, `Transfer-Encoding` in HTTP/1.0, versions that are none. Where two programs in a row divide the same
bytes differently, somebody's request ends up inside another one. Source: security §5, §9.4.
"""

from __future__ import annotations

import re
from typing import Literal

from ..errors import BadRequest, LlameroError

CONNECTION = "llamero.connection"
"""The extension of an ASGI scope whose `keeps_open` says whether the connection stays behind an answer that begins now.
A client that is not told would send its next request into a connection that ends."""

MAX_HEAD_BYTES = 64 * 2**10
"""Of a request line and its fields; of trailers, too."""

MAX_FIELDS = 128

MAX_SIZE_LINE_BYTES = 1024
"""The size of a chunk in at most 16 digits, and extensions, which nobody sends."""

MAX_CHUNKS_PER_MIB = 16_384
"""Smaller ones cost more to take apart than they bring (CVE-2025-69229)."""

MAX_LENGTH_DIGITS = 18
"""Of a Content-Length: an exabyte, and far from what a machine's integer holds."""

Part = Literal["head", "body", "size", "chunk", "trailers"]
"""What comes next: `body` is one of known length, `size` the line before a chunk."""

# Possessive: no field is looked at twice, however it ends.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_FIELDS = rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"
_TARGET = rb"(?:\*|/[\x21-\x7e]*+|[Hh][Tt][Tt][Pp][Ss]?://(?P<authority>[^\s/?#]*+)[\x21-\x7e]*+)"
_HEAD = re.compile(rb"(?:\r\n)?(?!CONNECT )" + _TOKEN + rb" " + _TARGET + rb" HTTP/1\.(?P<minor>[01])\r\n" + _FIELDS)
"""One empty line before it is what old clients send behind a body (RFC 9112 §2.2)."""
_TRAILERS = re.compile(_FIELDS)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*+)?")
_STRAY = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\0")
"""Half a line end, or a NUL: nothing that comes later makes these bytes a head."""
_DECIDES = re.compile(rb"\r\n(content-length|transfer-encoding|host|upgrade):[\t ]*([^\r]*)", re.IGNORECASE)
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)

_MALFORMED = "malformed request"


class Framing:
    """One connection's. `take` is given its bytes in order."""

    def __init__(self) -> None:
        self.part: Part = "head"
        self.heads = 0
        """Heads so far that were sound."""
        self.left_bytes = 0
        """Of a body of known length, or of a chunk and its line end."""
        self._held = b""
        """What is not whole yet: of a head, of trailers, of the line before a chunk."""
        self._searched_bytes = 0
        """Of that, in which there is no end."""
        self._chunks = 0
        self._chunk_bytes = 0

    @property
    def has_begun(self) -> bool:
        """Whether a head is there in part."""
        return self.part == "head" and len(self._held.lstrip(b"\r\n")) > 0

    @property
    def in_body(self) -> bool:
        return self.part != "head"

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What a parser may see now, never beyond the end of one request, and what lies behind that end.

        Raises BadRequest for what is no HTTP/1.1 or not beyond doubt, and LlameroError with 431 for too much of it.
        The connection is worth nothing then: nobody knows where the next request begins.
        """
        data, self._held = self._held + data, b""
        at = 0
        if self.part == "head":
            at = self._end_of_fields(data, 0)
            if not at:
                self._held = data
                return b"", b""
            head = self._begin(data[:at])
            data = head + data[at:]
        while self.part != "head" and (end := self._pass(data, at)) > at:
            at = end
        if self.part == "head":
            return data[:at], data[at:]
        self._held = data[at:]
        return data[:at], b""

    def _begin(self, head: bytes) -> bytes:
        """The head of a request as the parser may see it; what follows is known from here on."""
        match = _HEAD.fullmatch(head)
        if match is None:
            raise BadRequest(_MALFORMED)
        fields = _read_fields(head)
        lengths, codings = fields[b"content-length"], fields[b"transfer-encoding"]
        authority = match["authority"]
        if authority is not None and [authority.lower()] != [host.lower() for host in fields[b"host"]]:
            raise BadRequest(f"{_MALFORMED}: its target is not of the host in its Host header")
        if codings:
            if lengths or match["minor"] == b"0" or [coding.lower() for coding in codings] != [b"chunked"]:
                raise BadRequest(f"{_MALFORMED}: Transfer-Encoding is chunked or nothing, and no length beside it")
            self.part = "size"
            self._chunks = self._chunk_bytes = 0
        elif lengths:
            if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS:
                raise BadRequest(f"{_MALFORMED}: Content-Length is one number")
            self.left_bytes = int(lengths[0])
            self.part = "body" if self.left_bytes else "head"
        self.heads += 1
        # We speak nothing else, but httptools would take what follows for another protocol and forget the body, which
        # Java's client sends along with its offer of HTTP/2. A field of another name, as long as this one, is harmless.
        return _UPGRADE.sub(b"ignored", head) if fields[b"upgrade"] else head

    def _pass(self, data: bytes, at: int) -> int:
        """The end of what is whole and sound behind `at`; `at` itself when there is not enough of it."""
        if self.part == "size":
            return self._read_size(data, at)
        if self.part == "trailers":
            end = at + 2 if data.startswith(b"\r\n", at) else self._end_of_fields(data, at)
            if not end:
                return at
            if not _TRAILERS.fullmatch(data, at, end):
                raise BadRequest(_MALFORMED)
            self.part = "head"
            return end
        taken = min(self.left_bytes, len(data) - at)
        self.left_bytes -= taken
        if not self.left_bytes:
            self.part = "head" if self.part == "body" else "size"
        return at + taken

    def _read_size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + MAX_SIZE_LINE_BYTES)
        if end < 0 and len(data) - at < MAX_SIZE_LINE_BYTES and not _STRAY.search(data, at):
            return at
        line = _SIZE.fullmatch(data, at, end) if end > 0 else None
        if line is None:
            raise BadRequest(f"{_MALFORMED}: a chunk begins with its size")
        size = int(line[1], 16)
        self._chunks += 1
        self._chunk_bytes += size
        if self._chunks > MAX_CHUNKS_PER_MIB * (1 + self._chunk_bytes // 2**20):
            raise BadRequest("the body is sent in too many pieces")
        self.left_bytes = size + 2
        self.part = "chunk" if size else "trailers"
        return end + 2

    def _end_of_fields(self, data: bytes, at: int) -> int:
        """The end of the empty line behind fields; 0 while it is not there."""
        start = 2 if data.startswith(b"\r\n", at) and self.part == "head" else 0
        end = data.find(b"\r\n\r\n", at + max(start, self._searched_bytes - 3))
        if end < 0:
            if _STRAY.search(data, at + max(0, self._searched_bytes - 1)):
                raise BadRequest(_MALFORMED)
            self._searched_bytes = len(data) - at
        else:
            self._searched_bytes = 0
        size = (end + 4 if end >= 0 else len(data)) - at
        if size > MAX_HEAD_BYTES:
            raise LlameroError("the head of the request is too large", status=431)
        if end >= 0 and data.count(b"\r\n", at, end + 4) > MAX_FIELDS + 2:
            raise LlameroError(f"the request has more than {MAX_FIELDS} header fields", status=431)
        return end + 4 if end >= 0 else 0


def _read_fields(head: bytes) -> dict[bytes, list[bytes]]:
    """The values of each field that decides where a request ends, or for whom it is."""
    found: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": [], b"host": [], b"upgrade": []}
    for name, value in _DECIDES.findall(head):
        found[name.lower()].append(value.rstrip(b"\t "))
    return found

"""Forms with files: the parts of a `multipart/form-data` body. Pure.

Source: RFC 7578, RFC 2046 §5.1. The body is held as a whole, so its reader bounds it; here the number of parts and
the size of their headers are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadRequest

MAX_PARTS = 128
MAX_HEADER_BYTES = 8 * 2**10
"""Of one part."""
MAX_BOUNDARY_CHARS = 70
"""RFC 2046 §5.1.1."""

FAILED = "failed to parse multipart form"

_PARAMETER = re.compile(r';\s*([\w.-]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    data: bytes
    is_file: bool = False

    @property
    def text(self) -> str:
        """Raises BadRequest for what is no UTF-8."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{FAILED}: field {self.name[:40]!r} is not UTF-8") from None


def read_form(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order. Raises BadRequest `failed to parse multipart form: <why>`."""
    parts: list[Part] = []
    for head, data in _split(body, _boundary(content_type)):
        if len(parts) == MAX_PARTS:
            raise _failed(f"more than {MAX_PARTS} parts")
        parts.append(_part(head, data))
    return parts


def _failed(why: str) -> BadRequest:
    return BadRequest(f"{FAILED}: {why}")


def _boundary(content_type: str) -> bytes:
    kind, parameters = _header_value(content_type)
    if kind != "multipart/form-data":
        raise _failed("the content type is not multipart/form-data")
    boundary = parameters.get("boundary", "")
    if not (boundary.isascii() and 0 < len(boundary) <= MAX_BOUNDARY_CHARS):
        raise _failed("the content type has no boundary")
    return boundary.encode()


def _split(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Headers and content of each part: what lies between two lines of the boundary."""
    body = b"\r\n" + body  # the first boundary may begin the body
    delimiter = b"\r\n--" + boundary
    at = body.find(delimiter)
    if at < 0:
        raise _failed("no part")
    while True:
        at += len(delimiter)
        if body.startswith(b"--", at):
            return
        line_end = body.find(b"\r\n", at)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise _failed("a boundary does not end its line")
        end = body.find(delimiter, line_end)
        if end < 0:
            raise _failed("it ends in the middle of a part")
        # an empty header block: the line end of the boundary is the first half of the blank line
        head_end = body.find(b"\r\n\r\n", line_end, min(end, line_end + MAX_HEADER_BYTES))
        if head_end < 0:
            raise _failed("a part has no end of headers")
        yield body[line_end:head_end], body[head_end + 4 : end]
        at = end


def _part(head: bytes, data: bytes) -> Part:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() != b"content-disposition":
            continue
        kind, parameters = _header_value(value.decode("utf-8", "replace"))
        if kind == "form-data" and "name" in parameters:
            return Part(parameters["name"], data, is_file=bool(parameters.keys() & {"filename", "filename*"}))
    raise _failed("a part has no name")


def _header_value(text: str) -> tuple[str, dict[str, str]]:
    """`form-data; name="file"` as its word in small letters and its parameters."""
    word = text.partition(";")[0].strip().lower()
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(text):
        parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) or bare)
    return word, parameters

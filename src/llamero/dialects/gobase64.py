"""Base64 as Go reads a list of bytes: standard alphabet, padding required, CR and LF skipped.

Source: native-api §2.6. The offsets in the errors are Go's own.
"""

from __future__ import annotations

import binascii
import re

from ..errors import BadRequest

_NOT_ALPHABET = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_NOT_NEWLINE = re.compile(rb"[^\r\n]")


def decode_base64(text: str) -> bytes:
    """The bytes; raises BadRequest `illegal base64 data at input byte <n>`, n counting UTF-8 bytes."""
    data = text.encode()
    # Python's strict mode knows no newlines, and lets `=` pass after whole groups.
    if len(data) % 4 == 0 and not data.endswith(b"==="):
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error:
            pass
    offset = _first_error(data)
    if offset is not None:
        raise BadRequest(f"illegal base64 data at input byte {offset}")
    return binascii.a2b_base64(data.translate(None, b"\r\n"), strict_mode=True)


def _first_error(data: bytes) -> int | None:
    odd = _NOT_ALPHABET.search(data)
    at = odd.start() if odd else len(data)
    digits = at - data.count(b"\r", 0, at) - data.count(b"\n", 0, at)
    in_group = digits % 4
    if odd is None:
        return len(data) - in_group if in_group else None
    if odd[0] != b"=" or in_group < 2:
        return at
    at = _skip_newlines(data, at + 1)
    if in_group == 2:  # a second `=` is due
        if at == len(data):
            return at
        if data[at] != ord("="):
            return at - 1
        at = _skip_newlines(data, at + 1)
    return at if at < len(data) else None


def _skip_newlines(data: bytes, at: int) -> int:
    found = _NOT_NEWLINE.search(data, at)
    return found.start() if found else len(data)

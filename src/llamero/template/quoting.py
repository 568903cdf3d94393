"""Go's quoted literals, in both directions: "…", `…` and 'c' to values, values to "…" and 'c'.

Texts are Python strings; a byte that is not part of UTF-8 is a lone surrogate, as `surrogateescape` makes it, because
Go's strings may hold such bytes: `"\\xff"`, or half of a character after `slice`.
"""

from __future__ import annotations

import re

_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_SHORT_BACK = {character: "\\" + letter for letter, character in _SHORT.items()}
_ESCAPE = re.compile(
    r"\\(?:(?P<short>[abfnrtv\\\"'])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<four>[0-9a-fA-F]{4})|U(?P<eight>[0-9a-fA-F]{8})|(?P<bad>))"
)

FIRST_LONE_BYTE, LAST_LONE_BYTE = "\udc80", "\udcff"


def unquote(literal: str) -> str:
    """The text of a quoted literal whose quotes are in place. Raises ValueError for an escape that Go does not know."""
    quote_, body = literal[0], literal[1:-1]
    if quote_ == "`":
        return body.replace("\r", "")
    if "\\" not in body:
        return body
    return whole(_ESCAPE.sub(lambda found: _unescaped(found, quote_), body))


def _unescaped(found: re.Match[str], quote_: str) -> str:
    if short := found["short"]:
        if short in "\"'" and short != quote_:
            raise ValueError("invalid syntax")
        return _SHORT.get(short, short)
    digits, base = (found["octal"], 8) if found["octal"] else (found["byte"] or found["four"] or found["eight"], 16)
    code = int(digits, base) if digits else -1
    if found["octal"] or found["byte"]:
        if code > 0xFF:
            raise ValueError("invalid syntax")
        return chr(code) if code < 0x80 else chr(0xDC00 + code)
    if code < 0 or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError("invalid syntax")
    return chr(code)


def to_bytes(text: str) -> bytes:
    """The bytes that a text has in Go."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def whole(text: str) -> str:
    """`text` with lone bytes that together are a character put together."""
    return text if text.isascii() else from_bytes(to_bytes(text))


def quote(text: str, *, ascii_only: bool = False) -> str:
    """A text as Go's `%q` writes it (with `ascii_only`: `%+q`)."""
    return f'"{"".join(_shown(character, chr(34), ascii_only) for character in text)}"'


def quote_character(code: int, *, ascii_only: bool = False) -> str:
    """A code point as Go's `%q` writes it; an impossible one is the replacement character."""
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return f"'{_shown(chr(code) if valid else chr(0xFFFD), chr(39), ascii_only)}'"


def _shown(character: str, quote_: str, ascii_only: bool) -> str:
    code = ord(character)
    if character in _SHORT_BACK:
        return _SHORT_BACK[character]
    if character == quote_:
        return "\\" + character
    if FIRST_LONE_BYTE <= character <= LAST_LONE_BYTE:
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable() and (code < 0x80 or not ascii_only):
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

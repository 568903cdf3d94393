"""Go's JSON grammar: where the first value of a body ends, or in Go's words why there is none. It builds no values.

Source: native-api §1.5; every text was compared with Go's own decoder. This is the slow, exact half of `gojson`: it
runs only on bodies that the fast decoder refuses, and never recurses. Its time is bounded all the same: runs of plain
values are crossed by one regular expression, so that Python code runs only once or twice for each bracket.
"""

from __future__ import annotations

import re

from ..errors import BadRequest

MAX_DEPTH = 64
"""Nested objects and arrays in a request (security §3)."""

MAX_MENDED = 1 << 20
"""Places in a body whose bytes are no text; mending as many takes half a second."""

_SPACE = rb"[ \t\r\n]*+"
# Python before 3.11.5 ends a possessive group in the middle of what did not fit: so an escape is looked at as a whole
_CHARACTERS = rb'(?:[^"\\\x00-\x1f]++|(?=\\u[0-9a-fA-F]{4})\\u....|(?=\\["\\/bfnrt])\\.)*+'
_STRING = rb'"' + _CHARACTERS + rb'"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SCALAR = rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"

_SPACES = re.compile(_SPACE)
_INSIDE_STRING = re.compile(_CHARACTERS)
_INTEGER = re.compile(rb"0|[1-9][0-9]*+")
_DIGITS = re.compile(rb"[0-9]++")
# Plain values that are followed by a comma; what comes after the last of them is looked at by hand.
# Bounded instead of possessive, for the same reason.
_ITEMS = re.compile(rb"(?:" + _SPACE + _SCALAR + _SPACE + rb",){0,1000}")
_MEMBERS = re.compile(rb"(?:" + _SPACE + _STRING + _SPACE + rb":" + _SPACE + _SCALAR + _SPACE + rb",){0,1000}")

_QUOTE, _BACKSLASH, _COMMA, _COLON, _MINUS, _END_OBJECT = b'"\\,:-}'
_CLOSERS = {ord("{"): ord("}"), ord("["): ord("]")}
_WORDS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_DIGIT = frozenset(b"0123456789")
_HEX_DIGIT = frozenset(b"0123456789abcdefABCDEF")


def end_of_value(body: bytes) -> int:
    """The offset just after the first JSON value; what follows it is not looked at.

    Raises BadRequest with Go's text: a syntax error, `unexpected EOF` or `missing request body`.
    """
    at = _after(_SPACES, body, 0)
    if at == len(body):
        raise BadRequest("missing request body")
    closers = bytearray()  # of the objects and arrays that we are in, innermost last
    while True:
        # 1. A value begins here.
        byte = _byte(body, at)
        closer = _CLOSERS.get(byte)
        if closer is None:
            at = _scalar(body, at)
        else:
            closers.append(closer)
            if len(closers) > MAX_DEPTH:
                raise invalid(byte, "exceeded max depth")
            at = _after(_SPACES, body, at + 1)
            if _byte(body, at) != closer:
                at = _next_value(body, at, closer)
                continue
        # 2. A value has ended, or an empty object or array is about to.
        while closers:
            at = _after(_SPACES, body, at)
            byte = _byte(body, at)
            at += 1
            if byte == _COMMA:
                at = _next_value(body, at, closers[-1])
                break
            if byte != closers[-1]:
                raise invalid(
                    byte, f"after {'object key:value pair' if closers[-1] == _END_OBJECT else 'array element'}"
                )
            closers.pop()
        else:
            return at


def mend(value: bytes) -> bytes:
    """The same JSON value with U+FFFD for each invalid byte and each lone surrogate, as Go reads them.

    BadRequest when there are more than MAX_MENDED places of them: each takes time, and no text has so many.
    """
    text, places = _SURROGATES.subn(
        lambda run: "\ufffd" * len(run[0]), value.decode("utf-8", "surrogateescape"), MAX_MENDED + 1
    )
    _insist_text(places)
    mended = text.encode()
    if _ESCAPED_SURROGATE.search(mended):
        # so that every backslash begins an escape, and the text `\\ud800` is not taken for one
        mended, places = _LONE_ESCAPE.subn(rb"\\ufffd", mended.replace(rb"\\", rb"\u005c"), MAX_MENDED + 1)
        _insist_text(places)
    return mended


def _insist_text(places: int) -> None:
    if places > MAX_MENDED:
        raise BadRequest(f"the request body is no text in more than {MAX_MENDED} places")


_SURROGATES = re.compile("[\ud800-\udfff]+")
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_ESCAPE = re.compile(_HIGH + rb"(?!" + _LOW + rb")|(?<!" + _HIGH + rb")" + _LOW)


def invalid(byte: int, where: str) -> BadRequest:
    """Go's syntax error. It names a byte as if that were a character."""
    return BadRequest(f"invalid character {_quote(byte)} {where}")


_QUOTED = {
    **{ord(char): name for char, name in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)},
    ord("'"): "'",
    _BACKSLASH: "\\",
}


def _quote(byte: int) -> str:
    if byte in _QUOTED:
        return f"'\\{_QUOTED[byte]}'"
    if chr(byte).isprintable():
        return f"'{chr(byte)}'"
    return f"'\\u{byte:04x}'" if byte >= 0x80 else f"'\\x{byte:02x}'"


def _byte(body: bytes, at: int) -> int:
    if at >= len(body):
        raise BadRequest("unexpected EOF")
    return body[at]


def _after(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    return match.end() if match else at


def _next_value(body: bytes, at: int, closer: int) -> int:
    """From the start of an item or member to the first byte of a value that has to be looked at."""
    if closer != _END_OBJECT:
        return _after(_SPACES, body, _after(_ITEMS, body, at))
    at = _after(_SPACES, body, _after(_MEMBERS, body, at))
    byte = _byte(body, at)
    if byte != _QUOTE:
        raise invalid(byte, "looking for beginning of object key string")
    at = _after(_SPACES, body, _string(body, at))
    byte = _byte(body, at)
    if byte != _COLON:
        raise invalid(byte, "after object key")
    return _after(_SPACES, body, at + 1)


def _scalar(body: bytes, at: int) -> int:
    byte = _byte(body, at)
    if byte == _QUOTE:
        return _string(body, at)
    if byte in _WORDS:
        return _word(body, at, _WORDS[byte])
    if byte == _MINUS or byte in _DIGIT:
        return _number(body, at)
    raise invalid(byte, "looking for beginning of value")


def _string(body: bytes, at: int) -> int:
    at = _after(_INSIDE_STRING, body, at + 1)
    byte = _byte(body, at)
    if byte == _QUOTE:
        return at + 1
    if byte != _BACKSLASH:
        raise invalid(byte, "in string literal")
    byte = _byte(body, at + 1)
    if byte != ord("u"):
        raise invalid(byte, "in string escape code")
    at += 2
    while (byte := _byte(body, at)) in _HEX_DIGIT:
        at += 1
    raise invalid(byte, r"in \u hexadecimal character escape")


def _word(body: bytes, at: int, word: bytes) -> int:
    for offset, expected in enumerate(word):
        byte = _byte(body, at + offset)
        if byte != expected:
            raise invalid(byte, f"in literal {word.decode()} (expecting '{chr(expected)}')")
    return at + len(word)


def _number(body: bytes, at: int) -> int:
    if body[at] == _MINUS:
        at += 1
    at = _digits(_INTEGER, body, at, "in numeric literal")
    if body[at : at + 1] == b".":
        at = _digits(_DIGITS, body, at + 1, "after decimal point in numeric literal")
    if body[at : at + 1] in (b"e", b"E"):
        at += 1
        if body[at : at + 1] in (b"+", b"-"):
            at += 1
        at = _digits(_DIGITS, body, at, "in exponent of numeric literal")
    return at


def _digits(pattern: re.Pattern[bytes], body: bytes, at: int, where: str) -> int:
    byte = _byte(body, at)
    if byte not in _DIGIT:
        raise invalid(byte, where)
    return _after(pattern, body, at)

"""JSON written byte for byte as Go's encoder writes it, because a digest is made of these bytes. It reads nothing.

Source: store-registry §2.4. Equal content must give equal digests in both programs, down to the spelling of a float.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..errors import BadRequest

_MAX_DEPTH = 64
"""Security §3: nothing of ours nests deeper, and recursion must end before Python's does."""

_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""Go escapes these so that JSON may stand in HTML and JavaScript."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character cannot be UTF-8; Go puts U+FFFD in its place."""

_EXACT_INTEGER = 1 << 53
"""Numbers that went through JSON are doubles there, so larger integers are rounded as a double is."""

_EXPONENT_BELOW = 1e-6
_EXPONENT_FROM = 1e21


def encode(value: Any, *, sort_keys: bool = False) -> bytes:
    """Compact JSON. Mappings keep their own order, or with `sort_keys` (free-form maps) are sorted bytewise.

    Raises BadRequest for what JSON cannot say: NaN, infinity, deep nesting.
    """
    return _write(value, sort_keys, 0).encode()


def _write(value: Any, sort_keys: bool, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise BadRequest(f"a value is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int() | float():
            return _number(value)
        case Mapping():
            # code points sort as their UTF-8 bytes do
            keys = sorted(value) if sort_keys else value
            return "{" + ",".join(f"{_text(key)}:{_write(value[key], sort_keys, depth + 1)}" for key in keys) + "}"
        case list() | tuple():
            return "[" + ",".join(_write(item, sort_keys, depth + 1) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _text(value: str) -> str:
    return json.dumps(_SURROGATE.sub("\ufffd", value), ensure_ascii=False).translate(_ESCAPES)


def _number(value: int | float) -> str:
    """A number as Go prints a double: the shortest digits that read back the same, integral ones without `.0`."""
    if isinstance(value, int) and abs(value) <= _EXACT_INTEGER:
        return str(value)
    try:
        double = float(value)
    except OverflowError:
        double = math.inf
    if not math.isfinite(double):
        raise BadRequest("a number is out of range")
    shortest = repr(double)
    if double == 0 or _EXPONENT_BELOW <= abs(double) < _EXPONENT_FROM:
        positional = format(Decimal(shortest), "f")
        return positional.rstrip("0").rstrip(".") if "." in positional else positional
    mantissa, _, power = shortest.partition("e")
    return f"{mantissa}e{int(power):+d}"

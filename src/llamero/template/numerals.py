"""Go's numbers as text: literals to values, floats to their shortest digits.

Complex numbers are left out: no template needs them, and the lexer refuses their literals.
"""

from __future__ import annotations

import math
from decimal import Decimal

MAX_UINT = (1 << 64) - 1
MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1

_BASES = {"0x": 16, "0o": 8, "0b": 2}


def number(text: str) -> int | float:
    """The value of a number literal. Raises ValueError with Go's text.

    An int may be as large as an unsigned one; that one does not fit Go's int is found out when it is used.
    """
    digits = text.lstrip("+-").lower()
    base = _BASES.get(digits[:2], 8 if digits[:1] == "0" else 10)
    try:
        value = int(text if base == 10 else text.replace("0o", "0", 1) if base == 8 else text, base)
    except ValueError:
        return _float(text, hexadecimal=base == 16)
    if not MIN_INT <= value <= MAX_UINT or (value > MAX_INT and text[0] in "+-"):
        raise ValueError(f'integer overflow: "{text}"')
    return value


def _float(text: str, *, hexadecimal: bool) -> float:
    malformed = ValueError(f'illegal number syntax: "{text}"')
    looks_whole = not set(".eEpP") & set(text)
    try:
        if hexadecimal and "p" not in text.lower():
            raise malformed
        value = float.fromhex(text.replace("_", "")) if hexadecimal else float(text)
    except (ValueError, OverflowError):
        raise malformed from None
    if math.isinf(value):
        raise malformed
    if looks_whole:
        raise ValueError(f'integer overflow: "{text}"')
    return value


def shortest(value: float) -> str:
    """A finite float as Go's `%v`: the fewest digits that mean it, with an exponent from 1e+06 on and below 1e-04."""
    text = repr(value)
    if "e" in text:
        return text  # Python changes to an exponent later than Go, but then writes it alike
    whole, _, fraction = text.removesuffix(".0").partition(".")
    digits = whole.removeprefix("-")
    if len(digits) <= 6:
        return f"{whole}.{fraction}" if fraction else whole
    rest = (digits[1:] + fraction).rstrip("0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[0]}{'.' if rest else ''}{rest}e+{len(digits) - 1:02d}"


def json_number(value: float) -> str:
    """A finite float as Go's JSON encoder writes it: with an exponent from 1e+21 on and below 1e-6."""
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text.removesuffix(".0")
    if -6 <= int(exponent) < 21:
        return f"{Decimal(text):f}"
    return f"{mantissa}e{int(exponent):+d}"

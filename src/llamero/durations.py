"""Durations as Go writes and reads them, in integer nanoseconds. Not for calendar times.

Source: cli §4.4, native-api §2.2. They stand on the floor of words because three readers share them: the settings, the
`keep_alive` field and the command line.
"""

from __future__ import annotations

import re

from .errors import BadRequest

NS = 1
US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

FOREVER = (1 << 63) - 1
"""Go's largest duration, about 292 years: what a negative keep-alive means."""

_UNITS = {"ns": NS, "us": US, "µs": US, "μs": US, "ms": MS, "s": SECOND, "m": MINUTE, "h": HOUR}
_NUMBER = re.compile(r"[0-9]*(?:\.[0-9]*)?")
_UNIT = re.compile(r"[^0-9.]*")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m`, `-1m`, `.5s` or `0`, clamped to ±FOREVER.

    Raises BadRequest with Go's own words (`time: missing unit in duration "5"`).
    """
    rest = text
    negative = rest.startswith("-")
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise BadRequest(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        number = _NUMBER.match(rest)[0]  # type: ignore[index]  # the pattern matches the empty string
        if number in ("", "."):
            raise BadRequest(f'time: invalid duration "{text}"')
        rest = rest[len(number) :]
        unit = _UNIT.match(rest)[0]  # type: ignore[index]
        if not unit:
            raise BadRequest(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise BadRequest(f'time: unknown unit "{unit}" in duration "{text}"')
        rest = rest[len(unit) :]
        whole, _, fraction = number.partition(".")
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            fraction = fraction[:18]  # beyond nanoseconds of an hour nothing changes; bounds the big integers
            total += int(fraction) * scale // 10 ** len(fraction)
    total = min(total, FOREVER)
    return -total if negative else total


def format_duration(ns: int) -> str:
    """A duration as Go prints it: `0s`, `1.5µs`, `52.3ms`, `1m1.5s`."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < US:
        return f"{sign}{ns}ns"
    if ns < MS:
        return f"{sign}{_decimal(ns, US)}µs"
    if ns < SECOND:
        return f"{sign}{_decimal(ns, MS)}ms"
    minutes, rest = divmod(ns, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")

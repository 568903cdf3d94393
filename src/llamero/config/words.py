"""Single values as people write them: quotes around them, sizes, times."""

from __future__ import annotations

import re

from .. import durations
from ..errors import BadRequest

_AROUND = re.compile(r"^[\s\"']+|[\s\"']+$")
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)


def clean(text: str) -> str:
    """Without the quotes and blanks that shells and unit files leave around a value (cli §10).

    Blanks are Unicode's, as for Go: what was copied from a web page may end with one that does not break.
    """
    return _AROUND.sub("", text)


def parse_whole(text: str) -> int:
    """A whole number as Go reads it, without the underscores and foreign digits of Python. Raises ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_size(text: str) -> int:
    """Bytes of `5MB`, `64 MiB`, `1.5GiB` or a bare number. Raises BadRequest naming the text."""
    lowered = text.strip().lower()
    number = lowered.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lowered[len(number) :].strip()
    try:
        value = float(number) * _SIZE_UNITS[unit]
    except (ValueError, KeyError):
        raise BadRequest(f"invalid size {text!r}: write for example 512MB or 64MiB") from None
    if not 0 <= value < 2**63:
        raise BadRequest(f"invalid size {text!r}: out of range")
    return int(value)


def parse_keep_alive(text: str) -> int:
    """Nanoseconds of OLLAMA_KEEP_ALIVE: a duration or bare seconds; negative means for ever."""
    ns = parse_time(text)
    return durations.FOREVER if ns < 0 else min(ns, durations.FOREVER)


def parse_time(text: str) -> int:
    """Nanoseconds of a duration or of bare seconds. Raises BadRequest."""
    try:
        return parse_whole(text) * durations.SECOND
    except ValueError:
        return durations.parse_duration(text)

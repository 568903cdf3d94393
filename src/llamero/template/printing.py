"""Values as text: what an action prints, and what `print` and `println` make of several values.

This is Go's `%v`; `printf` has the other verbs. Source: modelfile-templates §2.3, §2.6.
"""

from __future__ import annotations

from collections.abc import Sequence

from .meter import Meter
from .numerals import shortest
from .values import NOTHING, List, Map, Number, Record, Value

WHOLE_BELOW = 1e15
"""Whole numbers from JSON print without an exponent up to here (§2.6 [+]); beyond, digits are no longer exact."""


def printed(value: Value, meter: Meter) -> str:
    """What an action prints."""
    return "<no value>" if value is None or value is NOTHING else default(value, meter)


def default(value: Value, meter: Meter) -> str:
    """A value as `%v` formats it."""
    if isinstance(value, str):
        return value
    if isinstance(value, (Record, List, Map)) and value.shape.text:
        return value.shape.text(value, meter)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return whole_or_shortest(value)
    if isinstance(value, int):
        return str(value)
    if value is None or value is NOTHING:
        return "<nil>"
    meter.write_values(len(value.fields) if isinstance(value, Record) else len(value))
    if isinstance(value, Record):
        return f"{{{' '.join(default(item, meter) for item in value.fields.values())}}}"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{default(value[name], meter)}' for name in sorted(value))}]"
    return f"[{' '.join(default(item, meter) for item in value)}]"


def whole_or_shortest(value: float) -> str:
    if isinstance(value, Number) and value.is_integer() and abs(value) < WHOLE_BELOW:
        return str(int(value))
    return shortest(value)


def sprint(values: Sequence[Value], meter: Meter) -> str:
    """The values joined, with a blank between two of which neither is a string."""
    meter.spend(len(values))
    parts: list[str] = []
    after_text = True
    for value in values:
        is_text = isinstance(value, str)
        if not is_text and not after_text:
            parts.append(" ")
        parts.append(default(value, meter))
        after_text = is_text
    return "".join(parts)


def sprintln(values: Sequence[Value], meter: Meter) -> str:
    return " ".join(default(value, meter) for value in values) + "\n"

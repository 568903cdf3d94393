"""The functions that a template can call: Go's own, and the four that Ollama adds.

`and` and `or` are known to the evaluator alone, because they do not evaluate all of their arguments.
Source: modelfile-templates §2.3; error texts are Go's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal, Protocol

from . import escaping
from .jsontext import encode
from .meter import Meter
from .printf import sprintf
from .printing import default, printed, sprint, sprintln
from .quoting import from_bytes, to_bytes
from .values import NOTHING, List, Record, Value, type_name


class CallError(Exception):
    """What a function refuses; the evaluator says where."""


@dataclass(frozen=True, slots=True)
class Context:
    """What functions may know beside their arguments."""

    meter: Meter
    today: date


class _Body(Protocol):
    def __call__(self, context: Context, /, *args: Value) -> Value: ...


@dataclass(frozen=True, slots=True)
class Function:
    run: _Body
    fixed: int
    """Arguments that must be given."""
    more: bool = False
    """Whether any number of others may follow."""
    texts: Literal["none", "first", "all"] = "none"
    """Which arguments must be strings."""

    def wants_text(self, position: int) -> bool:
        return self.texts == "all" or (self.texts == "first" and position == 0)


# --- comparing -----------------------------------------------------------------------------------------------------


def _basic(value: Value) -> str:
    """The kind within which values compare; empty for what is compared by nil alone."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return "float"
    return "int" if isinstance(value, int) else ""


def _nothing(value: Value) -> bool:
    return value is None or value is NOTHING


def _incompatible(first: Value, second: Value) -> CallError:
    return CallError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")


def _eq(context: Context, first: Value, /, *others: Value) -> bool:
    """Whether the first equals any of the others."""
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:  # noqa: SIM110  # `any` of a generator takes twice the time, and `eq` is everywhere
        if _equal(context, first, other):
            return True
    return False


def _equal(context: Context, first: Value, second: Value) -> bool:
    if type(first) is str and type(second) is str:
        if len(first) == len(second):
            context.meter.spend(0, len(first))
        return first == second
    if _nothing(first) or _nothing(second):
        return _nothing(first) and _nothing(second)
    kind = _basic(first)
    if kind != _basic(second):
        raise _incompatible(first, second)
    if kind:
        return bool(first == second)
    if isinstance(first, Record) and isinstance(second, Record):
        return first is second
    if type_name(first) == type_name(second):
        raise CallError(f"non-comparable type {_shown(second, context)}: {type_name(second)}")
    types = f"{type_name(first)}, {type_name(second)}"
    raise CallError(f"non-comparable types {_shown(first, context)}: {types}: {default(second, context.meter)}")


def _shown(value: Value, context: Context) -> str:
    return sprintf("%s", (value,), context.meter)


def _ne(context: Context, first: Value, second: Value, /) -> bool:
    return not _equal(context, first, second)


def _below(context: Context, first: Value, second: Value) -> bool:
    kind = _basic(first)
    if not kind or not _basic(second) or (kind == _basic(second) == "bool"):
        raise CallError("invalid type for comparison")
    if kind != _basic(second):
        raise _incompatible(first, second)
    if kind == "string":
        context.meter.spend(0, len(first) + len(second))
        return to_bytes(first) < to_bytes(second)
    return bool(first < second)


def _lt(context: Context, first: Value, second: Value, /) -> bool:
    return _below(context, first, second)


def _le(context: Context, first: Value, second: Value, /) -> bool:
    return _below(context, first, second) or _equal(context, first, second)


def _gt(context: Context, first: Value, second: Value, /) -> bool:
    return not _le(context, first, second)


def _ge(context: Context, first: Value, second: Value, /) -> bool:
    return not _below(context, first, second)


def _not(context: Context, value: Value, /) -> bool:
    return not value


# --- looking into --------------------------------------------------------------------------------------------------


def _len(context: Context, value: Value, /) -> int:
    if isinstance(value, str):
        return len(_bytes(context, value))
    if isinstance(value, (list, dict, bytes)):
        return len(value)
    if _nothing(value):
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {type_name(value)}")


def _bytes(context: Context, text: str) -> str | bytes:
    """Something with one item per byte of the text."""
    if text.isascii():
        return text
    context.meter.spend(0, len(text))
    return to_bytes(text)


def _index(context: Context, value: Value, /, *keys: Value) -> Value:
    if _nothing(value):
        raise CallError("index of untyped nil")
    for key in keys:
        if _nothing(value):
            raise CallError("index of nil pointer")
        if isinstance(value, dict):
            if not isinstance(key, str):
                given = (
                    "value is nil; should be of type"
                    if _nothing(key)
                    else f"value has type {type_name(key)}; should be"
                )
                raise CallError(f"{given} string")
            value = value.get(key)
        elif isinstance(value, (list, str, bytes)):
            items = _bytes(context, value) if isinstance(value, str) else value
            item = items[_position(key, len(items) - 1)]
            value = ord(item) if isinstance(item, str) and isinstance(value, str) else item
        else:
            raise CallError(f"can't index item of type {type_name(value)}")
    return value


def _position(key: Value, last: int) -> int:
    if _nothing(key):
        raise CallError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= last:
        raise CallError(f"index out of range: {key}")
    return key


def _slice(context: Context, value: Value, /, *bounds: Value) -> Value:
    if _nothing(value):
        raise CallError("slice of untyped nil")
    if len(bounds) > 3:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    if not isinstance(value, (str, list, bytes)):
        raise CallError(f"can't slice item of type {type_name(value)}")
    if isinstance(value, str) and len(bounds) == 3:
        raise CallError("cannot 3-index slice a string")
    items = _bytes(context, value) if isinstance(value, str) else value
    positions = [_position(bound, len(items)) for bound in bounds]
    for lower, upper in pairwise(positions):
        if lower > upper:
            raise CallError(f"invalid slice index: {lower} > {upper}")
    start, end = (*positions[:2], *(0, len(items))[len(positions[:2]) :])
    if isinstance(items, list):
        context.meter.spend((end - start) >> 8)  # copying so many items takes a step's time
    part = items[start:end]
    if isinstance(value, List):
        return List(value.shape, part)
    return from_bytes(part) if isinstance(part, bytes) and isinstance(value, str) else part


def _call(context: Context, value: Value, /, *args: Value) -> Value:
    raise CallError("call of nil" if _nothing(value) else f"non-function of type {type_name(value)}")


# --- text ----------------------------------------------------------------------------------------------------------


def _print(context: Context, /, *values: Value) -> str:
    return sprint(values, context.meter)


def _println(context: Context, /, *values: Value) -> str:
    return sprintln(values, context.meter)


def _printf(context: Context, form: str, /, *values: Value) -> str:
    return sprintf(form, values, context.meter)


def _escaper(escape: Callable[[str], str]) -> _Body:
    def run(context: Context, /, *values: Value) -> str:
        shown = [printed(value, context.meter) if _nothing(value) else value for value in values]
        text = sprint(shown, context.meter)
        context.meter.read_closely(text)
        return escape(text)

    return run


def _json(context: Context, value: Value, /) -> str:
    return encode(value, context.meter)


# --- Ollama's own --------------------------------------------------------------------------------------------------


def _current_date(context: Context, /, *ignored: Value) -> str:
    return context.today.isoformat()


def _yesterday_date(context: Context, /, *ignored: Value) -> str:
    return (context.today - timedelta(days=1)).isoformat()


def _type_script_type(context: Context, value: Value, /) -> str:
    return type_script_type(value, context.meter)


_TYPE_SCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def type_script_type(value: Value, meter: Meter) -> str:
    """The TypeScript type of a tool's property; `any` for anything else and for a property that says nothing."""
    if not isinstance(value, Record) or "AnyOf" not in value.fields:
        return "any"
    alternatives, types = value.fields["AnyOf"], value.fields["Type"]
    meter.spend(len(alternatives) + len(types))
    if alternatives:
        return " | ".join(type_script_type(alternative, meter) for alternative in alternatives)
    return " | ".join(_TYPE_SCRIPT.get(name, "any") for name in types) or "any"


FUNCTIONS: dict[str, Function] = {
    "call": Function(_call, 1, more=True),
    "currentDate": Function(_current_date, 0, more=True, texts="all"),
    "eq": Function(_eq, 1, more=True),
    "ge": Function(_ge, 2),
    "gt": Function(_gt, 2),
    "html": Function(_escaper(escaping.html), 0, more=True),
    "index": Function(_index, 1, more=True),
    "js": Function(_escaper(escaping.js), 0, more=True),
    "json": Function(_json, 1),
    "le": Function(_le, 2),
    "len": Function(_len, 1),
    "lt": Function(_lt, 2),
    "ne": Function(_ne, 2),
    "not": Function(_not, 1),
    "print": Function(_print, 0, more=True),
    "printf": Function(_printf, 1, more=True, texts="first"),
    "println": Function(_println, 0, more=True),
    "slice": Function(_slice, 1, more=True),
    "toTypeScriptType": Function(_type_script_type, 1),
    "urlquery": Function(_escaper(escaping.urlquery), 0, more=True),
    "yesterdayDate": Function(_yesterday_date, 0, more=True, texts="all"),
}

NAMES = frozenset({"and", "or", *FUNCTIONS})

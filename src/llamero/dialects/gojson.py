"""Request bodies read with the leniency of Go's JSON decoder and refused in its words; replies written as Go does.

It knows no request of any API: what the fields are is said by a struct (`gofields`).

Source: native-api §1.5 and §1.6, security §3, §5 and §9.4. A sound body is decoded by msgspec. What msgspec refuses
goes to `gosyntax`, which knows whether and how Go refuses it, mends what Go accepts, and hands it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from ..errors import BadRequest
from . import gosyntax
from .gofields import Custom, GoType, NotAnInteger, Number, WrongType, fold, json_kind, ordered_map, request_reader

__all__ = [
    "Custom",
    "Decoded",
    "GoType",
    "WrongType",
    "decode",
    "decode_value",
    "encode",
    "json_kind",
    "ordered_map",
]

T = TypeVar("T")

MAX_STRUCTURE = 1 << 21
"""Brackets, colons and commas in a body, also those in texts. An empty list takes thirty times the memory of its two
bytes, and each value takes time; prose, code and pictures have far fewer of these characters."""

MAX_EXACT_BYTES = 16 << 20
"""A longer body has to be plain UTF-8 JSON: to mend one, or to word its error, may take 0.1 s per MiB."""

_GUARDED = frozenset({"model", "name"})
"""Keys that say which model is meant: a filter in front of us must not see another one than we (security §9.4)."""

_FLOAT_LIMIT = int(1.7976931348623157e308)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[T]):
    value: T
    unknown: tuple[str, ...] = ()
    """Top-level keys that mean nothing to the request, as the client spelled them."""


def decode_value(body: bytes) -> Any:
    """The first JSON value of a request body as plain Python objects; None for `null`.

    Raises BadRequest: Go's syntax errors, numbers beyond 64-bit floats, more than MAX_DEPTH levels, and a top-level
    `model` or `name` given twice in whatever case.
    """
    if len(body) > MAX_STRUCTURE and sum(map(body.count, b"{[:,")) > MAX_STRUCTURE:
        raise BadRequest(f"too many values in the request body (limit {MAX_STRUCTURE})")
    try:
        value = _plain(_OBJECT.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if len(body) > MAX_EXACT_BYTES:
            raise BadRequest(f"invalid JSON in a body of more than {MAX_EXACT_BYTES} bytes: {error}") from error
        value = _decode_exactly(body)
    _check_bounds(value)
    return value


def decode(body: bytes, type_: type[T], request_type: str) -> Decoded[T]:
    """Read a body into the struct `type_`, whose fields all need defaults; `request_type` is Go's name for it.

    Keys match in any case, null means absent, unknown keys are skipped. Raises BadRequest as `decode_value` does, and
    for the first field of a wrong type.
    """
    value = decode_value(body)
    read = request_reader(type_, request_type)  # type: ignore[arg-type]  # mypy doubts that classes are hashable
    unknown: list[str] = []
    try:
        request = read({} if value is None else value, unknown)
    except NotAnInteger:
        if len(body) <= MAX_EXACT_BYTES:
            # msgspec has forgotten how the number was written, and Go's text quotes it
            read(_NUMBERS.decode(_first_value(body)))
        raise
    return Decoded(request, tuple(unknown))


class _Key:
    """A top-level key. Two equal ones stay apart, so that a dictionary of them keeps duplicates and their order."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _make_key(_: type, text: str) -> _Key:
    return _Key(text)


def _finite_number(literal: str) -> Number:
    number = Number(literal)
    if math.isinf(number):
        raise _overflow(literal)
    return number


_OBJECT = msgspec.json.Decoder(dict[_Key, Any], dec_hook=_make_key)
_ANYTHING = msgspec.json.Decoder()
_NUMBERS = msgspec.json.Decoder(float_hook=_finite_number)


def _first_value(body: bytes) -> bytes:
    return gosyntax.mend(body[: gosyntax.end_of_value(body)]).lstrip(b" \t\r\n")


def _decode_exactly(body: bytes) -> Any:
    value = _first_value(body)
    try:
        return _plain(_OBJECT.decode(value)) if value.startswith(b"{") else _ANYTHING.decode(value)
    except msgspec.DecodeError:
        _refuse_number(value)


def _refuse_number(value: bytes) -> NoReturn:
    """All that is left when the grammar is right: a number that fits no 64-bit float."""
    try:
        _NUMBERS.decode(value)
    except msgspec.DecodeError as error:
        raise BadRequest(f"json: number out of range: {error}") from error
    raise AssertionError("msgspec refused a value that Go's grammar accepts")


def _overflow(literal: str) -> BadRequest:
    return BadRequest(f"json: cannot unmarshal number {literal} into Go value of type float64")


def _plain(pairs: Mapping[_Key, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    guarded = set()
    for key, item in pairs.items():
        text = key.text
        value.pop(text, None)  # the last one wins, also over another spelling that stood between the two
        value[text] = item
        folded = fold(text)
        if folded in _GUARDED:
            if folded in guarded:
                raise BadRequest(f'duplicate key "{folded}"')
            guarded.add(folded)
    return value


def _check_bounds(value: Any) -> None:
    """Refuse deep nesting and integers beyond 64-bit floats, level by level instead of recursing."""
    level: list[Any] = [[value]]
    for _ in range(gosyntax.MAX_DEPTH + 1):  # one more for the list that we have put around the value
        deeper: list[Any] = []
        for node in level:
            for child in node.values() if type(node) is dict else node:
                kind = type(child)
                if kind is dict or kind is list:
                    deeper.append(child)
                elif kind is int and not -_FLOAT_LIMIT <= child <= _FLOAT_LIMIT:
                    raise _overflow(str(child))
        if not deeper:
            return
        level = deeper
    raise gosyntax.invalid(ord("{" if type(level[0]) is dict else "["), "exceeded max depth")


# --- writing -------------------------------------------------------------------------------------------------------

# None of these bytes occurs outside strings in compact JSON.
_ESCAPED = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8 with Go's HTML escapes (native-api §1.6), without a newline."""
    text = _encode(value)
    for plain, escaped in _ESCAPED:
        text = text.replace(plain, escaped)
    return text

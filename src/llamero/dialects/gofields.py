"""The fields of a request struct, read from plain JSON values as Go's decoder fills its structs. No bytes, no syntax.

Source: native-api §1.5. Each struct is turned into functions once; then a request costs a call for each field that it
gives. The names of Go's types stand in the error texts only.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Union

import msgspec

from ..errors import BadRequest
from .gobase64 import decode_base64

_INT_LIMIT = 1 << 63


# --- what a struct may say about its fields ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GoType:
    """Go's name of a field's type, where it does not follow from ours: `Annotated[list[Tool], GoType("api.Tools")]`.

    A longest length is said by msgspec's own `Meta(max_length=...)`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Custom:
    """A field that reads itself: `read` gets any JSON value but null and returns the field's value.

    It may raise BadRequest with a text of its own, or WrongType to have the usual one written.
    """

    read: Callable[[Any], Any]


class WrongType(Exception):
    """Raised by a `Custom.read` that expected another kind of JSON value."""


def ordered_map(value: Any) -> dict[str, Any]:
    """An object as Ollama reads tool arguments and schema properties, with the same odd error (native-api §2.7)."""
    if type(value) is not dict:
        raise BadRequest("Value looks like object, but can't find closing '}' symbol")
    return value


# --- functions made from a struct ----------------------------------------------------------------------------------


class Number(float):
    """A number that remembers how it was written, for error texts."""

    literal: str

    def __new__(cls, literal: str) -> Number:
        number = super().__new__(cls, literal)
        number.literal = literal
        return number


def fold(key: str) -> str:
    """A key as Go compares it. Only the long s and the Kelvin sign fold to ASCII, and lower() knows the latter."""
    return key.lower().replace("\u017f", "s")


class NotAnInteger(BadRequest):
    """A number of another form in an integer field."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands, for error texts: list indexes and keys of free maps are left out, as in Go."""

    request: str
    path: str = ""

    def below(self, name: str) -> _Place:
        return _Place(self.request, f"{self.path}.{name}" if self.path else name)

    def wrong(self, value: Any, go_type: str) -> BadRequest:
        kind = json_kind(value)
        error = BadRequest
        if kind == "number" and go_type == "int":
            kind = f"number {value.literal if isinstance(value, Number) else value}"
            error = NotAnInteger
        where = f"struct field {self.request}.{self.path}" if self.path else "value"
        return error(f"json: cannot unmarshal {kind} into Go {where} of type {go_type}")


_KINDS = {str: "string", bool: "bool", list: "array", dict: "object"}


def json_kind(value: Any) -> str:
    """Go's word for what a JSON value is, which is not null."""
    return _KINDS.get(type(value), "number")


class _Reader(NamedTuple):
    go_type: str
    read: Callable[[Any], Any]
    zero: Callable[[], Any]
    """What a null inside a list or a map stands for."""


class StructReader(typing.Protocol):
    def __call__(self, value: Any, unknown: list[str] | None = None) -> Any: ...


@functools.cache
def request_reader(type_: Any, request_type: str) -> StructReader:
    """The function that makes a struct of a JSON object, or raises BadRequest; it also lists unknown top-level keys."""
    return _struct_read(type_, f"api.{request_type}", _Place(request_type))


def _reader(annotation: Any, place: _Place) -> _Reader:
    base, marks = _unwrap(annotation)
    go_type = next((mark.name for mark in marks if isinstance(mark, GoType)), "")
    custom = next((mark for mark in marks if isinstance(mark, Custom)), None)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if custom is not None:
        return _custom(custom, go_type, place, _nothing if base is Any else origin or base)
    if base is Any:
        return _Reader("interface {}", _unchanged, _nothing)
    if base in _SCALARS:
        return _scalar(base, go_type or _SCALARS[base], place)
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        go_type = go_type or f"api.{base.__name__}"
        return _Reader(go_type, _struct_read(base, go_type, place), base)
    if origin is dict and arguments[0] is str:
        return _map(_reader(arguments[1], place), go_type, place)
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        longest = next((mark.max_length for mark in marks if isinstance(mark, msgspec.Meta)), None)
        return _list(origin, _reader(arguments[0], place), go_type, longest, place)
    raise TypeError(f"{place.request}.{place.path}: no way to read {annotation!r} from JSON")


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and its marks; `X | None` reads as X, since null never arrives."""
    marks: tuple[Any, ...] = ()
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation, *more = typing.get_args(annotation)
            marks += tuple(more)
        elif typing.get_origin(annotation) in (Union, types.UnionType):
            kept = [part for part in typing.get_args(annotation) if part is not type(None)]
            if len(kept) != 1:
                return annotation, marks
            annotation = kept[0]
        else:
            return annotation, marks


def _unchanged(value: Any) -> Any:
    return value


def _nothing() -> None:
    return None


_SCALARS: Mapping[Any, str] = {str: "string", bool: "bool", int: "int", float: "float64", bytes: "[]uint8"}


def _scalar(base: type, go_type: str, place: _Place) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is not base:
            raise place.wrong(value, go_type)
        return value

    def read_int(value: Any) -> int:
        if type(value) is not int or not -_INT_LIMIT <= value < _INT_LIMIT:
            raise place.wrong(value, go_type)
        return value

    def read_float(value: Any) -> float:
        if type(value) is bool or not isinstance(value, int | float):
            raise place.wrong(value, go_type)
        return float(value)

    def read_bytes(value: Any) -> bytes:
        if type(value) is not str:
            raise place.wrong(value, go_type)
        return decode_base64(value)

    special = {int: read_int, float: read_float, bytes: read_bytes}
    return _Reader(go_type, special.get(base, read), base)


def _custom(custom: Custom, go_type: str, place: _Place, zero: Callable[[], Any]) -> _Reader:
    def read(value: Any) -> Any:
        try:
            return custom.read(value)
        except WrongType:
            raise place.wrong(value, go_type) from None

    return _Reader(go_type, read, zero)


def _map(item: _Reader, go_type: str, place: _Place) -> _Reader:
    go_type = go_type or f"map[string]{item.go_type}"
    read_item, zero = item.read, item.zero

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise place.wrong(value, go_type)
        if read_item is _unchanged:
            return value
        return {key: zero() if each is None else read_item(each) for key, each in value.items()}

    return _Reader(go_type, read, dict)


def _list(make: Callable[..., Any], item: _Reader, go_type: str, longest: int | None, place: _Place) -> _Reader:
    go_type = go_type or f"[]{item.go_type}"
    read_item, zero = item.read, item.zero

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise place.wrong(value, go_type)
        if longest is not None and len(value) > longest:
            raise BadRequest(f"{place.path}: at most {longest} items are accepted")
        return make([zero() if each is None else read_item(each) for each in value])

    return _Reader(go_type, read, make)


def _struct_read(type_: type, go_type: str, place: _Place) -> StructReader:
    exact: dict[str, tuple[str, Callable[[Any], Any]]] = {}  # JSON key -> attribute and how to read it
    folded: dict[str, tuple[str, Callable[[Any], Any]]] = {}
    for each in msgspec.structs.fields(type_):
        if each.required:
            raise TypeError(f"{type_.__name__}.{each.name} needs a default: any key may be absent")
        known = (each.name, _reader(each.type, place.below(each.encode_name)).read)
        exact[each.encode_name] = folded[fold(each.encode_name)] = known

    def read(value: Any, unknown: list[str] | None = None) -> Any:
        if type(value) is not dict:
            raise place.wrong(value, go_type)
        given = {}
        for key, item in value.items():
            known = exact.get(key) or folded.get(fold(key))
            if known is None:
                if unknown is not None:
                    unknown.append(key)
            elif item is not None:
                attribute, read_item = known
                given[attribute] = read_item(item)
        return type_(**given)

    return read

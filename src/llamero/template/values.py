"""What a template computes with, and the names of its types.

| Go                              | here                                                                        |
|---------------------------------|-----------------------------------------------------------------------------|
| string                          | str; bytes outside UTF-8 as lone surrogates (`quoting`)                     |
| int, float64, bool              | int, float, bool                                                            |
| a number from JSON: float64     | `Number`                                                                    |
| []any, map[string]any           | list, dict                                                                  |
| slices and maps of other types  | `List`, `Map`                                                               |
| structs                         | `Record`                                                                    |
| []byte                          | bytes                                                                       |
| a nil interface                 | None: the missing key of a map, a null                                      |
| no value at all                 | `NOTHING`: what a pipeline makes of a nil interface; its fields are NOTHING |

Python's truth of these values is Go's (modelfile-templates §2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from .meter import Meter

Value = Any
"""One of the above. Spelled out, the union would only be cast away again at every turn."""


@final
class Nothing:
    """Go's zero reflect.Value."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = Nothing()


class Number(float):
    """A number that came as JSON. Whole ones below 1e15 print as integers, which Go does not do (§2.6 [+])."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """What the values of one type of Go's have in common."""

    name: str
    """As `%T` prints it."""
    columns: tuple[str, ...] = ()
    """For records: `Name=key` for each field in order, with its JSON key; `Name=key?` is left out when empty."""
    ordered: bool = False
    """For maps: as JSON the keys stand in their own order."""
    text: Callable[[Any, Meter], str] | None = None
    """For what prints in a form of its own."""
    json: Callable[[Any], Value] | None = None
    """For what is no plain list or object as JSON: the value to encode in its place."""
    methods: Mapping[str, Callable[[Any, Meter], Value]] = field(default_factory=dict)
    """Names that can be used like fields."""


class List(list[Value]):
    __slots__ = ("shape",)

    def __init__(self, shape: Shape, items: Any = ()) -> None:
        super().__init__(items)
        self.shape = shape


class Map(dict[str, Value]):
    """`is_nil` tells a map that is not there from an empty one."""

    __slots__ = ("is_nil", "shape")

    def __init__(self, shape: Shape, items: Mapping[str, Value] | None) -> None:
        super().__init__(items or {})
        self.shape = shape
        self.is_nil = items is None


class Record:
    __slots__ = ("fields", "shape")

    def __init__(self, shape: Shape, fields: dict[str, Value]) -> None:
        self.shape = shape
        self.fields = fields


def type_name(value: Value) -> str:
    if isinstance(value, (Record, List, Map)):
        return value.shape.name
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    raise AssertionError(f"{type(value)} is no value of a template")


_TYPE_NAMES = (
    (str, "string"),
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
    (bytes, "api.ImageData"),
    ((type(None), Nothing), "<nil>"),
)


def from_json(value: Any) -> Value:
    """What JSON's decoder made, with its numbers as Go has them."""
    match value:
        case bool() | str() | None:
            return value
        case int() | float():
            return Number(value)
        case dict():
            return {key: from_json(item) for key, item in value.items()}
        case list() | tuple():
            return [from_json(item) for item in value]
        case _:
            raise TypeError(f"{type(value)} is not JSON")


def field_of(value: Value, name: str, meter: Meter, *, interface: bool = False) -> Value:
    """A field, method or key of a value. Raises LookupError with Go's text.

    `interface`: the value was taken out of a container of anything, which is the type that Go then names.
    """
    if isinstance(value, dict):
        if name in value:
            return value[name]
        if not isinstance(value, Map):
            return None
    if isinstance(value, Record) and name in value.fields:
        return value.fields[name]
    if isinstance(value, (Record, List, Map)) and name in value.shape.methods:
        return value.shape.methods[name](value, meter)
    if isinstance(value, dict):
        return None
    if value is None:
        raise LookupError(f"nil pointer evaluating interface {{}}.{name}")
    if value is NOTHING:
        return NOTHING
    type_ = "interface {}" if interface else type_name(value)
    raise LookupError(f"can't evaluate field {name} in type {type_}")

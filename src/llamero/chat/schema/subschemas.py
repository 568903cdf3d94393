"""A JSON Schema taken apart into the schemas that it consists of; every keyword's value is checked on the way.

Source: security §5; the meaning of keywords: JSON Schema 2020-12 and its forerunners down to draft 4. Keywords that the
engine does not enforce (`not`, `if`, `contains`, ...) are not looked into: `enforced` names them to the client.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from ...errors import BadRequest
from . import pattern

MAX_DEPTH = 32
"""Schemas within schemas (security §5)."""
MAX_SCHEMAS = 2_000
"""Schemas in all, those in `$defs` included (security §5: nodes)."""
MAX_ENUM = 1_000
"""Values of all `enum` together (security §5)."""
MAX_COUNT = 1_000
"""`minItems`, `maxItems`, `minProperties`, `maxProperties` (security §5): the engine writes each item out."""
MAX_COUNTS = 20_000
"""Of all schemas together: at some 100,000 written out the engine gives up."""
MAX_CHARACTERS = 1_000_000
"""`minLength` and `maxLength`, which cost the engine nothing: more than any answer has."""
MAX_COMBINATIONS = 2_000
"""Of alternatives beside alternatives, in all: the engine multiplies them out and gives up at 50,000 parts."""
MAX_POINTER = 200
"""Characters of a place in an error text."""

Schema = dict[str, Any] | bool

KINDS = {
    "null": frozenset({"null"}),
    "boolean": frozenset({"boolean"}),
    "integer": frozenset({"integer"}),
    "number": frozenset({"integer", "fraction"}),
    "string": frozenset({"string"}),
    "array": frozenset({"array"}),
    "object": frozenset({"object"}),
}
"""The words of `type`, and the kinds of value that each allows."""


def kind_of(value: Any) -> str:
    """Which of the kinds in `KINDS` a value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "integer" if value == int(value) else "fraction"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


IN_PLACE = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
"""Keywords whose schemas speak of the same value as the schema around them."""

_DEFINITIONS = frozenset({"$defs", "definitions"})
_MAPS = _DEFINITIONS | {"properties", "patternProperties"}
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLES = frozenset({"additionalProperties", "additionalItems"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a schema. A chain, because thousands of pointers written out could be gigabytes."""

    above: Place | None = None
    key: str = ""

    def below(self, *keys: str) -> Place:
        place = self
        for key in keys:
            place = Place(place, key)
        return place

    def __str__(self) -> str:
        """The JSON pointer, at most MAX_POINTER characters of it; the root's own would be an empty text."""
        keys = []
        place = self
        while place.above is not None:
            keys.append(place.key[:MAX_POINTER].replace("~", "~0").replace("/", "~1"))
            place = place.above
        pointer = "".join(f"/{key}" for key in reversed(keys)) or "(root)"
        return pointer if len(pointer) <= MAX_POINTER else f"{pointer[:MAX_POINTER]}…"


class SchemaRefused(BadRequest):
    """A schema at fault, in the words for a request's `format`; schemas from elsewhere are told of by `fault`."""

    def __init__(self, place: Place, reason: str) -> None:
        self.reason = reason
        self.fault = f"{place}: {reason}"
        super().__init__(f"invalid format: {self.fault}")


def refuse(place: Place, reason: str) -> NoReturn:
    raise SchemaRefused(place, reason)


@dataclass(slots=True, eq=False)
class Subschema:
    place: Place
    body: dict[str, Any]
    target: Schema = True
    """What its `$ref` refers to."""
    alternatives: int = 1
    """The `enum` values, `anyOf` and `oneOf` of it, multiplied where they stand beside each other."""


def take_apart(schema: dict[str, Any]) -> list[Subschema]:
    """Every schema in it, also those that only a `$ref` leads to; a schema comes after those below it.

    Schemas that allow anything or nothing are left out. Raises BadRequest for malformed keywords, references to nowhere
    and what passes the limits.
    """
    return _Walk(schema).run()


def allows_nothing(schema: Any) -> bool:
    """`false`, and the way in which generators without booleans write it."""
    return schema is False or schema == {"not": {}}


def schemas_in(keyword: str, value: Any) -> Iterator[tuple[str | None, Any]]:
    """The schemas directly in a keyword's value, each with its key there; None where the value is itself a schema."""
    if keyword in _MAPS:
        yield from value.items()
    elif keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
        yield from ((str(index), part) for index, part in enumerate(value))
    elif keyword in _SINGLES or keyword == "items":
        yield None, value


def fault_of(keyword: str, value: Any) -> str | None:
    """What is wrong with the value of a keyword, the schemas in it aside."""
    find_fault = _FAULTS.get(keyword)
    return find_fault(value) if find_fault else None


def resolve(root: Any, reference: str, place: Place) -> tuple[Any, Place]:
    """What a `$ref` at `place` refers to, and where that is. Only JSON pointers into the same document are known."""
    if not reference.startswith("#"):
        if reference:
            refuse(place, "refers to another document")
        return root, Place()
    try:
        fragment = unquote(reference[1:], errors="strict")
    except UnicodeDecodeError:
        refuse(place, "is not a reference")
    if fragment and not fragment.startswith("/"):
        refuse(place, "refers to an anchor; write a path like #/$defs/name")
    value, found = root, Place()
    for token in fragment.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 9 and int(key) < len(value):
            value = value[int(key)]
        else:
            refuse(place, f"refers to {reference[:MAX_POINTER]}, which is not there")
        found = found.below(key)
    return value, found


@dataclass(frozen=True, slots=True)
class _Visit:
    schema: Any
    place: Place
    depth: int
    is_joined: bool = False
    """Other keywords speak of the same value."""


class _Walk:
    """Depth first, following every `$ref` where it stands, as the engine does; with a stack of its own."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.seen: dict[int, Subschema] = {}
        self.open: set[int] = set()
        """The schemas above the present one, by containment or reference."""
        self.enum_values = 0
        self.counts = 0
        self.combinations = 0

    def run(self) -> list[Subschema]:
        finished = []
        pending: list[_Visit | Subschema] = [_Visit(self.root, Place(), depth=1)]
        while pending:
            visit = pending.pop()
            if isinstance(visit, Subschema):
                self.open.remove(id(visit.body))
                visit.alternatives = self._alternatives(visit)
                finished.append(visit)
            elif visit.schema is not True and not allows_nothing(visit.schema):
                pending += self._enter(visit)
        return finished

    def _enter(self, visit: _Visit) -> list[_Visit | Subschema]:
        """What is to be done about a schema, the last first."""
        body = visit.schema
        if not isinstance(body, dict):
            refuse(visit.place, "is neither an object nor true or false")
        if id(body) in self.seen:
            return []
        if len(self.seen) == MAX_SCHEMAS:
            refuse(visit.place, f"more than {MAX_SCHEMAS} schemas")
        if visit.depth > MAX_DEPTH:
            refuse(visit.place, f"nested deeper than {MAX_DEPTH} schemas")
        for keyword, value in body.items():
            if fault := fault_of(keyword, value):
                refuse(visit.place.below(keyword), fault)
        self._count(visit.place, body)
        subschema = Subschema(visit.place, body)
        self.seen[id(body)] = subschema
        self.open.add(id(body))
        return [subschema, *reversed(list(self._below(visit, subschema)))]

    def _count(self, place: Place, body: dict[str, Any]) -> None:
        self.enum_values += len(body.get("enum", ()))
        if self.enum_values > MAX_ENUM:
            refuse(place.below("enum"), f"more than {MAX_ENUM} values in all")
        self.counts += max((body.get(keyword, 0) for keyword in _COUNTS), default=0)
        if self.counts > MAX_COUNTS:
            refuse(place, f"more than {MAX_COUNTS} items in all")

    def _below(self, visit: _Visit, subschema: Subschema) -> Iterator[_Visit]:
        is_joined = visit.is_joined or conjuncts(subschema.body) > 1
        # definitions come last, so that those in use are met where the engine meets them: at the first reference
        for keyword, value in sorted(subschema.body.items(), key=lambda item: item[0] in _DEFINITIONS):
            place = visit.place.below(keyword)
            if keyword == "$ref":
                subschema.target, found = resolve(self.root, value, place)
                if id(subschema.target) in self.open and is_joined:
                    refuse(place, "refers to a schema around it beside other keywords; the engine cannot take that")
                yield _Visit(subschema.target, found, 1, is_joined)
            for key, schema in schemas_in(keyword, value):
                there = place if key is None else place.below(key)
                yield _Visit(schema, there, visit.depth + 1, is_joined and keyword in IN_PLACE)

    def _alternatives(self, subschema: Subschema) -> int:
        body = subschema.body
        factors = [sum(map(self._alternatives_of, body[word])) for word in ("anyOf", "oneOf") if word in body]
        factors += map(self._alternatives_of, body.get("allOf", ()))
        factors += [len(body.get("enum", "1")), self._alternatives_of(subschema.target)]
        product = math.prod(max(factor, 1) for factor in factors)
        if sum(factor > 1 for factor in factors) > 1:
            self.combinations += product
            if self.combinations > MAX_COMBINATIONS:
                refuse(subschema.place, f"more than {MAX_COMBINATIONS} combinations of alternatives")
        return min(product, MAX_COMBINATIONS)

    def _alternatives_of(self, schema: Schema) -> int:
        known = self.seen.get(id(schema))
        return known.alternatives if known else 1


def conjuncts(body: dict[str, Any]) -> int:
    """How many parts of a schema speak of the same value and must be merged by the engine."""
    applied = sum(keyword in body for keyword in ("$ref", "anyOf", "oneOf", "const", "enum"))
    return applied + len(body.get("allOf", ())) + any(keyword in _ASSERTIONS for keyword in body)


# --- what the value of a keyword must be: each function gives the fault in one, or None -----------------------------


def _fault_of_type(value: Any) -> str | None:
    words = value if isinstance(value, list) else [value]
    if not words:
        return "allows no type"
    is_known = all(isinstance(word, str) and word in KINDS for word in words)
    return None if is_known else f"is none of {', '.join(KINDS)}"


def _fault_of_alternatives(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "is not a list of at least one"


def _fault_of_required(value: Any) -> str | None:
    return None if isinstance(value, list) and all(isinstance(key, str) for key in value) else "is not a list of names"


def _fault_of_pattern(value: Any) -> str | None:
    return pattern.find_fault(value) if isinstance(value, str) else "is not text"


def _fault_of_pattern_properties(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "is not an object"
    if len(value) > 1:
        return "more than one pattern is not supported"
    return next((f"the pattern {fault}" for fault in map(pattern.find_fault, value) if fault), None)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _fault_of_bound(value: Any) -> str | None:
    return None if _is_number(value) else "is not a number"


def _fault_of_exclusive_bound(value: Any) -> str | None:
    """Until draft 4 a boolean that speaks of the bound beside it."""
    return None if isinstance(value, bool) else _fault_of_bound(value)


def _fault_of_multiple(value: Any) -> str | None:
    return None if _is_number(value) and value > 0 else "is not a number above 0"


def _is(type_: type, name: str) -> Callable[[Any], str | None]:
    return lambda value: None if isinstance(value, type_) else f"is not {name}"


def _is_count(limit: int) -> Callable[[Any], str | None]:
    return lambda value: None if type(value) is int and 0 <= value <= limit else f"is not a whole number up to {limit}"


_COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_FAULTS: dict[str, Callable[[Any], str | None]] = {
    "$ref": _is(str, "text"),
    "$defs": _is(dict, "an object"),
    "definitions": _is(dict, "an object"),
    "type": _fault_of_type,
    "enum": _fault_of_alternatives,
    "anyOf": _fault_of_alternatives,
    "oneOf": _fault_of_alternatives,
    "allOf": _is(list, "a list"),
    "properties": _is(dict, "an object"),
    "patternProperties": _fault_of_pattern_properties,
    "required": _fault_of_required,
    "prefixItems": _is(list, "a list"),
    "pattern": _fault_of_pattern,
    "format": _is(str, "text"),
    "minimum": _fault_of_bound,
    "maximum": _fault_of_bound,
    "exclusiveMinimum": _fault_of_exclusive_bound,
    "exclusiveMaximum": _fault_of_exclusive_bound,
    "multipleOf": _fault_of_multiple,
    "minLength": _is_count(MAX_CHARACTERS),
    "maxLength": _is_count(MAX_CHARACTERS),
    **dict.fromkeys(_COUNTS, _is_count(MAX_COUNT)),
}
_ASSERTIONS = (_FAULTS.keys() - IN_PLACE - _DEFINITIONS - {"enum"}) | _SINGLES | {"items"}

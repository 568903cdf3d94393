"""Whether the schemas of a JSON Schema can be satisfied at all, as far as that shows without trying values.

For every schema it finds out of which kinds (integer, string, object, ...) there is a finite value that satisfies it.
That starts from "of none" and grows until nothing changes, so a schema that only leads back to itself stays without
any. Bounds and required keys of parts that are merged (`allOf`, `$ref`) count together; of `anyOf` and `oneOf` only the
kinds do, and whether a value matches a `pattern` is not tried.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from .subschemas import KINDS, Schema, Subschema, allows_nothing, conjuncts, kind_of, refuse

MAX_PARTS = 64
"""Schemas that one schema merges through `allOf` and `$ref`."""
MAX_LOOKUPS = 100_000
"""Keys that are looked up in merged parts, in all: some tens of milliseconds."""

_Kinds = frozenset[str]
_NONE: _Kinds = frozenset()
_ANY: _Kinds = _NONE.union(*KINDS.values())


def check_satisfiable(subschemas: Sequence[Subschema]) -> None:
    """Refuse what no value satisfies, at the innermost place. Takes the schemas in the order of `take_apart`."""
    _Solver(subschemas).solve()


@dataclass(slots=True, eq=False)
class _Node:
    subschema: Subschema
    fixed: _Kinds = _ANY
    """The kinds that its own keywords allow, those of merged parts included."""
    members: list[Schema] = field(default_factory=list)
    """What an object cannot do without."""
    items: list[Schema] = field(default_factory=list)
    """What an array cannot do without."""
    impossible_key: str | None = None
    kinds: _Kinds = _NONE
    users: list[_Node] = field(default_factory=list)
    """Whose kinds depend on ours."""


class _Solver:
    def __init__(self, subschemas: Sequence[Subschema]) -> None:
        self.nodes = {id(subschema.body): _Node(subschema) for subschema in subschemas}
        self.lookups = 0

    def solve(self) -> None:
        for node in self.nodes.values():
            self._prepare(node)
        waiting = deque(self.nodes.values())
        queued = set(self.nodes)
        while waiting:
            node = waiting.popleft()
            queued.remove(id(node.subschema.body))
            kinds = self._possible(node)
            if kinds != node.kinds:
                node.kinds = kinds
                for user in node.users:
                    if id(user.subschema.body) not in queued:
                        queued.add(id(user.subschema.body))
                        waiting.append(user)
        for node in self.nodes.values():
            if not node.kinds:
                self._explain(node)

    def _kinds(self, schema: Schema) -> _Kinds:
        """What is known so far."""
        if allows_nothing(schema):
            return _NONE
        node = self.nodes.get(id(schema))
        return node.kinds if node else _ANY

    def _choices(self, options: Sequence[Schema]) -> _Kinds:
        return _NONE.union(*map(self._kinds, options))

    # --- what does not change ---

    def _prepare(self, node: _Node) -> None:
        subschema = node.subschema
        body = subschema.body
        parts = self._merged(subschema)
        node.fixed = _fixed_kinds(subschema, parts)
        node.members = list(self._members(node, parts))
        node.items = list(_items(parts))
        below = [*body.get("allOf", ()), *body.get("anyOf", ()), *body.get("oneOf", ()), subschema.target]
        for schema in [*below, *node.members, *node.items]:
            if used := self.nodes.get(id(schema)):
                used.users.append(node)

    def _merged(self, subschema: Subschema) -> list[dict[str, Any]]:
        """The schema and all that hold together with it."""
        if conjuncts(subschema.body) < 2:
            return [subschema.body]
        parts: dict[int, dict[str, Any]] = {}
        waiting: list[Schema] = [subschema.body]
        while waiting:
            node = self.nodes.get(id(waiting.pop()))
            if node is None or id(node.subschema.body) in parts:
                continue
            parts[id(node.subschema.body)] = node.subschema.body
            if len(parts) > MAX_PARTS:
                refuse(subschema.place, f"merges more than {MAX_PARTS} schemas")
            waiting += [*node.subschema.body.get("allOf", ()), node.subschema.target]
        return list(parts.values())

    def _members(self, node: _Node, parts: list[dict[str, Any]]) -> Iterator[Schema]:
        """What the required keys must hold, each once."""
        required = {key for part in parts for key in part.get("required", ())}
        self.lookups += len(required) * len(parts)
        if self.lookups > MAX_LOOKUPS:
            refuse(node.subschema.place, "requires too many keys of too many merged schemas")
        self._check_key_counts(node.subschema, len(required), parts)
        found: dict[int, Schema] = {}
        for key in required:
            for part in parts:
                schema = _member(part, key)
                if allows_nothing(schema):
                    node.impossible_key = key
                found[id(schema)] = schema
        yield from found.values()

    def _check_key_counts(self, subschema: Subschema, required: int, parts: list[dict[str, Any]]) -> None:
        most = _lowest(parts, "maxProperties")
        if most is not None and required > most:
            place = subschema.place.below(_named(subschema.body, "maxProperties"))
            refuse(place, f"allows {most} keys where {required} are required")
        known = [len(part.get("properties", ())) for part in parts if _is_closed(part)]
        least = _highest(parts, "minProperties") or 0
        if least > min(known, default=least):
            place = subschema.place.below(_named(subschema.body, "minProperties"))
            refuse(place, f"asks for {least} keys where {min(known)} are known")

    # --- what grows ---

    def _possible(self, node: _Node) -> _Kinds:
        body = node.subschema.body
        kinds = node.fixed & self._kinds(node.subschema.target)
        for part in body.get("allOf", ()):
            kinds &= self._kinds(part)
        for word in ("anyOf", "oneOf"):
            if word in body:
                kinds &= self._choices(body[word])
        if "object" in kinds and not all(map(self._kinds, node.members)):
            kinds -= {"object"}
        if "array" in kinds and not all(map(self._kinds, node.items)):
            kinds -= {"array"}
        return kinds

    def _explain(self, node: _Node) -> None:
        """Refuse a schema that allows no kind of value; whatever is wrong below it has been refused before."""
        body, place = node.subschema.body, node.subschema.place
        for word in ("anyOf", "oneOf"):
            if word in body and not self._choices(body[word]):
                refuse(place.below(word), "none of these can be satisfied")
        if "$ref" in body and not self._kinds(node.subschema.target):
            refuse(place.below("$ref"), "refers to what no finite value satisfies")
        if "object" in node.fixed and not all(map(self._kinds, node.members)):
            what = f"{_shown(node.impossible_key)}, which is ruled out" if node.impossible_key is not None else "itself"
            refuse(place.below(_named(body, "required")), f"asks for {what}")
        if "array" in node.fixed and not all(map(self._kinds, node.items)):
            refuse(place.below(_named(body, "minItems")), "asks for items that nothing satisfies")
        word = _named(body, "const", "enum", "allOf", "$ref", "anyOf", "oneOf", "type")
        refuse(place.below(word), "contradicts the keywords beside it")


def _member(body: dict[str, Any], key: str) -> Schema:
    """What a schema says of the value of a key. A `patternProperties` is taken to fit."""
    if key in (properties := body.get("properties", {})):
        schema: Schema = properties[key]
        return schema
    if body.get("patternProperties"):
        return True
    additional: Schema = body.get("additionalProperties", True)
    return additional


def _is_closed(body: dict[str, Any]) -> bool:
    return allows_nothing(body.get("additionalProperties")) and not body.get("patternProperties")


def _items(parts: list[dict[str, Any]]) -> Iterator[Schema]:
    """What the first `minItems` items must be, each once."""
    least = _highest(parts, "minItems") or 0
    for part in parts:
        first, others = tuple_items(part)
        yield from first[:least]
        if least > len(first):
            yield others


def tuple_items(body: dict[str, Any]) -> tuple[list[Schema], Schema]:
    """The schemas of the first items and of all others, as 2020-12 writes them or as the drafts before it did."""
    items = body.get("items", True)
    if isinstance(items, list):
        return items, body.get("additionalItems", True)
    return body.get("prefixItems", []), items


# --- kinds by keywords alone ----------------------------------------------------------------------------------------


class _Range(NamedTuple):
    """Bounds of numbers; None is no bound."""

    low: Fraction | None
    is_above_low: bool
    high: Fraction | None
    is_below_high: bool

    def holds(self, number: Fraction) -> bool:
        low, high = self.low, self.high
        return (low is None or number > low or (number == low and not self.is_above_low)) and (
            high is None or number < high or (number == high and not self.is_below_high)
        )


def _fixed_kinds(subschema: Subschema, parts: list[dict[str, Any]]) -> _Kinds:
    """The kinds that types, constants and bounds allow. Refuses bounds that exclude each other."""
    place = subschema.place
    numbers = _range(parts)
    kinds = _numeric_kinds(subschema, numbers, parts)
    for least, most in (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")):
        low, high = _highest(parts, least), _lowest(parts, most)
        if low is not None and high is not None and low > high:
            refuse(place.below(_named(subschema.body, least, most)), f"{least} {low} is above {most} {high}")
    for part in parts:
        kinds &= _NONE.union(*(KINDS[word] for word in _words(part)))
        if "const" in part:
            kinds &= _kinds_that_fit([part["const"]], numbers, parts)
        if "enum" in part:
            kinds &= _kinds_that_fit(part["enum"], numbers, parts)
    return kinds


def _words(body: dict[str, Any]) -> Collection[str]:
    """The words of `type`; all of them without one."""
    words: str | list[str] = body.get("type", ["number", *KINDS.keys() - {"integer", "number"}])
    return [words] if isinstance(words, str) else words


def _numeric_kinds(subschema: Subschema, numbers: _Range, parts: list[dict[str, Any]]) -> _Kinds:
    """All kinds but those of numbers that cannot be within the bounds; refuses bounds with nothing between them."""
    low, high = numbers.low, numbers.high
    if low is None or high is None:
        return _ANY
    place = subschema.place.below(_named(subschema.body, "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))
    if low > high or (low == high and (numbers.is_above_low or numbers.is_below_high)):
        refuse(place, f"no number is between {_decimal(low)} and {_decimal(high)}")
    for part in parts:
        if "multipleOf" in part:
            step = _exact(part["multipleOf"])
            if not _has_multiple(numbers, step):
                refuse(place, f"no multiple of {_decimal(step)} is between {_decimal(low)} and {_decimal(high)}")
    missing = set()
    if not _has_multiple(numbers, Fraction(1)):
        if any("integer" in _words(part) for part in parts):  # even beside other types: the engine gives up on it
            refuse(place, f"no integer is between {_decimal(low)} and {_decimal(high)}")
        missing.add("integer")
    if low == high and low.denominator == 1:
        missing.add("fraction")
    return _ANY - missing


def _has_multiple(numbers: _Range, step: Fraction) -> bool:
    assert numbers.low is not None
    first = math.ceil(numbers.low / step)
    return numbers.holds(first * step) or numbers.holds((first + 1) * step)


def _range(parts: list[dict[str, Any]]) -> _Range:
    lows = [bound for part in parts for bound in _bounds(part, "minimum", "exclusiveMinimum")]
    highs = [bound for part in parts for bound in _bounds(part, "maximum", "exclusiveMaximum")]
    low, is_above = max(lows, default=(None, False))  # of two equal ones the open one is stricter
    high, is_closed = min(((number, not is_open) for number, is_open in highs), default=(None, True))
    return _Range(low, is_above, high, not is_closed)


def _bounds(body: dict[str, Any], closed: str, opened: str) -> Iterator[tuple[Fraction, bool]]:
    """The bounds that two keywords set, each with whether it is itself excluded."""
    exclusive = body.get(opened, False)
    if closed in body:
        yield _exact(body[closed]), exclusive is True
    if not isinstance(exclusive, bool):
        yield _exact(exclusive), True


def _exact(number: int | float) -> Fraction:
    """The number as it was written: 0.1 is a tenth."""
    return Fraction(repr(number))


def _decimal(number: Fraction) -> str:
    return f"{float(number):.16g}"


def _kinds_that_fit(values: list[Any], numbers: _Range, parts: list[dict[str, Any]]) -> _Kinds:
    return frozenset(kind_of(value) for value in values if _fits(value, numbers, parts))


def _fits(value: Any, numbers: _Range, parts: list[dict[str, Any]]) -> bool:
    if isinstance(value, str):
        least, most = _highest(parts, "minLength"), _lowest(parts, "maxLength")
        return (least or 0) <= len(value) and (most is None or len(value) <= most)
    return type(value) not in (int, float) or numbers.holds(_exact(value))


def _highest(parts: list[dict[str, Any]], keyword: str) -> int | None:
    return max((part[keyword] for part in parts if keyword in part), default=None)


def _lowest(parts: list[dict[str, Any]], keyword: str) -> int | None:
    return min((part[keyword] for part in parts if keyword in part), default=None)


def _named(body: dict[str, Any], *keywords: str) -> str:
    """The keyword to name: the first that stands here, or the one that brings it in."""
    return next(word for word in (*keywords, "allOf", "$ref") if word in body)


def _shown(key: str) -> str:
    return msgspec.json.encode(key[:100]).decode()

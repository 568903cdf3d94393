"""A JSON Schema written as GBNF. The engine takes no schema for a constraint that begins within an answer, and where it
takes one it leaves white space and digits without a bound, of which small models make use.

It needs what `for_engine` gives. Keys come in the schema's order, and constants are spelled in one way; otherwise every
value that the schema allows is admitted. Of what it forbids, wrong or missing keys, wrong types, constants, counts and
lengths are ruled out; bounds and patterns are left to whoever reads the value (`is_exact` tells whether anything is).
Notation: as `chat/grammar` checks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Set
from typing import Any

from ..grammar import MAX_REPEAT
from .subschemas import KINDS, Schema, allows_nothing, kind_of, schemas_in

_BASE = {
    "space": r'" "? | "\n" [ \t]{0,20}',
    "character": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" character* "\""',
    "integer": r'"-"? ("0" | [1-9] [0-9]{0,18})',
    "number": r'integer ("." [0-9]{1,20})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "array": '"[" space (value space ("," space value space)*)? "]"',
    "pair": 'string space ":" space value space',
    "object": '"{" space (pair ("," space pair)*)? "}"',
}
"""Rules for JSON itself. What may repeat without end is bounded where a small model would go on and on."""


_ALONE = frozenset({"$ref", "anyOf", "oneOf", "allOf"})
"""Keywords that say all that is said where they stand, or too much."""
_LENGTHS = frozenset({"minLength", "maxLength"})
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties"})
_SAID = _OF_OBJECTS | _LENGTHS | {"type", "items", "minItems", "maxItems"}
_ASIDE = frozenset({"$defs", "x-guidance"})


def is_exact(schema: Schema) -> bool:
    """Whether the grammar admits nothing that the schema forbids."""
    if isinstance(schema, bool):
        return True
    below = (part for keyword, value in schema.items() for _, part in schemas_in(keyword, value))
    return _is_said(schema, schema.keys() - _ASIDE) and all(map(is_exact, below))


def _is_said(schema: dict[str, Any], keywords: Set[str]) -> bool:
    if keywords & _ALONE:
        return len(keywords) == 1 and len(schema.get("allOf", "1")) == 1
    if keywords & {"const", "enum"}:
        return keywords <= {"const", "type"} or keywords <= {"enum", "type"}
    if "type" not in keywords and keywords - _OF_OBJECTS and keywords != {"items"}:
        return False
    properties = schema.get("properties", {}).keys()
    # a key that is known could come again as one that is not
    is_closed = not properties or schema.get("additionalProperties", True) is False
    is_short = all(schema.get(keyword, 0) <= MAX_REPEAT for keyword in _LENGTHS)
    return keywords <= _SAID and is_closed and is_short and properties >= set(schema.get("required", ()))


def literal(text: str) -> str:
    """A text as GBNF quotes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def json_literal(value: Any) -> str:
    """The JSON of a value as GBNF quotes it."""
    return literal(json.dumps(value, ensure_ascii=False))


class GrammarWriter:
    """Collects rules. Expressions are the names of rules, or fit where a name does."""

    def __init__(self) -> None:
        self._rules = dict(_BASE)

    def rule(self, body: str = "") -> str:
        """A new rule, by its name; without a body it must still be defined."""
        name = f"rule-{len(self._rules)}"
        self._rules[name] = body
        return name

    def define(self, name: str, body: str) -> None:
        self._rules[name] = body

    def text(self, root: str) -> str:
        """The whole grammar; `root` is the body of its first rule."""
        rules = {"root": root, **self._rules}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())

    def schema(self, schema: dict[str, Any]) -> str:
        """An expression for the values of a schema."""
        return _Schema(self, schema.get("$defs", {})).expression(schema)


class _Schema:
    def __init__(self, writer: GrammarWriter, definitions: dict[str, Schema]) -> None:
        self.writer = writer
        self.definitions = definitions
        self.names: dict[str, str] = {}
        """The rules of definitions that are in use."""

    def expression(self, schema: Schema) -> str:
        if isinstance(schema, bool):
            return "value"
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if constants := _constants(schema):
            return self._either(map(json_literal, constants))
        if types := _types(schema):
            return self._either(self._typed(type_, schema) for type_ in types)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._either(map(self.expression, filter(_allows_something, schema[keyword])))
        # of schemas that hold together, one alone rules nothing out that the whole allows
        return self.expression(schema["allOf"][0]) if schema.get("allOf") else "value"

    def _reference(self, reference: str) -> str:
        if reference not in self.names:
            definition = self.definitions[reference.removeprefix("#/$defs/")]
            name = self.names[reference] = self.writer.rule()
            self.writer.define(name, self.expression(definition))
        return self.names[reference]

    def _either(self, expressions: Iterable[str]) -> str:
        alternatives = list(dict.fromkeys(expressions))
        return alternatives[0] if len(alternatives) == 1 else self.writer.rule(" | ".join(alternatives))

    def _typed(self, type_: str, schema: dict[str, Any]) -> str:
        match type_:
            case "object":
                return self._object(schema)
            case "array" if "prefixItems" not in schema:
                return self._array(schema)
            case "string" if _LENGTHS & schema.keys():
                times = _times(schema.get("minLength", 0), schema.get("maxLength"))
                return self.writer.rule(rf'"\"" character{times} "\""')
        return type_

    def _array(self, schema: dict[str, Any]) -> str:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high == 0 or not _allows_something(schema.get("items", True)):
            return self.writer.rule('"[" space "]"')
        item = self.expression(schema.get("items", True))
        items = f'{item} space ("," space {item} space){_times(low - 1, high and high - 1)}'
        return self.writer.rule(f'"[" space {items if low else f"({items})?"} "]"')

    def _object(self, schema: dict[str, Any]) -> str:
        """Keys in the schema's order, each rule being what may follow up to the end; optional ones may be skipped."""
        others = "patternProperties" in schema or schema.get("additionalProperties", True)
        if others is True and not schema.get("properties"):
            return "object"
        first = after = '""'
        if _allows_something(others):
            pair = self.writer.rule(f'string space ":" space {self.expression(others)} space')
            after = self.writer.rule(f'("," space {pair})*')
            first = self.writer.rule(f"({pair} {after})?")
        required = set(schema.get("required", ()))
        for key, value in reversed(schema.get("properties", {}).items()):
            if not _allows_something(value):
                continue
            pair = f'{json_literal(key)} space ":" space {self.expression(value)} space {after}'
            without_first, without = ("", "") if key in required else (f" | {first}", f" | {after}")
            first, after = self.writer.rule(pair + without_first), self.writer.rule(f'"," space {pair}{without}')
        return self.writer.rule(f'"{{" space {first} "}}"')


def _times(low: int, high: int | None) -> str:
    """How often something comes, as far as the notation counts."""
    low = min(max(low, 0), MAX_REPEAT)
    if high is None or high > MAX_REPEAT:
        return f"{{{low},}}" if low else "*"
    return f"{{{low},{high}}}"


def _allows_something(schema: Schema) -> bool:
    return not allows_nothing(schema)


def _types(schema: dict[str, Any]) -> list[str]:
    """What `type` says; a schema that speaks of keys or items is taken for one of objects or arrays."""
    if "type" in schema:
        type_ = schema["type"]
        return type_ if isinstance(type_, list) else [type_]
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema else []


def _constants(schema: dict[str, Any]) -> list[Any]:
    """The values of `const` or `enum` that `type` allows."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    kinds = frozenset().union(*(KINDS[type_] for type_ in _types(schema))) if "type" in schema else None
    return [value for value in values if kinds is None or kind_of(value) in kinds]

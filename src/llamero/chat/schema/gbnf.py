"""A JSON Schema written as GBNF, for constraints that begin within an answer: the engine takes no schema for those.

It needs what `for_engine` gives. Keys come in the schema's order, and constants are spelled in one way; otherwise every
value that the schema allows is admitted. Of what it forbids, wrong or missing keys, wrong types and wrong constants are
ruled out; bounds, lengths and patterns are left to whoever reads the value. Notation: as `chat/grammar` checks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .subschemas import KINDS, Schema, allows_nothing, kind_of

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
        return type_

    def _array(self, schema: dict[str, Any]) -> str:
        if not _allows_something(schema.get("items", True)):
            return self.writer.rule('"[" space "]"')
        item = self.expression(schema.get("items", True))
        items = f'{item} space ("," space {item} space)*'
        return self.writer.rule(f'"[" space {items if schema.get("minItems") else f"({items})?"} "]"')

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

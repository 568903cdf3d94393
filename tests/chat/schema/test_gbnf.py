"""Schemas as GBNF: all that the schema allows is admitted, and wrong keys, types and constants are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.chat.grammar import check_grammar
from llamero.chat.schema import check_schema, for_engine
from llamero.chat.schema.gbnf import GrammarWriter, is_exact, literal
from tests.chat.recognizer import Grammar

OBJECT = {"type": "object"}
POINT = {**OBJECT, "properties": {"x": {"type": "number"}, "y": {"type": "integer"}, "z": {}}, "required": ["y"]}
TREE = {
    **OBJECT,
    "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["below"],
}


def grammar(schema: dict[str, Any]) -> Grammar:
    check_schema(schema)
    writer = GrammarWriter()
    text = writer.text(writer.schema(for_engine(schema)[0]))
    check_grammar(text)
    return Grammar(text)


@pytest.mark.parametrize(
    ("schema", "allowed", "forbidden"),
    [
        ({"type": "string"}, ["", 'a"b\\\n\u0000é😀'], [1, None, ["a"]]),
        ({"type": "integer"}, [0, -5, 123], [1.5, "1", True]),
        ({"type": "number"}, [0, 1.5, -2e-7, 1e20], ["1", None]),
        ({"type": ["string", "null"]}, ["a", None], [1, {}]),
        ({"type": "boolean"}, [True, False], [0, "true"]),
        ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", 2, {}]),
        ({"type": "string", "enum": ["a", 1]}, ["a"], [1, "b"]),
        ({"const": 'q"\\'}, ['q"\\'], ["q"]),
        (OBJECT, [{}, {"a": 1, "b": {"c": [1, "x", None, {}]}}], [[], 1, "a"]),
        (
            POINT,
            [{"y": 1}, {"x": 1.5, "y": 1}, {"y": 2, "z": ["any"]}, {"x": 1, "y": 2, "z": None}],
            [{}, {"x": 1}, {"y": 1.5}, {"y": 1, "w": 1}, {"x": "1", "y": 1}],
        ),
        ({**OBJECT, "properties": {"a": {}, "b": {}}}, [{}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}], [{"c": 1}]),
        (
            {**OBJECT, "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
            [{}, {"a": "x"}, {"a": "x", "b": 1, "c": 2}, {"b": 1}],
            [{"b": "x"}, {"a": 1, "b": "x"}],
        ),
        ({**OBJECT, "additionalProperties": False}, [{}], [{"a": 1}]),
        ({"properties": {"a": {"type": "null"}}}, [{}, {"a": None}], [{"a": 1}]),
        ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3]], [["a"], {}, 1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [[1], [1, 2]], [[]]),
        ({"type": "array", "items": {}, "minItems": 2, "maxItems": 3}, [[1, 2], [1, 2, 3]], [[1], [1, 2, 3, 4]]),
        ({"type": "array", "maxItems": 1}, [[], [1]], [[1, 2]]),
        ({"type": "array", "maxItems": 0}, [[]], [[1]]),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "é", '"\n'], ["", "abc"]),
        ({"type": ["string", "integer"], "maxLength": 1}, ["", "a", 123], ["ab"]),
        ({"type": "array", "items": False}, [[]], [[1]]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {}]}, [["a", 1], []], [{}]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [1, None], ["a"]),
        ({"oneOf": [POINT, {"type": "string"}]}, [{"y": 1}, "a"], [{}, 1]),
        ({"allOf": [{"type": "integer"}]}, [1], ["a"]),
        (
            {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
            [{"below": []}, {"below": [{"below": []}]}],
            [{}, {"below": [1]}],
        ),
        ({**TREE, "$defs": {"tree": TREE}}, [{"below": [{"below": []}]}], [{"below": [{}]}]),
        ({**OBJECT, "properties": {'k"\\\n': {"type": "null"}}}, [{'k"\\\n': None}], [{"k": None}]),
        ({}, [1, "a", None, [1, {"a": False}]], []),
    ],
)
def test_values(schema: dict[str, Any], allowed: list[Any], forbidden: list[Any]) -> None:
    made = grammar(schema)
    for value in allowed:
        for text in (
            json.dumps(value),
            json.dumps(value, indent=2),
            json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        ):
            assert made.admits(text), text
    for value in forbidden:
        assert not made.admits(json.dumps(value)), value


@pytest.mark.parametrize(
    ("schema", "exact"),
    [
        ({**POINT, "properties": {**POINT["properties"], "l": {"type": "array", "items": {"enum": [1]}}}}, True),
        ({"type": ["string", "null"], "minLength": 2}, True),
        ({"$ref": "#/$defs/tree", "$defs": {"tree": TREE}}, True),
        ({"anyOf": [{"const": 1}, {"type": "object"}]}, True),
        ({}, True),
        ({"type": "integer", "minimum": 3}, False),
        ({"type": "array", "items": {"type": "string", "pattern": "^a$"}}, False),
        ({"type": "string", "maxLength": 5000}, False),
        ({"minLength": 2}, False),
        ({**OBJECT, "properties": {"a": {"type": "integer"}}, "additionalProperties": True}, False),
        ({**OBJECT, "properties": {"a": {}}, "required": ["b"]}, False),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, False),
        ({"allOf": [{"type": "integer"}, {"enum": [1, "a"]}]}, False),
        ({"type": "array", "prefixItems": [{}]}, False),
    ],
)
def test_whether_a_grammar_says_all_that_the_schema_says(schema: dict[str, Any], exact: bool) -> None:
    check_schema(schema)
    assert is_exact(for_engine(schema)[0]) == exact


def test_a_constant_has_one_spelling() -> None:
    made = grammar({"const": {"b": [2, "x"]}})
    assert made.admits('{"b": [2, "x"]}')
    assert not made.admits('{"b":[2,"x"]}')


def test_space_has_an_end() -> None:
    """A small model under a constraint likes nothing better than to write white space for ever."""
    made = grammar(OBJECT)
    assert made.admits("{ }")
    assert not made.admits("{" + " " * 40 + "}")


def test_a_literal_is_quoted() -> None:
    assert literal('a"b\\c\nd') == r'"a\"b\\c\nd"'


def test_hundreds_of_optional_keys_stay_small() -> None:
    schema = {**OBJECT, "properties": {f"key{number}": {"type": "string"} for number in range(300)}}
    writer = GrammarWriter()
    assert len(writer.text(writer.schema(for_engine(schema)[0]))) < 60_000

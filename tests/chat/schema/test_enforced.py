"""What the engine is sent of a schema. It drops a whole schema for one keyword that it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.chat.schema import check_schema, for_engine


def rewritten(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    check_schema(schema)
    return for_engine(schema)


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        pytest.param({}, {}, id="anything"),
        pytest.param(
            {"type": "string", "minLength": 1, "pattern": "^a", "format": "date"},
            {"type": "string", "minLength": 1, "pattern": "^a", "format": "date"},
            id="what is understood stays",
        ),
        pytest.param(
            {
                "$schema": "https://example.com/",
                "$id": "a b",
                "title": "T",
                "type": "null",
                "nullable": True,
                "x-guidance": {},
            },
            {"type": "null"},
            id="annotations, dialects and the engine's own switches go",
        ),
        pytest.param(
            {"type": "object", "properties": {"b": {"type": "null"}, "a": True}},
            {"type": "object", "properties": {"b": {"type": "null"}, "a": True}, "additionalProperties": False},
            id="known keys in their order, and no others",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}},
            id="other keys when the schema speaks of them",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {}}, "required": ["b"]},
            {"type": "object", "properties": {"a": {}}, "required": ["b"]},
            id="other keys when they are required",
        ),
        pytest.param(
            {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]},
            {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]},
            id="other keys when schemas are merged",
        ),
        pytest.param({"anyOf": [{"not": {}}, {"type": "null"}]}, {"anyOf": [False, {"type": "null"}]}, id="never"),
        pytest.param(
            {"type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "string"}},
            {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "string"}},
            id="tuples of older drafts",
        ),
        pytest.param(
            {"type": "array", "items": {"type": "null"}, "additionalItems": False},
            {"type": "array", "items": {"type": "null"}},
            id="additionalItems beside a single schema means nothing",
        ),
        pytest.param(
            {"$ref": "#/definitions/Ü 1", "definitions": {"Ü 1": {"type": "null"}, "unused": {"type": "string"}}},
            {"$ref": "#/$defs/0", "$defs": {"0": {"type": "null"}}},
            id="definitions in use, under names that need no escapes",
        ),
        pytest.param(
            {"type": "object", "properties": {"next": {"$ref": "#"}}},
            {
                "$ref": "#/$defs/0",
                "$defs": {
                    "0": {
                        "type": "object",
                        "properties": {"next": {"$ref": "#/$defs/0"}},
                        "additionalProperties": False,
                    }
                },
            },
            id="a schema that refers to itself",
        ),
        pytest.param(
            {
                "discriminator": {"propertyName": "k"},
                "oneOf": [{"$ref": "#/$defs/a"}, {"type": "null"}],
                "$defs": {"a": {"type": "string"}},
            },
            {
                "oneOf": [{"$ref": "#/$defs/0"}, {"type": "null"}],
                "$defs": {"0": {"type": "string"}},
                "x-guidance": {"coerce_one_of": True},
            },
            id="a discriminated union",
        ),
    ],
)
def test_what_is_sent(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    assert rewritten(schema) == (sent, [])


@pytest.mark.parametrize(
    ("schema", "sent", "note"),
    [
        ({"format": "uri"}, {}, "/format is not enforced: uri"),
        ({"uniqueItems": True}, {}, "/uniqueItems is not enforced"),
        ({"not": {"type": "null"}}, {}, "/not is not enforced"),
        ({"if": {}, "then": {}}, {}, "/if is not enforced"),
        ({"contains": {}}, {}, "/contains is not enforced"),
        ({"propertyNames": {}}, {}, "/propertyNames is not enforced"),
        ({"dependentRequired": {"a": ["b"]}}, {}, "/dependentRequired is not enforced"),
        ({"unevaluatedProperties": False}, {}, "/unevaluatedProperties is not enforced"),
        ({"minimum": -(2**63), "maximum": 5}, {"maximum": 5}, "/minimum is not enforced"),
        ({"exclusiveMaximum": 1e-300}, {}, "/exclusiveMaximum is not enforced"),
        ({"const": 2**60}, {}, "/const is not enforced"),
        ({"enum": [{"a": [1e300]}]}, {}, "/enum is not enforced"),
        ({"multipleOf": 0.07}, {}, "/multipleOf is not enforced"),
        (
            {"properties": {"a": {}, "b": {}}, "required": ["a"], "maxProperties": 1, "additionalProperties": {}},
            {"properties": {"a": {}, "b": {}}, "required": ["a"], "additionalProperties": {}},
            "/maxProperties is not enforced",
        ),
        (
            {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            {"oneOf": [{"type": "integer"}, {"type": "number"}], "x-guidance": {"coerce_one_of": True}},
            "/oneOf is enforced as anyOf",
        ),
    ],
)
def test_what_the_engine_cannot_enforce_is_left_out_and_named(
    schema: dict[str, Any], sent: dict[str, Any], note: str
) -> None:
    assert rewritten(schema) == (sent, [note])


def test_parts_are_named_where_the_client_wrote_them() -> None:
    schema = {
        "type": "array",
        "items": [{"$ref": "#/$defs/a~1b"}],
        "additionalItems": {"format": "path"},
        "$defs": {"a/b": {"properties": {"x~y": {"uniqueItems": True}}}},
    }
    assert rewritten(schema)[1] == [
        "/additionalItems/format is not enforced: path",
        "/$defs/a~1b/properties/x~0y/uniqueItems is not enforced",
    ]


def test_a_part_that_is_used_twice_is_named_once() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/u"}, "b": {"$ref": "#/$defs/u"}}, "$defs": {"u": {"format": "uri"}}}
    assert rewritten(schema)[1] == ["/$defs/u/format is not enforced: uri"]


@pytest.mark.parametrize(
    "schema",
    [
        {"uniqueItems": False, "unevaluatedProperties": True},
        {"minProperties": 1, "maxProperties": 3, "additionalProperties": {"type": "string"}},
        {"const": True},
        {"minimum": 0, "maximum": 2**53},
        {"multipleOf": 0.01},
        {"x-anything": {"not": {}}, "deprecated": True, "examples": [1e300]},
    ],
)
def test_what_loses_nothing_has_no_note(schema: dict[str, Any]) -> None:
    assert rewritten(schema)[1] == []


def test_the_clients_schema_is_left_as_it_is() -> None:
    schema = {"properties": {"a": {"format": "uri", "items": [{}]}}, "oneOf": [{"$ref": "#/properties/a"}]}
    before = repr(schema)
    rewritten(schema)
    assert repr(schema) == before

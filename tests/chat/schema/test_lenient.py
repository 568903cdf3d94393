"""Parameters of tools as clients write them: what is meant, and what the engine's chat can read."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.chat.schema import as_meant, check_schema, readable
from llamero.chat.schema.subschemas import MAX_DEPTH


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param({"type": "string, integer"}, {"type": ["string", "integer"]}, id="a union of the Python client's"),
        pytest.param({"type": "string, date"}, {"type": "string, date"}, id="a text that is no union"),
        pytest.param(
            {"type": "object", "properties": None, "required": None, "description": None, "$defs": None},
            {"type": "object"},
            id="null of a client in Go",
        ),
        pytest.param({"const": None, "default": None}, {"const": None, "default": None}, id="null that is a value"),
        pytest.param(
            of(a={"items": None, "anyOf": [{"type": "null, array", "enum": None}]}),
            of(a={"anyOf": [{"type": ["null", "array"]}]}),
            id="further down",
        ),
        pytest.param({"properties": ["a"], "items": 3}, {"properties": ["a"], "items": 3}, id="what is no schema"),
        pytest.param(
            {"required": [], "anyOf": [], "$defs": {}}, {"required": [], "anyOf": [], "$defs": {}}, id="empty"
        ),
    ],
)
def test_what_clients_mean(written: dict[str, Any], meant: dict[str, Any]) -> None:
    assert as_meant(written) == meant


@pytest.mark.parametrize(
    "schema",
    [
        of(b={"type": "string", "title": "B", "x-own": [1]}, a={"$ref": "#/$defs/A"}) | {"$defs": {"A": {"enum": [1]}}},
        {"type": "object", "additionalProperties": False, "required": ["a"]},
        {"type": "object", "additionalProperties": {"type": ["string", "null"]}, "patternProperties": {"^x": {}}},
        of(a={"anyOf": [{"type": "array", "items": {"const": None}}, {"type": "null"}], "default": None}),
        of(a={"prefixItems": [{"type": "string"}], "minItems": 1}),
    ],
)
def test_a_sound_schema_stays_as_it_is_in_its_order(schema: dict[str, Any]) -> None:
    made, notes = readable(schema)
    assert (made, notes) == (schema, [])
    assert list(made) == list(schema)


@pytest.mark.parametrize(
    ("schema", "left", "place"),
    [
        (of(a={"type": "str", "title": "A"}), of(a={"title": "A"}), "/properties/a/type "),
        (of(a={"enum": []}), of(a={}), "/properties/a/enum "),
        (of(a={"minimum": "3"}), of(a={}), "/properties/a/minimum "),
        (of(a={"$ref": "#/nowhere"}), of(a={}), "/properties/a/$ref refers to #/nowhere, which is not there"),
        (of(a={"$ref": "#"}), of(a={}), "/properties/a/$ref is a reference that the engine does not follow"),
        (of(a={"$ref": "other.json"}), of(a={}), "/properties/a/$ref refers to another document"),
        (of(a={"items": 3}), of(a={}), "/properties/a/items holds what is neither an object nor true or false"),
        (of(a=None), {"type": "object"}, "/properties holds what is neither an object nor true or false"),
        ({"properties": ["a"]}, {}, "/properties is not an object"),
    ],
)
def test_a_keyword_at_fault_is_left_out_and_told(schema: dict[str, Any], left: dict[str, Any], place: str) -> None:
    made, [note] = readable(schema)
    assert made == left
    assert note.startswith(place)
    assert note.endswith("; it is not enforced")


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        (of(a=True, b=False), of(a={}, b={"not": {}})),
        ({"items": True}, {"items": {}}),
        ({"prefixItems": [True], "items": False}, {"prefixItems": [{}]}),
        ({"additionalProperties": True}, {"additionalProperties": True}),
    ],
)
def test_schemas_that_are_booleans_are_written_as_objects(schema: dict[str, Any], made: dict[str, Any]) -> None:
    check_schema(schema)
    assert readable(schema) == (made, [])


def test_nesting_ends_somewhere() -> None:
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"items": schema}
    made, [note] = readable(as_meant(schema))
    assert "is nested deeper than" in note
    for _ in range(MAX_DEPTH - 1):
        made = made["items"]
    assert made == {}

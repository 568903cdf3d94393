"""What `format` may be, and which schemas are refused before the engine sees them. native-api §2.4, security §5."""

from __future__ import annotations

import datetime
import decimal
import enum
import time
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
import pytest

from llamero.chat.schema import check_schema, parse_format
from llamero.errors import BadRequest, LlameroError

CPU_LIMIT_S = 0.2
"""For any schema, also the worst (X-63)."""


def fault(schema: dict[str, Any]) -> str:
    """The part and the reason that a schema is refused with."""
    with pytest.raises(BadRequest) as caught:
        check_schema(schema)
    prefix, part_and_reason = str(caught.value).split(": ", 1)
    assert (prefix, caught.value.status) == ("invalid format", 400)
    return part_and_reason


def cpu_seconds(call: Callable[[], object]) -> float:
    """The best of three: the machine may be busy with other things."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return min(seconds)


def nested(wrap: Any, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = wrap(schema)
    return schema


# --- the values of `format` -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (None, None),
        ("", None),
        ("json", "json"),
        ({}, "json"),
        ({"type": "string"}, {"type": "string"}),
    ],
)
def test_format_values(value: Any, meaning: Any) -> None:
    """R-56; partly N-72: null and the empty text are no constraint. An empty schema means an object."""
    assert parse_format(value) == meaning


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("xml", r'"\"xml\""'),
        ("JSON", r'"\"JSON\""'),
        (5, '"5"'),
        (0, '"0"'),
        (1.5, '"1.5"'),
        (True, '"true"'),
        (False, '"false"'),
        ([], '"[]"'),
        (["a", {"b": None}], r'"[\"a\",{\"b\":null}]"'),
        ("a\\b\n", r'"\"a\\\\b\\n\""'),
        ("é\u200b\x7f\U000e0001", r'"\"é\u200b\x7f\U000e0001\""'),
    ],
)
def test_any_other_format_is_quoted_as_go_does(value: Any, quoted: str) -> None:
    """R-56; partly N-72: the text for `"xml"`."""
    with pytest.raises(LlameroError) as caught:
        parse_format(value)
    assert caught.value.status == 500
    assert str(caught.value) == f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'


def test_a_huge_wrong_format_is_not_repeated_in_full() -> None:
    with pytest.raises(LlameroError) as caught:
        parse_format("x" * 1_000_000)
    assert len(str(caught.value)) < 2_000


# --- schemas that real clients send ---------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, pydantic.Field(ge=0, lt=10)] = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str | None = pydantic.Field(default=None, deprecated=True, description="what it hears", examples=["Rex"])


class Tree(pydantic.BaseModel):
    value: int
    left: Tree | None = None
    children: list[Tree] = []


class Everything(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    colour: Colour
    mixed: Literal[1, "x", None]
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    either: Cat | Dog
    tree: Tree
    price: decimal.Decimal
    day: datetime.date
    moment: datetime.datetime
    length: datetime.timedelta
    id: uuid.UUID
    page: pydantic.HttpUrl
    blob: bytes
    secret: pydantic.SecretStr
    numbers: set[int]
    pair: tuple[int, str]
    nothing: tuple[()] = ()
    counts: dict[str, int]
    by_prefix: dict[Annotated[str, pydantic.Field(pattern="^x-")], int]
    slug: Annotated[str, pydantic.Field(min_length=1, max_length=5000, pattern=r"^[\w-]+$")]
    share: Annotated[float, pydantic.Field(gt=0, le=1, multiple_of=0.5)]
    few: Annotated[list[Cat], pydantic.Field(min_length=1, max_length=10)]
    size: pydantic.ByteSize
    anything: Any


@pytest.mark.parametrize("model", [Everything, Tree, Cat])
def test_what_pydantic_generates_passes(model: type[pydantic.BaseModel]) -> None:
    check_schema(model.model_json_schema())
    check_schema(model.model_json_schema(mode="serialization"))


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({}, id="anything"),
        pytest.param({"type": "object"}, id="any object"),
        pytest.param({"title": "x", "description": "y", "default": {"a": []}, "x-anything": 1}, id="annotations only"),
        pytest.param(
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "email": {"type": "string", "format": "email"},
                    "site": {"type": "string", "format": "uri"},
                    "age": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
                    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 20},
                    "nullable": {"anyOf": [{"not": {}}, {"type": ["string", "null"]}]},
                    "never": {"not": {}},
                    "record": {"type": "object", "additionalProperties": {"type": "number"}},
                    "same": {"$ref": "#/properties/name"},
                    "tuple": {"type": "array", "minItems": 2, "maxItems": 2, "items": [{"type": "string"}, {}]},
                },
                "required": ["name", "email"],
                "additionalProperties": False,
            },
            id="zod-to-json-schema",
        ),
        pytest.param(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "parent": {"$ref": "#"},
                    "id": {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}$"},
                },
                "required": ["id"],
                "additionalProperties": False,
            },
            id="zod 4, recursive",
        ),
        pytest.param(
            {
                "type": "object",
                "properties": {"expression": {"$ref": "#/$defs/expression"}},
                "required": ["expression"],
                "$defs": {
                    "expression": {
                        "anyOf": [
                            {"type": "number"},
                            {
                                "type": "object",
                                "properties": {"op": {"enum": ["+", "-"]}, "args": {"$ref": "#/$defs/arguments"}},
                                "required": ["op", "args"],
                            },
                        ]
                    },
                    "arguments": {"type": "array", "items": {"$ref": "#/$defs/expression"}, "minItems": 2},
                },
            },
            id="required recursion with a way out",
        ),
        pytest.param({"type": "array", "items": {"$ref": "#"}}, id="an array of itself"),
        pytest.param(
            {
                "allOf": [{"$ref": "#/definitions/base"}],
                "properties": {"b": {}},
                "definitions": {"base": {"type": "object"}},
            },
            id="inheritance",
        ),
        pytest.param(
            {"$ref": "#/components/schemas/A~1%20B", "components": {"schemas": {"A/ B": {"type": "null"}}}},
            id="OpenAPI components, escaped names",
        ),
        pytest.param({"type": "string", "enum": ["a", None], "nullable": True}, id="one enum value of another type"),
        pytest.param({"minimum": 1, "exclusiveMinimum": True, "maximum": 2, "type": "integer"}, id="draft 4"),
        pytest.param({"type": "object", "properties": {"a": False, "b": True}}, id="boolean schemas"),
        pytest.param(
            {"if": {"type": "string"}, "then": {"minLength": 1}, "dependentRequired": {}}, id="beyond the engine"
        ),
        pytest.param(
            {"properties": {"type": {"type": "string"}, "$ref": {"enum": ["x"]}}}, id="keys named like keywords"
        ),
        pytest.param({"type": "integer", "const": 5.0}, id="5.0 is an integer"),
        pytest.param(nested(lambda inner: {"type": "array", "items": inner}, 31), id="32 deep"),
        pytest.param({"properties": {str(i): {"type": "string"} for i in range(1_999)}}, id="2,000 schemas"),
        pytest.param({"enum": [f"value {i}" for i in range(1_000)]}, id="1,000 enum values"),
    ],
)
def test_schemas_of_real_clients_pass(schema: dict[str, Any]) -> None:
    check_schema(schema)


# --- malformed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "any"}, "/type: is none of null, boolean, integer, number, string, array, object"),
        ({"type": ["string", 5]}, "/type: is none of null, boolean, integer, number, string, array, object"),
        ({"type": None}, "/type: is none of null, boolean, integer, number, string, array, object"),
        ({"type": []}, "/type: allows no type"),
        ({"enum": []}, "/enum: is not a list of at least one"),
        ({"anyOf": []}, "/anyOf: is not a list of at least one"),
        ({"oneOf": {}}, "/oneOf: is not a list of at least one"),
        ({"allOf": {}}, "/allOf: is not a list"),
        ({"properties": []}, "/properties: is not an object"),
        ({"properties": {"a": 5}}, "/properties/a: is neither an object nor true or false"),
        ({"properties": {"a/b~c": None}}, "/properties/a~1b~0c: is neither an object nor true or false"),
        ({"items": "string"}, "/items: is neither an object nor true or false"),
        ({"items": [{}, 5]}, "/items/1: is neither an object nor true or false"),
        ({"additionalProperties": None}, "/additionalProperties: is neither an object nor true or false"),
        ({"prefixItems": {}}, "/prefixItems: is not a list"),
        ({"$defs": []}, "/$defs: is not an object"),
        ({"required": True}, "/required: is not a list of names"),
        ({"required": [1]}, "/required: is not a list of names"),
        ({"pattern": 5}, "/pattern: is not text"),
        ({"format": 5}, "/format: is not text"),
        ({"minLength": "5"}, "/minLength: is not a whole number up to 1000000"),
        ({"maxLength": 2.0}, "/maxLength: is not a whole number up to 1000000"),
        ({"minItems": -1}, "/minItems: is not a whole number up to 1000"),
        ({"minProperties": True}, "/minProperties: is not a whole number up to 1000"),
        ({"minimum": "0"}, "/minimum: is not a number"),
        ({"maximum": True}, "/maximum: is not a number"),
        ({"exclusiveMaximum": None}, "/exclusiveMaximum: is not a number"),
        ({"multipleOf": 0}, "/multipleOf: is not a number above 0"),
        ({"patternProperties": {"(": {}}}, "/patternProperties: the pattern has a group that is not closed"),
        ({"patternProperties": {"a": {}, "b": {}}}, "/patternProperties: more than one pattern is not supported"),
        ({"const": "\ud800"}, "(root): holds text or a number that JSON cannot carry"),
        ({"minimum": 10**5000}, "(root): holds text or a number that JSON cannot carry"),
    ],
)
def test_malformed_keywords_are_named(schema: dict[str, Any], expected: str) -> None:
    assert fault(schema) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("#/nowhere", "refers to #/nowhere, which is not there"),
        ("#/properties/a/b", "refers to #/properties/a/b, which is not there"),
        ("#/anyOf/1", "refers to #/anyOf/1, which is not there"),
        ("#/anyOf/-1", "refers to #/anyOf/-1, which is not there"),
        ("#anchor", "refers to an anchor; write a path like #/$defs/name"),
        ("https://example.com/schema.json", "refers to another document"),
        ("file:///etc/passwd", "refers to another document"),
        ("other", "refers to another document"),
        ("#/%ff", "is not a reference"),
        (5, "is not text"),
    ],
)
def test_references_to_nowhere_are_named(reference: Any, expected: str) -> None:
    """Partly N-71: 400 naming the part."""
    schema = {"type": "object", "properties": {"a": {"$ref": reference}}, "anyOf": [{}]}
    assert fault(schema) == f"/properties/a/$ref: {expected}"


def test_a_reference_to_something_that_is_no_schema() -> None:
    schema = {"$ref": "#/$defs/a/const", "$defs": {"a": {"const": 5}}}
    assert fault(schema) == "/$defs/a/const: is neither an object nor true or false"


# --- what no value satisfies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"minimum": 5, "maximum": 3}, "/minimum: no number is between 5 and 3"),
        ({"minimum": 3, "exclusiveMaximum": 3}, "/minimum: no number is between 3 and 3"),
        ({"exclusiveMinimum": 0.5, "exclusiveMaximum": 0.5}, "/exclusiveMinimum: no number is between 0.5 and 0.5"),
        ({"minimum": 1, "exclusiveMinimum": True, "maximum": 1}, "/minimum: no number is between 1 and 1"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "/minimum: no integer is between 0.2 and 0.8"),
        ({"type": ["integer", "null"], "minimum": 0.2, "maximum": 0.8}, "/minimum: no integer is between 0.2 and 0.8"),
        ({"minimum": 1, "maximum": 4, "multipleOf": 5}, "/minimum: no multiple of 5 is between 1 and 4"),
        (
            {"minimum": 0.31, "maximum": 0.39, "multipleOf": 0.1},
            "/minimum: no multiple of 0.1 is between 0.31 and 0.39",
        ),
        ({"minLength": 3, "maxLength": 1}, "/minLength: minLength 3 is above maxLength 1"),
        ({"minItems": 3, "maxItems": 1}, "/minItems: minItems 3 is above maxItems 1"),
        ({"minProperties": 1, "maxProperties": 0}, "/minProperties: minProperties 1 is above maxProperties 0"),
        ({"allOf": [{"minimum": 5}, {"maximum": 3}]}, "/allOf: no number is between 5 and 3"),
        ({"type": "string", "const": 5}, "/const: contradicts the keywords beside it"),
        ({"type": "integer", "enum": ["a", 5.5]}, "/enum: contradicts the keywords beside it"),
        ({"enum": ["a", "b"], "minLength": 2}, "/enum: contradicts the keywords beside it"),
        ({"const": True, "type": "number"}, "/const: contradicts the keywords beside it"),
        ({"const": 5, "maximum": 3}, "/const: contradicts the keywords beside it"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "/allOf: contradicts the keywords beside it"),
        (
            {"type": "string", "anyOf": [{"type": "null"}, {"type": "array"}]},
            "/anyOf: contradicts the keywords beside it",
        ),
        (
            {"type": "array", "$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}},
            "/$ref: contradicts the keywords beside it",
        ),
        ({"anyOf": [False, {"not": {}}]}, "/anyOf: none of these can be satisfied"),
    ],
)
def test_contradictions_are_named(schema: dict[str, Any], expected: str) -> None:
    assert fault(schema) == expected
    assert fault(
        {"type": "object", "properties": {"deep down": schema}} | {k: v for k, v in schema.items() if k == "$defs"}
    ) == (f"/properties/deep down{expected}")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"required": ["a"], "additionalProperties": False}, '/required: asks for "a", which is ruled out'),
        ({"required": ["a"], "properties": {"a": False}}, '/required: asks for "a", which is ruled out'),
        ({"required": ["a"], "properties": {"a": {"not": {}}}}, '/required: asks for "a", which is ruled out'),
        (
            {
                "allOf": [
                    {"properties": {"a": {}}, "required": ["a"], "additionalProperties": False},
                    {"properties": {"b": {}}, "required": ["b"], "additionalProperties": False},
                ]
            },
            '/allOf: asks for "',
        ),
        ({"required": ["a", "b"], "maxProperties": 1}, "/maxProperties: allows 1 keys where 2 are required"),
        (
            {"properties": {"a": {}}, "additionalProperties": False, "minProperties": 2},
            "/minProperties: asks for 2 keys where 1 are known",
        ),
    ],
)
def test_objects_that_cannot_be_are_named(schema: dict[str, Any], expected: str) -> None:
    assert fault({"type": "object", **schema}).startswith(expected)


@pytest.mark.parametrize(
    "schema",
    [
        {"items": False, "minItems": 1},
        {"prefixItems": [{}], "items": False, "minItems": 2},
        {"items": [{}], "additionalItems": False, "minItems": 2},
        {"prefixItems": [False], "minItems": 1},
    ],
)
def test_arrays_that_cannot_be_are_named(schema: dict[str, Any]) -> None:
    assert fault({"type": "array", **schema}) == "/minItems: asks for items that nothing satisfies"


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"$ref": "#"}, "/$ref"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/$defs/b/$ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "/properties/a/$ref"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "/items/$ref"),
        ({"anyOf": [{"$ref": "#"}]}, "/anyOf/0/$ref"),
    ],
)
def test_recursion_without_a_way_out_is_named(schema: dict[str, Any], part: str) -> None:
    assert fault(schema) == f"{part}: refers to what no finite value satisfies"


def test_recursion_that_the_engine_cannot_merge_is_refused() -> None:
    # llguidance: "circular references with sibling keys are not supported", and then it answers freely
    schema = {"type": "object", "properties": {"next": {"$ref": "#", "required": ["id"]}}}
    assert fault(schema).startswith("/properties/next/$ref: refers to a schema around it beside other keywords")


# --- bombs ----------------------------------------------------------------------------------------------------------

KIB = 1024


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"description": "x" * 256 * KIB}, "(root): larger than 256 KiB", id="text"),
        pytest.param({"default": [1] * 10_000_000}, "(root): larger than 256 KiB", id="values"),
        pytest.param(
            nested(lambda inner: {"items": inner}, 32), "/items" * 32 + ": nested deeper than 32 schemas", id="33 deep"
        ),
        pytest.param(nested(lambda inner: {"not": inner}, 10_000), "(root): nested deeper than 32 schemas", id="deep"),
        pytest.param(
            {"const": nested(lambda inner: {"a": inner}, 500)}, "(root): nested deeper than 32 schemas", id="deep value"
        ),
        pytest.param(
            {"properties": {str(i): {} for i in range(2_000)}},
            "/properties/1999: more than 2000 schemas",
            id="2,001 schemas",
        ),
        pytest.param({"enum": list(range(1_001))}, "/enum: more than 1000 values in all", id="1,001 enum values"),
        pytest.param(
            {"prefixItems": [{"enum": list(range(501))}, {"enum": list(range(501))}]},
            "/prefixItems/1/enum: more than 1000 values in all",
            id="enum values in all",
        ),
        pytest.param({"maxItems": 1_001}, "/maxItems: is not a whole number up to 1000", id="items"),
        pytest.param({"minLength": 10**9}, "/minLength: is not a whole number up to 1000000", id="characters"),
        pytest.param(
            {"anyOf": [{"type": "array", "maxItems": 1_000} for _ in range(400)]},
            "/anyOf/20: more than 20000 items in all",
            id="items in all",
        ),
        pytest.param(
            {"allOf": [{"anyOf": [{"minimum": i} for i in range(10)]} for _ in range(20)]},
            "(root): more than 2000 combinations of alternatives",
            id="combinations",
        ),
        pytest.param(
            {
                "$defs": {str(i): {"$ref": f"#/$defs/{i + 1}", "minLength": 1} for i in range(1_900)}
                | {"1900": {"minLength": 2}}
            },
            "/$defs/1836: merges more than 64 schemas",
            id="merged references",
        ),
        pytest.param(
            {"$defs": {str(i): {"$ref": f"#/$defs/{(i + 1) % 1900}"} for i in range(1_900)}},
            "/$defs/1899/$ref: refers to what no finite value satisfies",
            id="$ref cycle",
        ),
        pytest.param({"$ref": "#/" + "a/" * 100_000}, "/$ref: refers to #/a/", id="long reference"),
        pytest.param({"pattern": "(" * 60_000}, "/pattern: is longer than 512 characters", id="long pattern"),
        pytest.param({"pattern": "(" * 17 + ")" * 17}, "/pattern: nests groups deeper than 16", id="nested pattern"),
    ],
)
def test_bombs_are_refused_at_once(schema: dict[str, Any], expected: str) -> None:
    """X-63: 400 within 200 ms."""
    assert fault(schema).startswith(expected)
    assert cpu_seconds(lambda: fault(schema)) < CPU_LIMIT_S


def chain(count: int) -> dict[str, Any]:
    return {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(count)} | {str(count): {"type": "string"}}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"$ref": "#/$defs/0", "$defs": chain(1_990)}, id="1,990 references in a row"),
        pytest.param(
            {
                "required": [f"p{i}" for i in range(600)],
                "properties": {f"p{i}": {"$ref": f"#/$defs/{i}"} for i in range(600)},
                "$defs": chain(600),
            },
            id="600 required keys that wait for each other",
        ),
        pytest.param(
            {"required": [str(i) for i in range(30_000)], "additionalProperties": {}}, id="30,000 required keys"
        ),
        pytest.param({"properties": {str(i): {"pattern": "(a|b)*" * 80} for i in range(480)}}, id="480 long patterns"),
        pytest.param(
            {"properties": {str(i): {"minimum": 1e-300, "maximum": 1e300, "multipleOf": 3e-300} for i in range(1_900)}},
            id="extreme numbers",
        ),
    ],
)
def test_the_dearest_schemas_that_pass_are_checked_at_once(schema: dict[str, Any]) -> None:
    """Partly X-63."""
    assert cpu_seconds(lambda: check_schema(schema)) < CPU_LIMIT_S


def test_a_long_place_is_shortened_in_the_text() -> None:
    schema = nested(lambda inner: {"properties": {"k" * 5_000: inner}}, 20)
    schema["properties"]["k" * 5_000]["type"] = "frob"
    assert len(fault(schema)) < 400


def test_checking_keeps_nothing() -> None:
    """Partly X-65: memory stays flat over distinct schemas."""
    check_schema({"properties": {"warm": {"pattern": "^up$"}}})
    tracemalloc.start()
    try:
        for i in range(1_000):
            check_schema(
                {"properties": {f"key {i}": {"type": "string", "pattern": f"^{i}$"}}, "required": [f"key {i}"]}
            )
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 100 * KIB

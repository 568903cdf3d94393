"""native-api §1.5 and §2.7: tools in requests, with keys in any case, and refused in the reference's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.native import read_chat
from llamero.errors import BadRequest


def tools_of(*tools: Any) -> tuple[dict[str, Any], ...]:
    return read_chat(json.dumps({"model": "m", "tools": tools}).encode()).tools


def test_keys_match_in_any_case_and_names_and_other_keywords_stay_as_they_are() -> None:
    """Programs in C# and Go send their own structs, spelled as they are there."""
    city = {"Type": "string", "ENUM": ["Rome"], "MinLength": 1, "default": None}
    parameters = {"Type": "object", "Required": ["City"], "Properties": {"City": city, "type": {"AnyOf": [city]}}}
    (tool,) = tools_of({"Type": "function", "Function": {"Name": "f", "Strict": True, "Parameters": parameters}})
    meant = {"type": "string", "enum": ["Rome"], "MinLength": 1, "default": None}
    assert tool == {
        "type": "function",
        "function": {
            "name": "f",
            "Strict": True,
            "parameters": {
                "type": "object",
                "required": ["City"],
                "properties": {"City": meant, "type": {"anyOf": [meant]}},
            },
        },
    }


@pytest.mark.parametrize(
    ("tool", "read"),
    [
        (None, {}),
        ({"type": None, "function": None}, {}),
        ({"function": {"name": None, "parameters": None}}, {"function": {}}),
        ({"function": {"parameters": {"required": None, "properties": None}}}, {"function": {"parameters": {}}}),
    ],
)
def test_null_is_the_same_as_absent(tool: Any, read: dict[str, Any]) -> None:
    assert tools_of(tool) == (read,)


@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ("f", "string into Go struct field ChatRequest.tools of type api.Tool"),
        ({"type": 3}, "number into Go struct field Tool.tools.type of type string"),
        ({"function": []}, "array into Go struct field Tool.tools.function of type api.ToolFunction"),
        ({"function": {"name": 3}}, "number into Go struct field ToolFunction.tools.function.name of type string"),
        (
            {"function": {"description": True}},
            "bool into Go struct field ToolFunction.tools.function.description of type string",
        ),
    ],
)
def test_a_wrong_type_is_refused_by_its_place(tool: Any, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        tools_of(tool)
    assert str(caught.value) == f"json: cannot unmarshal {error}"


def test_properties_that_are_no_object_have_an_error_of_their_own() -> None:
    with pytest.raises(BadRequest, match=r"^Value looks like object, but can't find closing '}' symbol$"):
        tools_of({"function": {"parameters": {"properties": []}}})

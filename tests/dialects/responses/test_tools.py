"""Tools become functions for the model, and keep their own names for the client (compat-api §8.3)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.dialects.responses.tools import Called, Toolbox, custom_input, read_tools
from llamero.errors import InvalidField
from tests.dialects.responses.scenes import body

SCHEMA = {"type": "object", "properties": {"z": {"$ref": "#/$defs/n"}, "a": {}}, "$defs": {"n": {"minimum": 1}}}


def tools(*given: Any, **fields: Any) -> Toolbox:
    return read_tools(body(tools=list(given), **fields))


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **more}


def namespace(name: str, *members: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "d", "tools": list(members)}


def names(box: Toolbox) -> list[str]:
    return [tool["function"]["name"] for tool in box.functions]


def test_functions_keep_their_whole_schema() -> None:
    box = tools(function("f", description="d", parameters=SCHEMA, strict=True, defer_loading=False))
    assert box.functions == (
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}},
    )
    assert box.called == {"f": Called("f")}


def test_null_is_absent() -> None:
    box = tools(function("f", description=None, parameters=None, strict=None))
    assert box.functions == ({"type": "function", "function": {"name": "f"}},)


def test_members_of_namespaces_are_qualified_once() -> None:
    """partly C-74"""
    box = tools(namespace("ns", function("f"), function("ns.g"), namespace("inner", function("h"))), function("f"))
    assert names(box) == ["ns.f", "ns.g", "ns.inner.h", "f"]
    assert box.called == {
        "ns.f": Called("f", "ns"),
        "ns.g": Called("g", "ns"),
        "ns.inner.h": Called("h", "ns.inner"),
        "f": Called("f"),
    }


def test_a_custom_tool_is_a_function_of_one_text() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    box = tools({"type": "custom", "name": "patch", "description": "Edits.", "format": grammar})
    (tool,) = box.functions
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert tool["function"]["description"] == "Edits.\n\nThe input follows this lark grammar:\nstart: WORD"
    assert box.called == {"patch": Called("patch", is_custom=True)}
    assert box.warnings == ("tools[0].format: the grammar is told to the model, and not enforced",)


def test_custom_tools_may_be_members_too() -> None:
    box = tools(namespace("ns", {"type": "custom", "name": "patch", "format": {"type": "text"}}))
    assert box.called == {"ns.patch": Called("patch", "ns", is_custom=True)}
    assert box.warnings == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input": "a b"}, "a b"),
        ({}, "{}"),
        ({"input": 3}, '{"input":3}'),
        ({"input": "a", "b": 1}, '{"input":"a","b":1}'),
    ],
)
def test_the_text_for_a_custom_tool(arguments: dict[str, Any], text: str) -> None:
    assert custom_input(arguments) == text


@pytest.mark.parametrize(
    ("tool", "message", "param"),
    [
        ({"type": "web_search"}, "needs a search provider", "tools[0].type"),
        ({"type": "file_search", "vector_store_ids": []}, "'file_search' are not supported", "tools[0].type"),
        ({"type": "mcp", "server_label": "x"}, "'mcp' are not supported", "tools[0].type"),
        ({"name": "f"}, "are not supported", "tools[0].type"),
        (function(""), "is required", "tools[0].name"),
        (function("f", parameters=[]), "must be an object", "tools[0].parameters"),
        (function("f", parameters={"properties": 1}), "must be an object", "tools[0].parameters.properties"),
        (function("f", strict="yes"), "must be true or false", "tools[0].strict"),
        (namespace("", function("f")), "is required", "tools[0].name"),
        (namespace("ns", {"type": "web_search"}), "needs a search provider", "tools[0].tools[0].type"),
    ],
)
def test_tools_that_are_refused(tool: Any, message: str, param: str) -> None:
    with pytest.raises(InvalidField, match=message) as caught:
        tools(tool)
    assert caught.value.param == param


def test_a_search_beside_other_tools_is_left_out_with_a_warning() -> None:
    """Coding agents always offer one."""
    box = tools(function("f"), {"type": "web_search", "external_web_access": True})
    assert [tool["function"]["name"] for tool in box.functions] == ["f"]
    [warning] = box.warnings
    assert "tools[1]: web_search needs a search provider" in warning


def test_too_many_tools() -> None:
    with pytest.raises(InvalidField, match="at most 512"):
        tools(namespace("ns", *[function(f"f{number}") for number in range(513)]))


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, None),
        ("required", "required"),
        (function("f"), {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "patch"}, {"type": "function", "function": {"name": "patch"}}),
        (function("g", namespace="ns"), {"type": "function", "function": {"name": "ns.g"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [function("f"), {"type": "custom", "name": "patch"}]},
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "function", "function": {"name": "patch"}},
                ],
            },
        ),
    ],
)
def test_choices_are_put_in_the_words_of_chat(choice: Any, read: Any) -> None:
    """partly C-82"""
    given = (function("f"), {"type": "custom", "name": "patch"}, namespace("ns", function("g")))
    box = tools(*given, tool_choice=choice, parallel_tool_calls=False)
    assert box.choice == read
    assert box.is_parallel is False


@pytest.mark.parametrize(
    "choice",
    ["f", 3, function("unknown"), function("g"), {"type": "web_search"}, {"type": "allowed_tools", "mode": "auto"}],
)
def test_choices_that_are_refused(choice: Any) -> None:
    with pytest.raises(InvalidField, match="tool_choice") as caught:
        tools(function("f"), namespace("ns", function("g")), tool_choice=choice)
    assert caught.value.param == "tool_choice"


def test_nothing_can_be_required_of_no_tools() -> None:
    with pytest.raises(InvalidField, match="has no tools"):
        read_tools(body(tool_choice="required"))

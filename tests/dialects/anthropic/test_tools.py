"""compat-api §9.4: tools and the choice among them, in the words that templates and `chat.choice` know."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.chat.choice import ToolChoice, parse_choice
from llamero.chat.schema import check_schema
from llamero.dialects.anthropic.tools import read_choice, read_tools
from llamero.dialects.fields import Fields
from llamero.errors import InvalidField

SCHEMA = {
    "type": "object",
    "properties": {"z": {"$ref": "#/$defs/n"}, "a": {"oneOf": [{"type": "null"}]}},
    "$defs": {"n": {}},
}


def read(*tools: Any) -> tuple[dict[str, Any], ...]:
    return read_tools(Fields({"tools": list(tools)})).tools


def function(*tools: Any) -> dict[str, Any]:
    (tool,) = read(*tools)
    assert tool["type"] == "function"
    described: dict[str, Any] = tool["function"]
    return described


def refused(*tools: Any) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        read(*tools)
    return caught.value


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": "custom"}])
def test_a_clients_tool_keeps_its_whole_schema(kind: dict[str, Any]) -> None:
    read_in = function({"name": "add", "description": "Adds.", "input_schema": SCHEMA, **kind})
    assert read_in == {"name": "add", "description": "Adds.", "parameters": SCHEMA}
    assert list(read_in["parameters"]["properties"]) == ["z", "a"]


def test_a_tool_without_a_schema_takes_nothing() -> None:
    assert function({"name": "now"}) == {"name": "now", "parameters": {"type": "object", "properties": {}}}


def test_a_strict_tool_stays_strict() -> None:
    assert function({"name": "add", "input_schema": SCHEMA, "strict": True})["strict"] is True
    assert "strict" not in function({"name": "add", "input_schema": SCHEMA, "strict": False})


@pytest.mark.parametrize("schema", ["{}", "", [1], [], 5, False, {"properties": [1]}])
def test_a_schema_that_is_none_is_refused(schema: Any) -> None:
    error = refused({"name": "now"}, {"name": "add", "input_schema": schema})
    assert str(error).startswith('invalid input_schema for tool "add"')
    assert error.param == "tools[1].input_schema"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ("add", "tools[0]"),
        ({}, "tools[0].name"),
        ({"name": ""}, "tools[0].name"),
        ({"name": 1}, "tools[0].name"),
        ({"name": "a", "description": 1}, "tools[0].description"),
        ({"name": "a", "type": 1}, "tools[0].type"),
        ({"name": "a", "strict": "yes"}, "tools[0].strict"),
        ({"type": "web_search_20250305", "name": "web_search"}, "tools[0].type"),
        ({"type": "code_execution_20250825", "name": "code_execution"}, "tools[0].type"),
        ({"type": "web_fetch_20250910", "name": "web_fetch"}, "tools[0].type"),
        ({"type": "tool_search_tool_regex_20251119", "name": "t"}, "tools[0].type"),
        ({"type": "mcp_toolset", "mcp_server_name": "m"}, "tools[0].type"),
        ({"type": "computer_toolset_20260801"}, "tools[0].type"),
        ({"type": "bash", "name": "bash"}, "tools[0].type"),
    ],
)
def test_tools_that_cannot_be_offered(tool: Any, param: str) -> None:
    error = refused(tool)
    assert error.param == param
    assert "tools[0]" in str(error)


def test_the_number_of_tools_is_bounded() -> None:
    assert refused(*[{"name": "a"}] * 513).param == "tools"


def test_fields_of_tools_without_effect_are_named_once() -> None:
    label = {"cache_control": {"type": "ephemeral"}}
    tools: list[Any] = [{"name": name, "defer_loading": True, "input_examples": [], **label} for name in ("a", "b")]
    assert read_tools(Fields({"tools": tools})).warnings == (
        "field 'defer_loading' of tools has no effect",
        "field 'input_examples' of tools has no effect",
    )


def test_a_search_beside_other_tools_is_left_out() -> None:
    """What Ollama serves is not refused: an agent that offers a search lives without one."""
    box = read_tools(Fields({"tools": [{"name": "add"}, {"type": "web_search_20250305", "name": "web_search"}]}))
    assert box.names == {"add"}
    [warning] = box.warnings
    assert "tools[1]: web search needs a search provider" in warning


# --- the published ones --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "name", "fields", "choices"),
    [
        ({"type": "bash_20250124", "name": "bash"}, "bash", {"command", "restart"}, set()),
        ({"type": "bash_20241022"}, "bash", {"command"}, set()),
        (
            {"type": "text_editor_20250124", "name": "str_replace_editor"},
            "str_replace_editor",
            {"command", "path", "file_text", "old_str", "new_str", "insert_line", "view_range"},
            {"view", "create", "str_replace", "insert", "undo_edit"},
        ),
        ({"type": "text_editor_20250429"}, "str_replace_based_edit_tool", {"new_str"}, {"view"}),
        (
            {"type": "text_editor_20250728", "max_characters": 100},
            "str_replace_based_edit_tool",
            {"insert_text", "insert_line", "new_str"},
            {"insert"},
        ),
        (
            {"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600},
            "computer",
            {"action", "coordinate", "start_coordinate", "text", "scroll_direction", "scroll_amount", "duration"},
            {"screenshot", "left_click", "type", "key", "scroll", "wait", "triple_click"},
        ),
        ({"type": "computer_20251124", "enable_zoom": True}, "computer", {"region"}, {"zoom"}),
        (
            {"type": "memory_20250818", "name": "memory"},
            "memory",
            {"command", "path", "view_range", "file_text", "insert_text", "old_path", "new_path"},
            {"view", "create", "str_replace", "insert", "delete", "rename"},
        ),
    ],
)
def test_tools_that_anthropic_publishes_get_their_input(
    tool: Any, name: str, fields: set[str], choices: set[str]
) -> None:
    described = function(tool)
    schema = described["parameters"]
    check_schema(schema)
    assert described["name"] == name
    assert described["description"]
    assert fields <= schema["properties"].keys()
    assert set(schema["required"]) <= schema["properties"].keys()
    first = next(iter(schema["properties"].values()))
    assert choices <= set(first.get("enum", ()))
    assert read_tools(Fields({"tools": [tool]})).warnings == ()


def test_a_computer_says_how_large_its_screen_is() -> None:
    tool = {"type": "computer_20250124", "display_width_px": 800, "display_height_px": 600}
    assert "800 by 600" in function(tool)["description"]


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("text_editor_20250728", "undo_edit"),
        ("text_editor_20250429", "undo_edit"),
        ("computer_20241022", "scroll"),
        ("computer_20251124", "zoom"),
    ],
)
def test_a_version_does_not_know_what_others_know(kind: str, choice: str) -> None:
    first = next(iter(function({"type": kind})["parameters"]["properties"].values()))
    assert choice not in first["enum"]


# --- the choice ----------------------------------------------------------------------------------------------------

TOOLS = [{"name": "add"}, {"name": "sub"}]
BOTH = frozenset({"add", "sub"})


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(is_parallel=False)),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", is_parallel=False)),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required")),
        ({"type": "tool", "name": "sub"}, ToolChoice("required", frozenset({"sub"}), is_parallel=False)),
    ],
)
def test_the_choice_as_the_model_is_held_to_it(choice: Any, meant: ToolChoice) -> None:
    """partly C-93"""
    body = Fields({"tools": TOOLS, "tool_choice": choice})
    raw, is_parallel = read_choice(body, BOTH)
    assert parse_choice(raw, is_parallel, read_tools(body).tools) == meant


@pytest.mark.parametrize(
    ("choice", "names", "param"),
    [
        ("any", BOTH, "tool_choice"),
        ({}, BOTH, "tool_choice.type"),
        ({"type": "required"}, BOTH, "tool_choice.type"),
        ({"type": "tool"}, BOTH, "tool_choice.name"),
        ({"type": "tool", "name": "mul"}, BOTH, "tool_choice.name"),
        ({"type": "any"}, frozenset(), "tool_choice"),
        ({"type": "tool", "name": "add"}, frozenset(), "tool_choice"),
        ({"type": "any", "disable_parallel_tool_use": 1}, BOTH, "tool_choice.disable_parallel_tool_use"),
    ],
)
def test_choices_that_cannot_be(choice: Any, names: frozenset[str], param: str) -> None:
    """partly C-93"""
    with pytest.raises(InvalidField) as caught:
        read_choice(Fields({"tool_choice": choice}), names)
    assert caught.value.param == param


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_a_choice_of_nothing_needs_no_tools(kind: str) -> None:
    assert read_choice(Fields({"tool_choice": {"type": kind}}), frozenset()) == (kind, None)

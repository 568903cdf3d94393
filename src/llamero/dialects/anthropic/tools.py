"""The tools of a request, in OpenAI's words, which is what templates and `chat.choice` know. Pure.

Source: compat-api §9.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidField
from ..fields import Fields
from ..limits import MAX_TOOLS
from .published import published

_KNOWN = frozenset("type name description input_schema strict cache_control".split())


@dataclass(frozen=True, slots=True)
class Tools:
    tools: tuple[dict[str, Any], ...]
    names: frozenset[str]
    warnings: tuple[str, ...]


def read_tools(body: Fields) -> Tools:
    """Raises InvalidField for a tool that would have to run on our side."""
    given = body.objects("tools")
    if len(given) > MAX_TOOLS:
        raise body.invalid("tools", f"tools: at most {MAX_TOOLS} items are accepted")
    functions: list[dict[str, Any]] = []
    searches: list[Fields] = []
    idle: dict[str, None] = {}  # in their order
    for tool in given:
        if (tool.text("type") or "").startswith("web_search"):
            searches.append(tool)
            continue
        function, known = _read_tool(tool)
        functions.append(function)
        idle |= dict.fromkeys(tool.unknown(_KNOWN | known))
    warnings = [f"field {name!r} of tools has no effect" for name in idle]
    return Tools(
        tuple({"type": "function", "function": function} for function in functions),
        frozenset(function["name"] for function in functions),
        (*warnings, *_left_out(searches, is_all=not functions)),
    )


def _left_out(searches: Sequence[Fields], *, is_all: bool) -> Iterator[str]:
    """Agents offer a search beside tools of their own, and live without. Where it is all that a client wants, an
    answer without one is none.
    """
    for tool in searches:
        lack = f"{tool.path}: web search needs a search provider, and none is configured"
        if is_all:
            raise tool.invalid("type", lack)
        yield f"{lack}; the model does not see it"


def _read_tool(tool: Fields) -> tuple[dict[str, Any], frozenset[str]]:
    """A function, and the fields that it is made of besides those of every tool."""
    kind = tool.text("type") or "custom"
    if kind == "custom":
        function, known = _custom(tool), frozenset[str]()
    elif (found := published(kind, tool)) is not None:
        function, known = found
    else:
        raise tool.invalid("type", f"{tool.path}: tools of type {kind!r} run at Anthropic and are not supported here")
    if tool.boolean("strict"):
        function["strict"] = True
    return function, known


def _custom(tool: Fields) -> dict[str, Any]:
    name = tool.text("name")
    if not name:
        raise tool.invalid("name", f"'{tool.at('name')}' is required")
    function: dict[str, Any] = {"name": name}
    if (description := tool.text("description")) is not None:
        function["description"] = description
    schema = tool.raw("input_schema")
    if schema is None or schema == {}:
        schema = {"type": "object", "properties": {}}
    if not (isinstance(schema, dict) and isinstance(schema.get("properties") or {}, dict)):
        raise tool.invalid("input_schema", f'invalid input_schema for tool "{name}": must be a JSON Schema object')
    return function | {"parameters": schema}


def read_choice(body: Fields, names: frozenset[str]) -> tuple[Any, bool | None]:
    """`tool_choice` and `parallel_tool_calls` of a ChatRequest."""
    choice = body.object("tool_choice")
    if choice is None:
        return None, None
    parsed = _parse(choice)
    if parsed not in ("auto", "none") and not names:
        raise body.invalid("tool_choice", "tool_choice: the request has no tools")
    if isinstance(parsed, dict) and (name := parsed["function"]["name"]) not in names:
        raise choice.invalid("name", f'tool_choice: "{name}" is not among the tools')
    return parsed, False if choice.boolean("disable_parallel_tool_use") else None


def _parse(choice: Fields) -> Any:
    match choice.text("type"):
        case "auto" | "none" as word:
            return word
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": choice.text("name") or ""}}
    raise InvalidField("'tool_choice.type' must be auto, any, tool or none", choice.at("type"))

"""The tools of a request, as functions for the model; and how a call of one is named to the client. Source: compat-api
§8.3, §5.3 for the choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...chat.choice import parse_choice
from ...errors import BadRequest
from ..fields import Fields
from ..limits import MAX_TOOLS

CUSTOM_ARGUMENT = "input"
"""The one argument of the function that a custom tool becomes."""


@dataclass(frozen=True, slots=True)
class Called:
    """A tool as its client knows it."""

    name: str
    namespace: str = ""
    is_custom: bool = False


@dataclass(frozen=True, slots=True)
class Toolbox:
    functions: tuple[dict[str, Any], ...] = ()
    called: Mapping[str, Called] = field(default_factory=dict)
    """By the name of the function."""
    choice: Any = None
    is_parallel: bool | None = None
    warnings: tuple[str, ...] = ()


def qualified(name: str, namespace: str | None) -> str:
    """The name of a function for a tool in a namespace."""
    prefix = f"{namespace}." if namespace else ""
    return name if name.startswith(prefix) else prefix + name


def read_tools(body: Fields) -> Toolbox:
    """`tools`, `tool_choice` and `parallel_tool_calls`. Raises InvalidField."""
    reader = _Reader()
    for tool in body.objects("tools"):
        reader.read(tool)
    reader.leave_searching_out()
    if len(reader.functions) > MAX_TOOLS:
        raise body.invalid("tools", f"tools: at most {MAX_TOOLS} are accepted")
    choice, is_parallel = _choice(body.raw("tool_choice")), body.boolean("parallel_tool_calls")
    try:
        parse_choice(choice, is_parallel, reader.functions)
    except BadRequest as error:
        raise body.invalid("tool_choice", str(error)) from error
    return Toolbox(tuple(reader.functions), reader.called, choice, is_parallel, tuple(reader.warnings))


class _Reader:
    def __init__(self) -> None:
        self.functions: list[dict[str, Any]] = []
        self.called: dict[str, Called] = {}
        self.warnings: list[str] = []
        self._searches: list[Fields] = []

    def read(self, tool: Fields, namespace: str = "") -> None:
        match tool.text("type"):
            case "function":
                self._add(tool, _function(tool), namespace)
            case "custom":
                self._add(tool, self._custom(tool), namespace, is_custom=True)
            case "namespace":
                inner = qualified(_name(tool), namespace)
                for member in tool.objects("tools"):
                    self.read(member, inner)
            case "web_search":
                self._searches.append(tool)
            case kind:
                raise tool.invalid("type", f"{tool.path}: tools of type {(kind or '')[:100]!r} are not supported")

    def leave_searching_out(self) -> None:
        """Coding agents offer a search beside tools of their own, and live without. Where it is all that a client
        wants, an answer without one is none.
        """
        for tool in self._searches:
            lack = f"{tool.path}: web_search needs a search provider, and none is configured"
            if not self.functions:
                raise tool.invalid("type", lack)
            self.warnings.append(f"{lack}; the model does not see it")

    def _add(self, tool: Fields, function: dict[str, Any], namespace: str, *, is_custom: bool = False) -> None:
        name = qualified(_name(tool), namespace)
        self.called[name] = Called(name[len(namespace) + 1 :] if namespace else name, namespace, is_custom)
        self.functions.append({"type": "function", "function": {"name": name, **function}})

    def _custom(self, tool: Fields) -> dict[str, Any]:
        """A custom tool takes any text; what its grammar asks for is told to the model, not enforced."""
        description = [tool.text("description") or ""]
        form = tool.object("format")
        if form is not None and form.text("type") == "grammar":
            syntax, definition = form.text("syntax") or "", form.text("definition") or ""
            description.append(f"The input follows this {syntax} grammar:\n{definition}")
            self.warnings.append(f"{form.path}: the grammar is told to the model, and not enforced")
        return {
            "description": "\n\n".join(filter(None, description)),
            "parameters": {
                "type": "object",
                "properties": {CUSTOM_ARGUMENT: {"type": "string", "description": "the whole input of the tool"}},
                "required": [CUSTOM_ARGUMENT],
                "additionalProperties": False,
            },
        }


def _function(tool: Fields) -> dict[str, Any]:
    """What a function tool says of itself. The schema stays as the client wrote it."""
    parameters = tool.object("parameters")
    if parameters is not None:
        parameters.object("properties")
    given = {
        "description": tool.text("description"),
        "parameters": tool.raw("parameters"),
        "strict": tool.boolean("strict"),
    }
    return {key: value for key, value in given.items() if value is not None}


def _name(tool: Fields) -> str:
    name = tool.text("name")
    if not name:
        raise tool.invalid("name", f"'{tool.at('name')}' is required")
    return name


def _choice(choice: Any) -> Any:
    """`tool_choice` in the words of chat completions. What it does not know comes back as it was, to be refused."""
    match choice:
        case {"type": "function" | "custom", "name": str(name)}:
            return _named(name, choice.get("namespace"))
        case {"type": "allowed_tools", "tools": [*tools]}:
            return {"type": "allowed_tools", "mode": choice.get("mode"), "tools": list(map(_choice, tools))}
    return choice


def _named(name: str, namespace: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": qualified(name, namespace if isinstance(namespace, str) else None)},
    }


def custom_input(arguments: Mapping[str, Any]) -> str:
    """What a custom tool is given. A model that did not keep to the one argument is passed on as it wrote."""
    text = arguments.get(CUSTOM_ARGUMENT)
    return text if isinstance(text, str) and len(arguments) == 1 else msgspec.json.encode(arguments).decode()

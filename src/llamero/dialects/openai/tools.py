"""The tools of a chat completion and which of them may be called, also in the older words. Source: compat-api §5.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...chat.choice import parse_choice
from ...errors import BadRequest
from ..fields import Fields
from ..limits import MAX_TOOLS

FIELDS = frozenset("tools tool_choice parallel_tool_calls functions function_call".split())


@dataclass(frozen=True, slots=True)
class Toolbox:
    tools: tuple[dict[str, Any], ...] = ()
    choice: Any = None
    is_parallel: bool | None = None
    is_legacy: bool = False
    """The client speaks of functions, and wants its answer in the same words."""


def read_tools(body: Fields) -> Toolbox:
    box = _legacy(body) if body.raw("functions") is not None else _current(body)
    if len(box.tools) > MAX_TOOLS:
        raise body.invalid("functions" if box.is_legacy else "tools", f"at most {MAX_TOOLS} tools are accepted")
    try:
        parse_choice(box.choice, box.is_parallel, box.tools)
    except BadRequest as error:
        raise body.invalid("function_call" if box.is_legacy else "tool_choice", str(error)) from error
    return box


def _current(body: Fields) -> Toolbox:
    tools = []
    for given, tool in zip(body.items("tools") or (), body.objects("tools"), strict=True):
        if tool.text("type") not in (None, "function"):
            raise tool.invalid("type", f"tools of type {tool.text('type')!r} are not supported")
        function = tool.object("function")
        if function is None:
            raise tool.invalid("function", f"'{tool.at('function')}' is required")
        _check_function(function)
        tools.append(given)
    return Toolbox(tuple(tools), body.raw("tool_choice"), body.boolean("parallel_tool_calls"))


def _legacy(body: Fields) -> Toolbox:
    """`functions` and `function_call`, which knew one call per answer."""
    if body.raw("tools") is not None:
        raise body.invalid("functions", "use either tools or functions, not both")
    tools = []
    for given, function in zip(body.items("functions") or (), body.objects("functions"), strict=True):
        _check_function(function)
        tools.append({"type": "function", "function": given})
    choice = body.raw("function_call")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": choice}
    return Toolbox(tuple(tools), choice, is_parallel=False, is_legacy=True)


def _check_function(function: Fields) -> None:
    if not function.text("name"):
        raise function.invalid("name", f"'{function.at('name')}' is required")
    function.object("parameters")
    function.text("description")
    function.boolean("strict")

"""A tool as a request gives it: kept whole, with the keys that the reference knows in its own spelling.

Templates and calls are given all of a tool's schema, so no struct could hold it. Source: native-api §1.5, §2.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import BadRequest
from ..gofields import fold
from ..gojson import WrongType, json_kind, ordered_map


def _spellings(*keys: str) -> Mapping[str, str]:
    return {fold(key): key for key in keys}


_TOOL = _spellings("type", "items", "function")
_FUNCTION = _spellings("name", "description", "parameters")
_SCHEMA = _spellings("type", "$defs", "anyOf", "items", "description", "enum", "required", "properties")
"""Of the parameters, and of each property of an object."""


def read_tool(value: Any) -> dict[str, Any]:
    """What is wrong within a schema is left to those who know schemas, but for properties that are no object."""
    if not isinstance(value, dict):
        raise WrongType
    tool = _spelled(value, _TOOL)
    _check(tool, "Tool.tools", ["type"])
    if (function := tool.get("function")) is not None:
        tool["function"] = _read_function(function)
    return tool


def _read_function(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, "Tool.tools.function", "api.ToolFunction")
    function = _spelled(value, _FUNCTION)
    _check(function, "ToolFunction.tools.function", ["name", "description"])
    parameters = function.get("parameters")
    if isinstance(parameters, dict):
        function["parameters"] = schema = _read_schema(parameters)
        if "properties" in schema:
            ordered_map(schema["properties"])
    return function


def _read_schema(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    schema = _spelled(value, _SCHEMA)
    if isinstance(properties := schema.get("properties"), dict):
        schema["properties"] = {name: _read_schema(each) for name, each in properties.items()}
    if isinstance(choices := schema.get("anyOf"), list):
        schema["anyOf"] = [_read_schema(each) for each in choices]
    return schema


def _spelled(value: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """Keys match in any case, and null means absent: some clients write their own structs as they are."""
    spelled = {}
    for key, item in value.items():
        ours = known.get(fold(key))
        if ours is None or item is not None:
            spelled[ours or key] = item
    return spelled


def _check(value: Mapping[str, Any], place: str, texts: Iterable[str]) -> None:
    for key in texts:
        if not isinstance(text := value.get(key, ""), str):
            raise _wrong(text, f"{place}.{key}", "string")


def _wrong(value: Any, place: str, go_type: str) -> BadRequest:
    return BadRequest(f"json: cannot unmarshal {json_kind(value)} into Go struct field {place} of type {go_type}")

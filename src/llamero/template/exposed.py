"""Messages, tools and tool calls as a template sees them: their fields, their order as JSON, what prints as JSON.

Source: modelfile-templates §2.5, §2.6, §2.8. The type names are those that the reference's error texts show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import THINK_LEVELS, Message, Think, ToolCall
from .functions import type_script_type
from .jsontext import encode
from .meter import Meter
from .values import List, Map, Record, Shape, Value, from_json


def _as_json(value: Value, meter: Meter) -> str:
    return encode(value, meter)


def _as_object(value: Map, meter: Meter) -> str:
    return "{}" if value.is_nil else encode(value, meter)


def _as_words(types: List, meter: Meter) -> str:
    """The types of a property: none, one word, or a list of words."""
    return f"[{' '.join(types)}]" if len(types) > 1 else "".join(types)


def _none_if_empty(value: List) -> Value:
    """Go's nil slice, of which `range` and `len` know no difference to an empty one."""
    return list(value) or None


def _shape(name: str, *columns: str, **rest: Any) -> Shape:
    """A record, with `Name` for columns whose JSON key is their name."""
    return Shape(name, tuple(column if "=" in column else f"{column}={column}" for column in columns), **rest)


_STRING = {"String": _as_json}
_OBJECT_STRING = {"String": _as_object}

_MESSAGES = Shape("[]*template.templateMessage")
_MESSAGE = _shape(
    "*template.templateMessage", "Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID"
)
_IMAGES = Shape("[]api.ImageData", json=_none_if_empty)
_CALLS = Shape("[]template.templateToolCall", json=_none_if_empty)
_CALL = _shape("template.templateToolCall", "ID", "Function")
_CALLED = _shape("template.templateToolCallFunction", "Index", "Name", "Arguments")
_ARGUMENTS = Shape("template.templateArgs", text=_as_object, methods=_OBJECT_STRING)

_TOOLS = Shape("template.templateTools", text=_as_json, json=_none_if_empty, methods=_STRING)
_TOOL = _shape(
    "template.templateTool", "Type=type", "Items=items?", "Function=function", text=_as_json, methods=_STRING
)
_FUNCTION = _shape(
    "template.templateToolFunction", "Name=name", "Description=description", "Parameters=parameters", text=_as_json
)
_PARAMETERS = _shape(
    "template.templateToolFunctionParameters",
    "Type=type", "Defs=$defs?", "Items=items?", "Required=required?", "Properties=properties",
)  # fmt: skip
_PROPERTIES = Shape("template.templateProperties", text=_as_object, methods=_OBJECT_STRING)
_NESTED_PROPERTIES = Shape("*api.ToolPropertiesMap", ordered=True, text=_as_object, methods=_OBJECT_STRING)
_PROPERTY = _shape(
    "api.ToolProperty",
    "AnyOf=anyOf?", "Type=type?", "Items=items?", "Description=description?", "Enum=enum?", "Properties=properties?",
    "Required=required?",
    methods={"ToTypeScriptType": type_script_type},
)  # fmt: skip
_ALTERNATIVES = Shape("[]api.ToolProperty")
_TYPES = Shape(
    "api.PropertyType", text=_as_words, json=lambda types: types[0] if len(types) == 1 else _none_if_empty(types)
)
_STRINGS = Shape("[]string")


# --- the whole -----------------------------------------------------------------------------------------------------


def thinking(think: Think) -> dict[str, Value]:
    """What a request says about thinking, in every mode."""
    level = think if think in THINK_LEVELS else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def request(conversation: Sequence[Message], described: Sequence[Mapping[str, Any]], think: Think) -> dict[str, Value]:
    """The values of a template that takes messages."""
    return {
        "System": "\n\n".join(message.content for message in conversation if message.role == "system"),
        "Messages": messages(conversation),
        "Tools": tools(described),
        "Response": "",
        **thinking(think),
    }


# --- messages ------------------------------------------------------------------------------------------------------


def messages(conversation: Sequence[Message]) -> List:
    return List(_MESSAGES, map(_message, conversation))


def _message(message: Message) -> Record:
    fields: dict[str, Value] = {
        "Role": message.role,
        "Content": message.content,
        "Thinking": message.thinking,
        "Images": List(_IMAGES, message.images),
        "ToolCalls": List(_CALLS, map(_call, message.tool_calls)),
        "ToolName": message.tool_name,
        "ToolCallID": message.tool_call_id,
    }
    return Record(_MESSAGE, fields)


def _call(call: ToolCall) -> Record:
    arguments = Map(_ARGUMENTS, from_json(call.arguments))
    called = Record(_CALLED, {"Index": call.index, "Name": call.name, "Arguments": arguments})
    return Record(_CALL, {"ID": call.id, "Function": called})


# --- tools ---------------------------------------------------------------------------------------------------------


def tools(described: Sequence[Mapping[str, Any]]) -> List:
    """The tools of a request, each the client's own JSON. What a template cannot see is left out (§2.8)."""
    return List(_TOOLS, map(_tool, described))


def _tool(tool: Mapping[str, Any]) -> Record:
    function = _object(tool, "function")
    fields = {
        "Name": _text(function, "name"),
        "Description": _text(function, "description"),
        "Parameters": _parameters(_object(function, "parameters")),
    }
    return Record(
        _TOOL,
        {
            "Type": _text(tool, "type"),
            "Items": from_json(tool.get("items")),
            "Function": Record(_FUNCTION, fields),
        },
    )


def _parameters(parameters: Mapping[str, Any]) -> Record:
    properties = parameters.get("properties")
    fields: dict[str, Value] = {
        "Type": _text(parameters, "type"),
        "Defs": from_json(parameters.get("$defs")),
        "Items": from_json(parameters.get("items")),
        "Required": _texts(parameters, "required"),
        "Properties": Map(_PROPERTIES, _properties(properties)),
    }
    return Record(_PARAMETERS, fields)


def _properties(properties: Any) -> dict[str, Value] | None:
    if not isinstance(properties, Mapping):
        return None
    return {name: _property(schema) for name, schema in properties.items()}


def _property(described: Any) -> Record:
    schema: Mapping[str, Any] = described if isinstance(described, Mapping) else {}
    alternatives = schema.get("anyOf")
    enum = schema.get("enum")
    type_ = schema.get("type")
    fields: dict[str, Value] = {
        "AnyOf": List(_ALTERNATIVES, map(_property, alternatives if isinstance(alternatives, list) else [])),
        "Type": List(_TYPES, [type_] if isinstance(type_, str) else _texts(schema, "type")),
        "Items": from_json(schema.get("items")),
        "Description": _text(schema, "description"),
        "Enum": from_json(enum if isinstance(enum, list) else []),
        "Properties": Map(_NESTED_PROPERTIES, _properties(schema.get("properties"))),
        "Required": _texts(schema, "required"),
    }
    return Record(_PROPERTY, fields)


def _object(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(schema: Mapping[str, Any], key: str) -> str:
    value = schema.get(key)
    return value if isinstance(value, str) else ""


def _texts(schema: Mapping[str, Any], key: str) -> List:
    value = schema.get(key)
    return List(_STRINGS, [item for item in value if isinstance(item, str)] if isinstance(value, list) else [])

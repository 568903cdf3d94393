"""The tools of a request as the parsers of raw output need them: which there are, and which types their arguments have.

Source: modelfile-templates §8.4, on families that write every argument as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Declared:
    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        functions = [tool.get("function") for tool in tools]
        self._parameters = {
            str(function.get("name")): _object(function.get("parameters"))
            for function in functions
            if isinstance(function, dict) and function.get("name")
        }

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def __bool__(self) -> bool:
        return bool(self._parameters)

    @property
    def names(self) -> list[str]:
        return list(self._parameters)

    def missing(self, name: str, arguments: Mapping[str, Any]) -> list[str]:
        """The required arguments of a tool that a call leaves out."""
        required = self._parameters[name].get("required")
        return [key for key in required if key not in arguments] if isinstance(required, list) else []

    def value(self, name: str, key: str, text: str) -> Any:
        """An argument that was written as text, as its declared type has it; the text where that cannot be."""
        text = text.removeprefix("\n").removesuffix("\n")
        properties = _object(self._parameters.get(name, {}).get("properties"))
        if text.lower() == "null":
            return None
        return _coerced(text, _types(_object(properties.get(key))))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _types(schema: dict[str, Any]) -> set[str]:
    """Those of `anyOf` are pooled."""
    declared = schema.get("type", [])
    types = {word for word in (declared if isinstance(declared, list) else [declared]) if isinstance(word, str)}
    options = schema.get("anyOf")
    return types.union(*(_types(_object(option)) for option in options)) if isinstance(options, list) else types


def _coerced(text: str, types: set[str]) -> Any:
    if "boolean" in types and (text.lower() in ("true", "false") or types == {"boolean"}):
        return text.lower() == "true"
    for type_, kinds in _JSON_KINDS.items():
        if type_ in types:
            try:
                value = msgspec.json.decode(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, kinds) and not isinstance(value, bool):
                return int(value) if isinstance(value, float) and value.is_integer() else value
    return text


_JSON_KINDS: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}

"""Parameters of tools as clients really write them, made into schemas that can be read. Nothing is refused here.

Source: native-api §2.7. Annotations stay, and keywords keep their order: the model is shown all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .subschemas import KINDS, MAX_DEPTH, Place, SchemaRefused, fault_of, resolve, schemas_in

_VALUES = frozenset({"const", "default", "example"})
"""Keywords for which null is a value like any other."""


def as_meant(schema: Any, depth: int = 1) -> Any:
    """Without keywords that are null, which clients in Go write for nothing at all, and with unions as lists.

    The official Python client writes the types of a union as one text: `string, integer`.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema

    def meant(keyword: str, value: Any) -> Any:
        return (
            _types(value) if keyword == "type" else _rebuilt(keyword, value, lambda _, part: as_meant(part, depth + 1))
        )

    return {
        keyword: meant(keyword, value)
        for keyword, value in schema.items()
        if not (value is None and keyword not in _VALUES)
    }


def readable(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A schema of `as_meant` as the engine's chat can read it, and a note for each keyword that it would stumble over.

    For tools in a prompt that the engine makes. It does not matter there whether any value satisfies the schema.
    """
    reader = _Reader(schema)
    return reader.read(schema, Place(), 1), reader.notes


class _Reader:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.notes: list[str] = []

    def read(self, schema: Any, place: Place, depth: int) -> dict[str, Any]:
        if isinstance(schema, bool):  # the engine knows no such schemas
            return {} if schema else {"not": {}}
        result = {}
        for keyword, value in schema.items():
            there = place.below(keyword)
            if fault := self._fault(keyword, value, there, depth):
                self.notes.append(f"{there} {fault}; it is not enforced")
            elif keyword == "additionalProperties" and isinstance(value, bool):
                result[keyword] = value
            elif not (keyword == "items" and value is False and "prefixItems" in schema):  # it would hide the others
                result[keyword] = self._below(keyword, value, there, depth + 1)
        return result

    def _below(self, keyword: str, value: Any, place: Place, depth: int) -> Any:
        def read(key: str | None, part: Any) -> dict[str, Any]:
            return self.read(part, place if key is None else place.below(key), depth)

        return _rebuilt(keyword, value, read)

    def _fault(self, keyword: str, value: Any, place: Place, depth: int) -> str | None:
        if fault := fault_of(keyword, value):
            return fault
        if keyword == "$ref":
            return self._fault_of_reference(value, place)
        for _, part in schemas_in(keyword, value):
            if not isinstance(part, dict | bool):
                return "holds what is neither an object nor true or false"
            if depth == MAX_DEPTH:
                return f"is nested deeper than {MAX_DEPTH} schemas"
        return None

    def _fault_of_reference(self, reference: str, place: Place) -> str | None:
        if reference in ("", "#") or not {"~", "%"}.isdisjoint(reference):
            return "is a reference that the engine does not follow"
        try:
            resolve(self.root, reference, place)
        except SchemaRefused as error:
            return error.reason
        return None


def _types(value: Any) -> Any:
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else []
    return words if len(words) > 1 and KINDS.keys() >= set(words) else value


def _rebuilt(keyword: str, value: Any, change: Callable[[str | None, Any], Any]) -> Any:
    """A keyword's value with every schema in it changed, of which the first argument is the key in the value."""
    if fault_of(keyword, value):
        return value
    changed = {key: change(key, part) for key, part in schemas_in(keyword, value)}
    if isinstance(value, list):
        return list(changed.values()) if changed else value
    return changed.get(None, changed) if changed else value

"""A checked JSON Schema rewritten to what the engine enforces, with a note on every part that it does not.

Source: scheduler §12.1, native-api §1.7. The engine (llguidance within llama.cpp) drops a whole schema for one keyword
that it does not know, so none may reach it. What comes out means the same in every draft: tuples are `prefixItems`,
what a `$ref` leads to stands in `$defs`, and annotations are gone.
"""

from __future__ import annotations

from typing import Any

from .subschemas import Place, Schema, allows_nothing, conjuncts, resolve, schemas_in

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""The values of `format` that the engine knows."""
MAX_NUMBER = 2**53
"""Of bounds and constants: beyond it floats are not exact, and the engine writes no integers of 19 digits."""
MIN_NUMBER = 1e-9
"""The smallest but zero: every zero after the point nests the engine's regular expression deeper."""
MAX_DIGITS = 2**32 - 1
"""`multipleOf` as an integer, its decimal point moved away."""

_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_CONSTANTS = frozenset({"const", "enum"})
_KEY_COUNTS = frozenset({"minProperties", "maxProperties"})
_COPIED = frozenset({"type", "pattern", "format", "minLength", "maxLength", "minItems", "maxItems", "required"})
_UNENFORCED = frozenset(
    "not if dependencies dependentRequired dependentSchemas propertyNames contains uniqueItems"
    " unevaluatedProperties unevaluatedItems $dynamicRef $recursiveRef".split()
)
_SAYS_NOTHING = {"uniqueItems": False, "unevaluatedProperties": True, "unevaluatedItems": True}


def for_engine(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The schema to send, and a note for each part that is left out of it: its JSON pointer and what becomes of it.

    Needs a checked schema. An object with known keys gets no others unless the schema speaks of them: the reference
    adds none either, and a small model would go on adding them.
    """
    rewriter = _Rewriter(schema)
    return rewriter.run(), list(rewriter.notes)


class _Rewriter:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.names: dict[tuple[int, bool], str] = {}
        self.waiting: list[tuple[str, Schema, Place, bool]] = []
        """Definitions that are referred to and not yet written."""
        self.notes: dict[str, None] = {}
        self.has_one_of = False

    def run(self) -> dict[str, Any]:
        result = self._object(self.root, Place(), is_merged=False)
        definitions = {}
        while self.waiting:
            name, schema, place, is_merged = self.waiting.pop()
            definitions[name] = self._schema(schema, place, is_merged=is_merged)
        for is_merged in (True, False):
            if name_of_root := self.names.get((id(self.root), is_merged)):
                # the engine would take a root that refers to itself apart twice, and trip over its own traces
                result = {"$ref": f"#/$defs/{name_of_root}"}
        if definitions:
            result["$defs"] = definitions
        if self.has_one_of:
            result["x-guidance"] = {"coerce_one_of": True}
        return result

    def _schema(self, schema: Schema, place: Place, *, is_merged: bool) -> Schema:
        """One schema. `is_merged`: it or one around it is merged with others, which may fill what it leaves open."""
        if isinstance(schema, bool) or allows_nothing(schema):
            return schema is True
        return self._object(schema, place, is_merged=is_merged)

    def _object(self, schema: dict[str, Any], place: Place, *, is_merged: bool) -> dict[str, Any]:
        is_merged = is_merged or conjuncts(schema) > 1
        result: dict[str, Any] = {}
        for keyword, value in schema.items():
            there = place.below(keyword)
            if reason := _unenforced(keyword, value, schema, is_merged):
                self.notes[f"{there} {reason}"] = None
            elif keyword in _COPIED | _BOUNDS | _CONSTANTS | _KEY_COUNTS | {"multipleOf"}:
                result[keyword] = value
            elif keyword == "$ref":
                result[keyword] = self._reference(value, there, is_merged=is_merged)
            elif name := _modern(keyword, schema):
                result[name] = self._below(keyword, value, there, is_merged=is_merged)
        if "oneOf" in schema:
            self.has_one_of = True
            if "discriminator" not in schema:  # with one, no value can satisfy two of them
                self.notes[f"{place.below('oneOf')} is enforced as anyOf"] = None
        if not is_merged and _may_be_closed(schema):
            result["additionalProperties"] = False
        return result

    def _below(self, keyword: str, value: Any, place: Place, *, is_merged: bool) -> Any:
        """A keyword's value with all schemas in it rewritten."""
        parts = {
            key: self._schema(schema, place if key is None else place.below(key), is_merged=is_merged)
            for key, schema in schemas_in(keyword, value)
        }
        if isinstance(value, list):
            return list(parts.values())
        return parts.get(None, parts)

    def _reference(self, reference: str, place: Place, *, is_merged: bool) -> str:
        schema, found = resolve(self.root, reference, place)
        name = self.names.get((id(schema), is_merged))
        if name is None:
            name = self.names[id(schema), is_merged] = str(len(self.names))
            self.waiting.append((name, schema, found, is_merged))
        return f"#/$defs/{name}"


def _modern(keyword: str, schema: dict[str, Any]) -> str | None:
    """What 2020-12 calls a keyword that holds schemas; None for one that means nothing here."""
    has_old_tuple = isinstance(schema.get("items"), list)
    match keyword:
        case "items":
            return "prefixItems" if has_old_tuple else "items"
        case "additionalItems":
            return "items" if has_old_tuple else None
        case "prefixItems":
            return None if has_old_tuple else "prefixItems"
        case "properties" | "patternProperties" | "additionalProperties" | "allOf" | "anyOf" | "oneOf":
            return keyword
    return None


def _unenforced(keyword: str, value: Any, schema: dict[str, Any], is_merged: bool) -> str | None:
    """Why a keyword cannot be passed on, in words that follow its place; None when it can or means nothing."""
    if keyword == "format" and value not in FORMATS:
        return f"is not enforced: {value[:40]}"
    is_beyond = (
        (keyword in _UNENFORCED and value is not _SAYS_NOTHING.get(keyword))
        or (keyword in _BOUNDS and not _is_writable(value))
        or (keyword in _CONSTANTS and not _is_writable_within(value))
        or (keyword == "multipleOf" and not _is_writable_multiple(value))
        or (keyword in _KEY_COUNTS and (is_merged or _has_optional_keys(schema)))
    )
    return "is not enforced" if is_beyond else None


def _is_writable(number: int | float) -> bool:
    return number == 0 or MIN_NUMBER <= abs(number) <= MAX_NUMBER


def _is_writable_within(value: Any) -> bool:
    """Whether all numbers in a constant are."""
    if isinstance(value, dict | list):
        return all(map(_is_writable_within, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool) or not isinstance(value, int | float) or _is_writable(value)


def _is_writable_multiple(number: int | float) -> bool:
    """The engine moves the decimal point by multiplying floats, so 0.07 becomes 7000000000000001 and is too long."""
    scaled = float(number)
    while scaled % 1:
        scaled *= 10
    return scaled <= MAX_DIGITS


def _may_be_closed(schema: dict[str, Any]) -> bool:
    others = ("additionalProperties", "patternProperties", "minProperties", "unevaluatedProperties")
    known = schema.get("properties", {}).keys()
    return bool(known) and known >= set(schema.get("required", ())) and not any(word in schema for word in others)


def _has_optional_keys(schema: dict[str, Any]) -> bool:
    """Then the engine cannot count keys: its objects have the listed ones in order, each there or not."""
    return not schema.get("properties", {}).keys() <= set(schema.get("required", ()))

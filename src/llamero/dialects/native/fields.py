"""Fields of requests that read themselves, with the words that the reference refuses them in (native-api §2)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ... import durations
from ...errors import BadRequest, LlameroError
from ...messages import THINK_LEVELS, Think
from ..gojson import Custom, GoType, WrongType, json_kind
from ..limits import MAX_IMAGES, MAX_INPUTS


def read_keep_alive(value: Any) -> int:
    """`keep_alive` in nanoseconds; a number counts seconds, anything negative means for ever (native-api §2.2)."""
    if isinstance(value, bool):
        raise BadRequest("Unsupported type: 'bool'")
    if isinstance(value, int | float):
        if value < 0 or value >= durations.FOREVER / durations.SECOND:
            return durations.FOREVER
        return int(value * durations.SECOND)
    if isinstance(value, str):
        ns = durations.parse_duration(value)
        return durations.FOREVER if ns < 0 else ns
    kind = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    raise BadRequest(f"Unsupported type: '{kind}'")


_THINK_WORDS = '"high", "medium", "low", "max", true, or false'


def read_think(value: Any) -> Think:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        for level in THINK_LEVELS:
            if value == level:
                return level
        quoted = msgspec.json.encode(value).decode()
        raise BadRequest(f"invalid think value: {quoted} (must be {_THINK_WORDS})")
    raise BadRequest(f"think must be a boolean or string ({_THINK_WORDS})")


def read_inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if len(value) > MAX_INPUTS:
            raise BadRequest(f"input: at most {MAX_INPUTS} items are accepted")
        return value
    raise BadRequest("invalid input type")


def read_role(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongType
    return value.lower()


def read_licenses(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list):
        raise _no_license(value, "[]string")
    for item in value:
        if not isinstance(item, str | None):
            raise _no_license(item, "string")
    return [item for item in value if item]


def _no_license(value: Any, go_type: str) -> LlameroError:
    return LlameroError(f"json: cannot unmarshal {json_kind(value)} into Go value of type {go_type}")


def _described(*forms: dict[str, Any]) -> Meta:
    """What `/openapi.json` says of a field that reads itself."""
    return Meta(extra_json_schema={"anyOf": [*forms, {"type": "null"}]})


KeepAlive = Annotated[Any, Custom(read_keep_alive), _described({"type": "number"}, {"type": "string"})]
ThinkField = Annotated[Any, Custom(read_think), _described({"type": "boolean"}, {"enum": list(THINK_LEVELS)})]
Inputs = Annotated[
    Any, _described({"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": MAX_INPUTS})
]
ToolChoiceField = Annotated[Any, _described({"enum": ["auto", "none", "required"]}, {"type": "object"})]
Format = Annotated[Any, _described({"enum": ["", "json"]}, {"type": "object"})]
Images = Annotated[
    tuple[Annotated[bytes, GoType("api.ImageData")], ...], GoType("[]api.ImageData"), Meta(max_length=MAX_IMAGES)
]
OptionMap = Annotated[dict[str, Any], GoType("map[string]interface {}")]

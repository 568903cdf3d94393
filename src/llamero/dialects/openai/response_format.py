"""What an answer shall look like: `response_format`. Source: compat-api §5.4."""

from __future__ import annotations

from typing import Any

from ...chat.schema import SchemaRefused, check_schema
from ..fields import Fields

NAME = "response_format"


def read_format(body: Fields) -> Any:
    """None, "json" or a schema that can be enforced. All errors blame the field as a whole."""
    given = body.object(NAME)
    if given is None:
        return None
    kind = (given.text("type") or "").strip().lower()
    match kind:
        case "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            return _schema(body, given)
    raise body.invalid(NAME, f"response_format: unknown type {kind[:100]!r}")


def _schema(body: Fields, given: Fields) -> dict[str, Any]:
    holder = given.object("json_schema")
    schema = holder.raw("schema") if holder is not None else None
    if not isinstance(schema, dict):
        raise body.invalid(NAME, "response_format: json_schema.schema must be a JSON Schema object")
    try:
        check_schema(schema)
    except SchemaRefused as error:
        raise body.invalid(NAME, f"invalid response_format: {error.fault}") from error
    return schema

"""JSON Schemas that clients send, as `format` and with tools, before the engine sees them. No answer is validated here.

Source: native-api §2.4, security §5. The engine logs a schema that it cannot compile, forgets it and answers freely, so
what it would drop must be found here: what is wrong or cannot be satisfied is refused by `check_schema`, naming the
part; what is right but beyond the engine is taken out by `for_engine`, naming it as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ...errors import BadRequest, LlameroError
from ..grammar import check_grammar
from .enforced import for_engine
from .gbnf import GrammarWriter, is_exact
from .lenient import as_meant, readable
from .satisfiable import check_satisfiable
from .subschemas import MAX_DEPTH, Place, SchemaRefused, refuse, take_apart

__all__ = [
    "SchemaRefused", "as_meant", "check_grammar", "check_schema", "for_completion", "for_engine", "parse_format",
    "readable",
]  # fmt: skip

ONE_LINE = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
"""Where the engine itself makes the grammar: white space that it leaves free may come again and again."""

MAX_BYTES = 256 * 1024
"""A schema written compactly (security §5)."""
MAX_NESTING = 2 * MAX_DEPTH + 1
"""Objects and arrays within each other: a schema within a schema is two levels, as under `properties`."""
MAX_QUOTED = 1_000
"""Characters of a wrong `format` that our answer repeats."""


def parse_format(value: Any) -> Literal["json"] | dict[str, Any] | None:
    """The decoded `format` of a request: no constraint, any JSON object, or a schema that is yet to be checked.

    An empty schema means an object, as it does to the reference's engine: whoever sends one reads the answer as such.
    Raises LlameroError (500, as the reference does) for anything else.
    """
    if value is None or value == "":
        return None
    if value in ("json", {}):
        return "json"
    if isinstance(value, dict):
        return value
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raise LlameroError(f'invalid format: {_go_quoted(raw[:MAX_QUOTED])}; expected "json" or a valid JSON Schema object')


def _go_quoted(text: str) -> str:
    """JSON text as Go's %q writes it; control characters are escaped in it already."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _go_escape(ord(c)) for c in escaped) + '"'


def _go_escape(code: int) -> str:
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse a schema that is malformed, that no value satisfies, or that passes our limits.

    Raises SchemaRefused `invalid format: <JSON pointer of the part>: <reason>`. Takes time linear in the schema, but
    for parts that are merged, which are counted and limited.
    """
    _check_size(schema)
    check_satisfiable(take_apart(schema))


def for_completion(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a `/completion` body that holds the answer to a schema of `for_engine`.

    As a grammar of ours wherever that says it all: what the engine makes of a schema has no bound for white space and
    digits, and a small model then goes on with either for ever.
    """
    if grammar := _grammar(dict(schema)):
        return {"grammar": grammar}
    return {"json_schema": {**schema, "x-guidance": schema.get("x-guidance", {}) | ONE_LINE}}


def _grammar(schema: dict[str, Any]) -> str | None:
    if not is_exact(schema):
        return None
    writer = GrammarWriter()
    text = writer.text(writer.schema(schema))
    try:
        check_grammar(text)
    except BadRequest:  # larger than the engine takes it
        return None
    return text


def _check_size(schema: dict[str, Any]) -> None:
    """Level by level, so that nesting costs no stack, and no further than the limits."""
    values = 0
    level: list[Any] = [schema]
    for _ in range(MAX_NESTING):
        containers = [value for value in level if isinstance(value, dict | list)]
        values += sum(map(len, containers))
        if values * 2 > MAX_BYTES:  # a value takes two bytes at least, one of them a comma or a bracket
            refuse(Place(), f"larger than {MAX_BYTES // 1024} KiB")
        level = [value for node in containers for value in (node.values() if isinstance(node, dict) else node)]
        if not level:
            break
    else:
        refuse(Place(), f"nested deeper than {MAX_DEPTH} schemas")
    try:
        size_bytes = len(msgspec.json.encode(schema))
    except ValueError:  # half a surrogate pair, or an integer of thousands of digits
        refuse(Place(), "holds text or a number that JSON cannot carry")
    if size_bytes > MAX_BYTES:
        refuse(Place(), f"larger than {MAX_BYTES // 1024} KiB")

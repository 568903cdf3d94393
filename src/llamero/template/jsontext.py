"""Values as JSON text, written as Go's encoder does for `json` and for what prints as JSON by itself.

Not `dialects.gojson`: that one writes whole replies, in the order of their keys; here keys are sorted, records have
their own order, and numbers are Go's floats. Source: modelfile-templates §2.3, §2.6, §2.8.
"""

from __future__ import annotations

import base64
import json
import re

from .meter import Meter
from .numerals import json_number
from .quoting import FIRST_LONE_BYTE, LAST_LONE_BYTE
from .values import NOTHING, List, Map, Record, Value

_ESCAPED = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_LONE_BYTE = re.compile(f"[{FIRST_LONE_BYTE}-{LAST_LONE_BYTE}]")


def encode(value: Value, meter: Meter) -> str:
    """Compact JSON with `<`, `>` and `&` escaped and keys sorted; a missing value is `null`."""
    parts: list[str] = []
    _write(value, parts, meter)
    return "".join(parts)


def _write(value: Value, parts: list[str], meter: Meter) -> None:
    if isinstance(value, (Record, List, Map)) and value.shape.json:
        value = value.shape.json(value)
    if value is None or value is NOTHING or (isinstance(value, Map) and value.is_nil):
        parts.append("null")
    elif isinstance(value, str):
        meter.spend(0, len(value))
        parts.append(_string(value))
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, float):
        parts.append(json_number(value))
    elif isinstance(value, int):
        parts.append(str(value))
    elif isinstance(value, bytes):
        meter.spend(0, len(value))
        parts.append(f'"{base64.b64encode(value).decode()}"')
    elif isinstance(value, list):
        _write_list(value, parts, meter)
    elif isinstance(value, Record):
        _write_members(_members(value), parts, meter)
    else:
        names = value if isinstance(value, Map) and value.shape.ordered else sorted(value)
        _write_members({name: value[name] for name in names}, parts, meter)


def _write_list(items: list[Value], parts: list[str], meter: Meter) -> None:
    meter.write_values(len(items))
    separator = "["
    for item in items:
        parts.append(separator)
        _write(item, parts, meter)
        separator = ","
    parts.append("]" if items else "[]")


def _write_members(members: dict[str, Value], parts: list[str], meter: Meter) -> None:
    meter.write_values(len(members))
    separator = "{"
    for name, item in members.items():
        parts.append(f"{separator}{_string(name)}:")
        _write(item, parts, meter)
        separator = ","
    parts.append("}" if members else "{}")


def _members(record: Record) -> dict[str, Value]:
    members = {}
    for column in record.shape.columns:
        name, _, key = column.partition("=")
        value = record.fields[name]
        if not key.endswith("?"):
            members[key] = value
        elif value or (isinstance(value, Map) and not value.is_nil):
            members[key[:-1]] = value
    return members


def _string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    for character, escaped in _ESCAPED.items():
        quoted = quoted.replace(character, escaped)
    return quoted if text.isascii() else _LONE_BYTE.sub(r"\\ufffd", quoted)

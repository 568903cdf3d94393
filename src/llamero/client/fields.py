"""Fields of a JSON reply, taken as they should be: what is missing or of another kind is empty, 0 or the zero time.

A server that is older, newer or not ours must not make a command fail for a field that it may not even show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..errors import ClientError
from .values import ZERO_TIME


def json_object(data: bytes) -> dict[str, Any]:
    """A whole reply, or a line of one. ClientError when it is no object: what answers is no server of ours."""
    try:
        value = json.loads(data)
    except ValueError:
        raise ClientError(f"the server's reply is not JSON: {data[:200].decode(errors='replace').strip()}") from None
    if not isinstance(value, dict):
        raise ClientError("the server's reply is not a JSON object")
    return value


def array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in array(value) if isinstance(entry, dict)]


def word(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


def share(entry: Mapping[str, Any], key: str) -> float:
    """A number from 0 to 1."""
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.0


def moment(value: Any) -> datetime:
    """A point in time with its zone."""
    try:
        told = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return ZERO_TIME
    return told if told.tzinfo else told.replace(tzinfo=UTC)

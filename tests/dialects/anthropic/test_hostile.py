"""Whatever stands at whatever place of a request: it is read, or refused in words."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from llamero.dialects.anthropic.reading import read_messages
from llamero.errors import BadRequest

TEXT = {"type": "text", "text": "x"}
RICH: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "system": [TEXT],
    "stop_sequences": ["X"],
    "tools": [
        {"name": "add", "description": "d", "strict": True, "input_schema": {"type": "object", "properties": {}}},
        {"type": "computer_20251124", "display_width_px": 1, "display_height_px": 1, "enable_zoom": True},
    ],
    "tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "options": {"num_ctx": 1},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "document", "title": "t", "source": {"type": "content", "content": [TEXT]}},
                {"type": "search_result", "title": "t", "source": "s", "content": [TEXT]},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "t", "url": "u"}]},
                {"type": "tool_use", "id": "i", "name": "add", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "i", "is_error": True, "content": [TEXT]}],
        },
    ],
}
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**300,
    "",
    "text",
    [],
    {},
    [[]],
    [{}],
    [None],
    {"type": "text"},
    {"type": []},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be put in place of something else."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(body)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def test_the_body_itself_is_sound() -> None:
    assert read_messages(json.dumps(RICH).encode()).request.warnings == ()


@pytest.mark.parametrize("path", list(places(RICH)), ids=lambda path: ".".join(map(str, path)))
def test_anything_anywhere_is_read_or_refused(path: tuple[Any, ...]) -> None:
    for value in VALUES:
        with contextlib.suppress(BadRequest):
            asked = read_messages(json.dumps(put(RICH, path, value)).encode())
            assert asked.request.messages

"""Tools that Anthropic defines and a client runs: their models know the input without being told, ours are told. Pure.

The fields are those of Anthropic's published tools, the words are ours. A toolset, which is many tools in one entry, is
not among them. Source: compat-api §9.4, and Anthropic's pages on the bash, text editor, computer use and memory tools.
"""

from __future__ import annotations

import re
from typing import Any

from ..fields import Fields

_TYPE = re.compile(r"(bash|text_editor|computer|memory)_(\d{8})")

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_POINT = {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}

_UNDO_UNTIL = "20250124"
"""The last text editor that could take an edit back."""
_INSERT_TEXT_SINCE = "20250728"
"""The first whose models call the text to insert `insert_text`; it was `new_str` before."""
_ZOOM_SINCE = "20251124"

_FIRST_COMPUTER = "20241022"
_FIRST_ACTIONS = (
    "key type mouse_move left_click left_click_drag right_click middle_click double_click screenshot cursor_position"
)
_LATER_ACTIONS = "left_mouse_down left_mouse_up triple_click scroll hold_key wait"


def published(kind: str, tool: Fields) -> tuple[dict[str, Any], frozenset[str]] | None:
    """The tool as a function, and the names of the fields that only it has; None for other types."""
    match = _TYPE.fullmatch(kind)
    if match is None:
        return None
    family, version = match.groups()
    makers = {"bash": _bash, "text_editor": _text_editor, "computer": _computer, "memory": _memory}
    function = makers[family](version, tool)
    if name := tool.text("name"):
        function["name"] = name
    return function, _FIELDS.get(family, frozenset())


_FIELDS = {
    "text_editor": frozenset({"max_characters"}),  # for the client, which cuts what it shows
    "computer": frozenset({"display_width_px", "display_height_px", "display_number", "enable_zoom"}),
}


def _function(name: str, description: str, required: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required.split()}
    return {"name": name, "description": description, "parameters": parameters}


def _bash(version: str, tool: Fields) -> dict[str, Any]:
    properties = {
        "command": _TEXT | {"description": "What to run. Required unless the shell is restarted."},
        "restart": {"type": "boolean", "description": "True to restart the shell instead."},
    }
    return _function("bash", "Run commands in a bash shell that keeps its state between calls.", "", properties)


def _text_editor(version: str, tool: Fields) -> dict[str, Any]:
    has_undo = version <= _UNDO_UNTIL
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if has_undo else [])]
    properties = {
        "command": {"type": "string", "enum": commands},
        "path": _TEXT | {"description": "Absolute path of a file, or for view of a folder."},
        "view_range": _POINT | {"description": "For view: first and last line, counted from 1; -1 is the end."},
        "file_text": _TEXT | {"description": "For create: what the file shall hold."},
        "old_str": _TEXT | {"description": "For str_replace: the text to replace; it must occur exactly once."},
        "new_str": _TEXT | {"description": "For str_replace: the text to put in its place."},
        "insert_line": _WHOLE | {"description": "For insert: the line behind which the text goes; 0 is the beginning."},
    }
    if version >= _INSERT_TEXT_SINCE:
        properties["insert_text"] = _TEXT | {"description": "For insert: the text."}
    else:
        properties["new_str"] = _TEXT | {"description": "For str_replace and insert: the new text."}
    name = "str_replace_editor" if has_undo else "str_replace_based_edit_tool"
    return _function(name, "View, create and edit text files.", "command path", properties)


def _computer(version: str, tool: Fields) -> dict[str, Any]:
    actions = _FIRST_ACTIONS.split()
    properties = {
        "action": {"type": "string", "enum": actions},
        "coordinate": _POINT | {"description": "x and y in pixels from the upper left corner."},
        "text": _TEXT | {"description": "What to type, or the keys to press, such as ctrl+s."},
    }
    if version > _FIRST_COMPUTER:
        actions += _LATER_ACTIONS.split()
        properties |= {
            "start_coordinate": _POINT | {"description": "For left_click_drag: where it begins."},
            "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
            "scroll_amount": _WHOLE | {"description": "For scroll: clicks of the wheel."},
            "duration": {"type": "number", "description": "For hold_key and wait: seconds."},
        }
    if version >= _ZOOM_SINCE and tool.boolean("enable_zoom"):
        actions.append("zoom")
        corners = {"type": "array", "items": _WHOLE, "minItems": 4, "maxItems": 4}
        properties["region"] = corners | {"description": "For zoom: x and y of two opposite corners."}
    width, height = tool.integer("display_width_px"), tool.integer("display_height_px")
    screen = f" The screen has {width} by {height} pixels." if width and height else ""
    return _function("computer", f"Use a screen, a mouse and a keyboard.{screen}", "action", properties)


def _memory(version: str, tool: Fields) -> dict[str, Any]:
    commands = ["view", "create", "str_replace", "insert", "delete", "rename"]
    properties = {
        "command": {"type": "string", "enum": commands},
        "path": _TEXT | {"description": "For all but rename: a path below /memories."},
        "view_range": _POINT | {"description": "For view: first and last line, counted from 1."},
        "file_text": _TEXT | {"description": "For create: what the file shall hold."},
        "old_str": _TEXT | {"description": "For str_replace: the text to replace."},
        "new_str": _TEXT | {"description": "For str_replace: the text to put in its place."},
        "insert_line": _WHOLE | {"description": "For insert: the line behind which the text goes."},
        "insert_text": _TEXT | {"description": "For insert: the text."},
        "old_path": _TEXT | {"description": "For rename: the path until now."},
        "new_path": _TEXT | {"description": "For rename: the path from now on."},
    }
    return _function("memory", "Keep notes in files that outlive this conversation.", "command", properties)

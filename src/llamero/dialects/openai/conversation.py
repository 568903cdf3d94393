"""The messages of a chat completion, from JSON to `messages.Message`. Source: compat-api §5.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...messages import Message, ToolCall
from ..fields import Fields
from ..limits import MAX_MESSAGES
from .parts import Content, read_parts

_ROLES = {"developer": "system", "function": "tool"}
"""Roles that templates do not know: a newer and an older name."""


def read_messages(body: Fields, fetched: Mapping[str, bytes]) -> tuple[Message, ...]:
    given = body.objects("messages")
    if not given:
        raise body.invalid("messages", "[] is too short - 'messages'")
    if len(given) > MAX_MESSAGES:
        raise body.invalid("messages", f"messages: at most {MAX_MESSAGES} items are accepted")
    calls = [_calls(message) for message in given]
    names = {call.id: call.name for each in calls for call in each}
    return tuple(_message(message, own, names, fetched) for message, own in zip(given, calls, strict=True))


def _message(
    message: Fields, calls: Sequence[ToolCall], names: Mapping[str, str], fetched: Mapping[str, bytes]
) -> Message:
    role = message.text("role")
    if not role:
        raise message.invalid("role", f"'{message.at('role')}' is required")
    role = _ROLES.get(role.lower(), role.lower())
    content = _content(message, fetched)
    call_id = (message.text("tool_call_id") or "") if role == "tool" else ""
    return Message(
        role,
        content.text,
        thinking=message.text("reasoning") or message.text("reasoning_content") or "",
        images=content.media,
        tool_calls=tuple(calls),
        tool_name=(message.text("name") or names.get(call_id, "")) if role == "tool" else "",
        tool_call_id=call_id,
    )


def _content(message: Fields, fetched: Mapping[str, bytes]) -> Content:
    value = message.raw("content")
    if isinstance(value, str):
        return Content(value)
    if isinstance(value, list):
        return read_parts(message.objects("content"), fetched)
    if value is None and (message.raw("tool_calls") is not None or message.raw("function_call") is not None):
        return Content()
    kind = "null" if value is None else type(value).__name__
    raise message.invalid("content", f"invalid message content type: {kind}")


def _calls(message: Fields) -> list[ToolCall]:
    calls = []
    for index, call in enumerate(message.objects("tool_calls")):
        function = call.object("function")
        if function is None:
            raise call.invalid("function", f"'{call.at('function')}' is required")
        calls.append(ToolCall(_name(function), _arguments(function), call.text("id") or "", index))
    legacy = message.object("function_call")
    if legacy is not None and not calls:
        calls.append(ToolCall(_name(legacy), _arguments(legacy)))
    return calls


def _name(function: Fields) -> str:
    name = function.text("name")
    if not name:
        raise function.invalid("name", f"'{function.at('name')}' is required")
    return name


def _arguments(function: Fields) -> dict[str, Any]:
    """JSON text of an object; nothing at all, or `null`, means no arguments."""
    text = function.raw("arguments")
    if isinstance(text, str) and text.strip() in ("", "null"):
        return {}
    try:
        value = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise function.invalid("arguments", "invalid tool call arguments")
    return value

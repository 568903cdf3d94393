"""Items of a conversation, as requests bring them and as they were kept, into messages. Source: compat-api §8.2.

Models know turns, not items: a call belongs to the assistant's message before it, thinking to the one after it, and
between a call and its output nothing may stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...messages import Message, ToolCall
from .. import images
from ..fields import Fields
from ..limits import MAX_MESSAGES
from .content import read_content
from .tools import CUSTOM_ARGUMENT, qualified

Item = dict[str, Any]

_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True, slots=True)
class History:
    """What a request refers to and does not bring along. Whoever can has looked it up: see the functions below."""

    earlier: Sequence[Item] = ()
    """Input and output of the response that `previous_response_id` names."""
    referenced: Mapping[str, Item] = field(default_factory=dict)
    """Kept items by id, for `item_reference`."""
    fetched: Mapping[str, bytes] = field(default_factory=dict)
    """Pictures by URL."""


def references(body: Fields) -> list[str]:
    """The ids of kept items that a request's input refers to."""
    given = body.raw("input")
    return [
        item["id"]
        for item in (given if isinstance(given, list) else ())
        if isinstance(item, dict) and item.get("type") == "item_reference" and isinstance(item.get("id"), str)
    ]


def remote_urls(body: Fields, history: History) -> dict[str, str]:
    """The pictures of a request and of its history that somebody would have to fetch, and the field of each."""
    brought = {
        "previous_response_id": [*history.earlier, *history.referenced.values()],
        "instructions": body.raw("instructions"),
    }
    found = {url: name for name, items in brought.items() for url in images.remote_urls({"input": items})}
    return found | images.remote_urls({"input": body.raw("input")})


def input_items(body: Fields, history: History) -> list[Fields]:
    """All items of the conversation that a request goes on with, earlier ones first and references resolved."""
    items = [Fields(item, "previous_response_id") for item in history.earlier] + _own_items(body, history)
    if len(items) > MAX_MESSAGES:
        raise body.invalid(
            "input", f"input: at most {MAX_MESSAGES} items are accepted, with those of earlier responses"
        )
    return items


def _own_items(body: Fields, history: History) -> list[Fields]:
    value = body.raw("input")
    if isinstance(value, str):
        return [Fields({"type": "message", "role": "user", "content": value}, "input")] if value else []
    if value is not None and not isinstance(value, list):
        raise body.invalid("input", "'input' must be a string or an array of items")
    return [_resolved(item, history.referenced) for item in body.objects("input")]


def _resolved(item: Fields, referenced: Mapping[str, Item]) -> Fields:
    if item.raw("type") != "item_reference":
        return item
    id_ = item.text("id") or ""
    if id_ not in referenced:
        raise item.invalid("id", f"Item with id '{id_[:100]}' not found.")
    return Fields(referenced[id_], item.path)


def read_items(items: Sequence[Fields], fetched: Mapping[str, bytes], warnings: list[str]) -> tuple[Message, ...]:
    """The conversation that the items make. Raises InvalidField; what is left out is added to `warnings`."""
    conversation = _Conversation(items, fetched, warnings)
    for place, item in enumerate(items):
        conversation.add(place, item)
    return conversation.messages()


@dataclass(slots=True)
class _Draft:
    """A message to which later items may still add."""

    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    media: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    tool_name: str = ""
    call_id: str = ""

    def message(self) -> Message:
        return Message(
            self.role,
            "\n".join(filter(None, self.texts)),
            "\n".join(self.thoughts),
            tuple(self.media),
            tuple(self.calls),
            self.tool_name,
            self.call_id,
        )


class _Conversation:
    def __init__(self, items: Sequence[Fields], fetched: Mapping[str, bytes], warnings: list[str]) -> None:
        self._fetched = fetched
        self._warnings = warnings
        self._names = {_call_id(item): _name(item) for item in items if item.raw("type") in _CALLS}
        self._answered = {_call_id(item): place for place, item in enumerate(items) if item.raw("type") in _OUTPUTS}
        """Where the last output of each call stands."""
        self._drafts: list[_Draft] = []
        self._thoughts: list[str] = []
        """What was thought before the next thing that the assistant says or does."""
        self._caller: _Draft | None = None
        """The assistant's message whose calls are being answered."""
        self._answered_until = -1
        """The place of the last output for it."""

    def add(self, place: int, item: Fields) -> None:
        match item.text("type") or ("message" if item.raw("role") is not None else ""):
            case "":
                raise item.invalid("type", f"{item.path}: input item missing required 'type' field")
            case "message":
                self._say(place, item)
            case "function_call":
                self._call(item, _arguments(item))
            case "custom_tool_call":
                self._call(item, {CUSTOM_ARGUMENT: item.text("input") or ""})
            case "function_call_output" | "custom_tool_call_output":
                self._output(item)
            case "reasoning":
                self._thoughts += _thoughts(item)
            case "web_search_call":
                pass  # what it found stands in the answer that followed
            case kind:
                raise item.invalid("type", f'{item.path}: unknown input item type: "{kind[:100]}"')

    def messages(self) -> tuple[Message, ...]:
        self._flush_thoughts()
        return tuple(draft.message() for draft in self._drafts)

    def _say(self, place: int, item: Fields) -> None:
        role = _required(item, "role").lower()
        content = read_content(item, "content", self._fetched, self._warnings)
        is_assistant = role == "assistant"
        if is_assistant and self._caller is not None and self._answered_until > place:
            draft = self._caller
        else:
            if not is_assistant:
                self._flush_thoughts()
            self._caller = None
            draft = self._begin("system" if role == "developer" else role)
        draft.texts.append(content.text)
        draft.media += content.media
        if is_assistant:
            self._take_thoughts(draft)

    def _call(self, item: Fields, arguments: dict[str, Any]) -> None:
        call_id = _call_id(item)
        last = self._drafts[-1] if self._drafts else None
        draft = last if last is not None and last.role == "assistant" else self._begin("assistant")
        self._take_thoughts(draft)
        if draft is not self._caller:
            self._caller, self._answered_until = draft, -1
        self._answered_until = max(self._answered_until, self._answered.get(call_id, -1))
        draft.calls.append(ToolCall(_name(item), arguments, call_id, len(draft.calls)))

    def _output(self, item: Fields) -> None:
        call_id = _call_id(item)
        content = read_content(item, "output", self._fetched, self._warnings)
        draft = self._begin("tool")
        draft.texts.append(content.text)
        draft.media += content.media
        draft.call_id, draft.tool_name = call_id, self._names.get(call_id, "")

    def _begin(self, role: str) -> _Draft:
        draft = _Draft(role)
        self._drafts.append(draft)
        return draft

    def _take_thoughts(self, draft: _Draft) -> None:
        draft.thoughts += self._thoughts
        self._thoughts.clear()

    def _flush_thoughts(self) -> None:
        """What was thought, and led to nothing that was said."""
        if self._thoughts:
            self._take_thoughts(self._begin("assistant"))


def _required(item: Fields, name: str) -> str:
    text = item.text(name)
    if not text:
        raise item.invalid(name, f"'{item.at(name)}' is required")
    return text


def _call_id(item: Fields) -> str:
    return _required(item, "call_id")


def _name(call: Fields) -> str:
    return qualified(_required(call, "name"), call.text("namespace"))


def _arguments(call: Fields) -> dict[str, Any]:
    """JSON text of an object; nothing at all, or `null`, means no arguments."""
    text = call.text("arguments") or ""
    if text.strip() in ("", "null"):
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise call.invalid("arguments", f"failed to parse function call arguments: {error}") from error
    if not isinstance(value, dict):
        raise call.invalid("arguments", "failed to parse function call arguments: they must be a JSON object")
    return value


def _thoughts(item: Fields) -> list[str]:
    """What a reasoning item holds, in the fullest form that it has."""
    encrypted = item.text("encrypted_content")
    if encrypted:
        return [encrypted]
    for name in ("content", "summary"):
        texts = [part.text("text") or "" for part in item.objects(name)]
        if any(texts):
            return ["\n".join(filter(None, texts))]
    return []

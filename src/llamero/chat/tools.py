"""Tool calls in a model's raw text, found while it streams in. It knows one tag and the names of the tools, no family.

Source: modelfile-templates §6.2 to §6.4. A call is a JSON object and the name of a tool, in whatever way a model puts
the two together. Text that looked like a call and is none comes back as text. What we mend (§6.3 [+]): where an object
says `name`, that is the name that counts; `tool_name` and the like (Command R) are no arguments; and an object that is
no call never becomes the arguments of the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

from ..messages import Text, ToolCall
from .objects import Between, Object, ObjectCutter, Part
from .tags import begun

MAX_REJECTED = 1_000
"""Objects in a row that are no calls, after which there will be none: answers call tools a few times."""

BARE_TAGS = ("{", "[")
"""Tags that are none: calls begin with their JSON."""

ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH = 8

_PIECE = re.compile(r"<[^>]*>|\[[^]]*\]")
_ARGUMENTS = frozenset({"arguments", "parameters"})
_UNREADABLE = (ValueError, RecursionError)
"""What decoding raises: bad JSON, half a surrogate pair, a thousand levels."""


def call_id(random_below: Callable[[int], int]) -> str:
    """A new id for a call (T-83); `random_below(n)` gives a number from 0 to n - 1."""
    return "call_" + "".join(ID_CHARACTERS[random_below(len(ID_CHARACTERS))] for _ in range(ID_LENGTH))


def clean_tag(tag: str) -> str:
    """A tag as the parser searches for it: without the JSON that may follow it in a template (§6.1 step 3)."""
    return tag.replace("\r\n", "\n").partition("{")[0].strip() or "{"


def visible_tokens(tag: str) -> list[str]:
    """The special tokens that a tag may consist of; the engine must be asked to show them (§6.4)."""
    return _PIECE.findall(clean_tag(tag))


class Names:
    """The names of the tools, found anywhere in a text."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(filter(None, set(names)), key=len, reverse=True)

    def first_in(self, text: str) -> tuple[str, int] | None:
        """The earliest name, at one place the longest, and where it ends."""
        if not text or text.isspace():
            return None
        # of names at one place min keeps the first, which is the longest
        found = [(at, name) for name in self._names if (at := text.find(name)) >= 0]
        if not found:
            return None
        at, name = min(found, key=lambda place: place[0])
        return name, at + len(name)


class _State(Enum):
    LOOKING = auto()
    """For the tag."""
    CALLING = auto()
    """Behind it."""
    DONE = auto()
    """All the rest is text."""
    ENOUGH = auto()
    """All the rest is nothing: there were as many calls as are allowed."""


@dataclass(frozen=True, slots=True)
class _Nameless:
    value: dict[str, Any]
    text: str


@dataclass(slots=True)
class _Section:
    """What came behind a tag, or behind the last call."""

    raw: list[str] = field(default_factory=list)
    has_calls: bool = False
    name: str | None = None
    """Of a tool, as the next object may need it."""
    nameless: _Nameless | None = None
    """The object before, which is a call if the name of a tool follows it."""
    rejected: list[str] = field(default_factory=list)
    """Objects that are no calls."""
    misses: int = 0


class ToolParser:
    """Feed it the text of an answer piece by piece, and `finish` when no more will come.

    `tag`: what calls begin with, inferred from the template; empty or `{`: the JSON itself. `new_id` names each call.
    `max_calls`: what comes after so many is swallowed.
    """

    def __init__(
        self, names: Iterable[str], tag: str = "", *, new_id: Callable[[], str], max_calls: int | None = None
    ) -> None:
        self._names = Names(names)
        self._tag = clean_tag(tag)
        self._is_bare = self._tag in BARE_TAGS
        self._new_id = new_id
        self._max_calls = max_calls
        self._state = _State.LOOKING
        self._held = ""
        """What may be the beginning of the tag."""
        self._cutter = ObjectCutter(in_list=self._tag == "[")
        self._section = _Section()
        self._calls = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing that may still come changes the answer."""
        return self._state is _State.ENOUGH

    @property
    def may_end_early(self) -> bool:
        return self._max_calls is not None

    def feed(self, text: str) -> list[Text | ToolCall]:
        match self._state:
            case _State.LOOKING:
                content, text = self._look(text)
                events: list[Text | ToolCall] = [Text(content)] if content else []
                return events + self._read(text) if text else events
            case _State.CALLING:
                return self._read(text)
            case _State.DONE:
                return [Text(text)] if text else []
            case _State.ENOUGH:
                return []

    def finish(self) -> list[Text | ToolCall]:
        """What was held back: a call that the end completes, and text that is no call."""
        events: list[Text | ToolCall] = [Text(self._held)] if self._held else []
        self._held = ""
        if self._state is _State.CALLING:
            for part in self._cutter.finish():
                events += self._part(part)
        if self._state is _State.CALLING:
            events += self._end_of_section()
            self._state = _State.DONE
        return events

    def _look(self, text: str) -> tuple[str, str]:
        """What is surely no call, and what is left to be read behind the tag."""
        text = self._held + text
        self._held = ""
        content, tag, rest = text.partition(self._tag)
        if self._is_bare and content and not content.isspace():
            self._state = _State.DONE
            return text, ""
        if tag:
            self._state = _State.CALLING
            if self._is_bare:
                return content, tag + rest
            self._section.raw.append(tag)
            return content, rest
        keep = begun(text, self._tag)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def _read(self, text: str) -> list[Text | ToolCall]:
        events: list[Text | ToolCall] = []
        for part in self._cutter.feed(text):
            events += self._part(part)
            if self._state is _State.DONE and (rest := text[part.end :]):
                events.append(Text(rest))
            if self._state is not _State.CALLING:
                break
        return events

    def _part(self, part: Part) -> list[Text | ToolCall]:
        return self._object(part.text) if isinstance(part, Object) else self._between(part)

    # --- a section: from one tag to the next ---

    def _between(self, part: Between) -> list[Text | ToolCall]:
        first, *others = [part.text] if self._is_bare else part.text.split(self._tag)
        events = self._words(first)
        for text in others:
            if self._state is _State.CALLING:
                events += self._end_of_section()
                self._section = _Section([self._tag])
                events += self._words(text)
        if part.closes_list and self._state is _State.CALLING:
            events += self._give_up()
        return events

    def _words(self, text: str) -> list[Text | ToolCall]:
        """Text around objects: it may name the tool of the object before it or of the one after it."""
        section = self._section
        found = self._names.first_in(text)
        if section.nameless is not None and found is not None:
            name, end = found
            events = self._call(name, section.nameless.value)
            self._section.raw.append(text[end:])
            return events
        section.raw.append(text)
        if section.name is None and found is not None:
            section.name = found[0]
        return []

    def _object(self, text: str) -> list[Text | ToolCall]:
        section = self._section
        section.raw.append(text)
        if section.nameless is not None:
            section.rejected.append(section.nameless.text)
            section.nameless = None
        if section.name is None and (found := self._names.first_in(text)):
            section.name = found[0]
        try:
            value = msgspec.json.decode(text, type=dict[str, Any])
        except _UNREADABLE:
            return self._miss()
        said = _said(value, section.name)
        if said is None:
            if section.name is not None:
                return self._call(section.name, value)
            section.nameless = _Nameless(value, text)
            return self._miss()
        found = self._names.first_in(said.name)
        if found is not None and said.arguments is not None:
            return self._call(found[0], said.arguments)
        section.name = None
        section.rejected.append(text)
        return self._miss()

    def _call(self, name: str, arguments: dict[str, Any]) -> list[Text | ToolCall]:
        rejected = "".join(self._section.rejected)
        events: list[Text | ToolCall] = [Text(rejected)] if rejected else []
        events.append(ToolCall(name, arguments, self._new_id(), self._calls))
        self._section = _Section(has_calls=True)
        self._cutter.leave_list()
        self._calls += 1
        if self._calls == self._max_calls:
            self._state = _State.ENOUGH
        return events

    def _miss(self) -> list[Text | ToolCall]:
        """An object that is no call, or none yet."""
        self._section.misses += 1
        if self._tag == "{" or self._section.misses > MAX_REJECTED:
            return self._give_up()
        return []

    def _give_up(self) -> list[Text | ToolCall]:
        """There was no call, and there will be none."""
        self._state = _State.DONE
        return [Text("".join(self._section.raw))]

    def _end_of_section(self) -> list[Text | ToolCall]:
        """Give a section without a call back; behind calls stands only what closes them, or an object that is none."""
        rest = "".join(self._section.raw)
        if self._section.has_calls:
            rest = rest[rest.find("{") :] if "{" in rest else ""
        return [Text(rest)] if rest else []


@dataclass(frozen=True, slots=True)
class _Said:
    """What an object says of a call: the text that should name a tool, and the arguments if they are any."""

    name: str
    arguments: dict[str, Any] | None


def _said(value: dict[str, Any], tool: str | None) -> _Said | None:
    """The first object, from the outside in, that speaks of a call; None: there is none.

    It has a `name`, or a key that is the tool's, or else it has arguments and is about the tool: `"tool_name": "add"`.
    """
    waiting: list[Any] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "name" in part:
                name = part["name"]
                arguments = _as_object(part.get("arguments", part.get("parameters")))
                return _Said(name if isinstance(name, str) else "", arguments)
            if tool is not None and tool in part:
                return _Said(tool, _as_object(part[tool]))
            if tool is not None and tool in part.values() and not _ARGUMENTS.isdisjoint(part):
                return _Said(tool, _as_object(part.get("arguments", part.get("parameters"))))
            part = list(part.values())
        if isinstance(part, list):
            waiting += reversed(part)
    return None


def _as_object(value: Any) -> dict[str, Any] | None:
    """Arguments may be an object, or a text that holds one."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value, type=dict[str, Any])
        except _UNREADABLE:
            return None
    return value if isinstance(value, dict) else None

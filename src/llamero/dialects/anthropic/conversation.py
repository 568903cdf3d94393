"""The conversation of a request: Anthropic's turns and blocks as messages of our vocabulary. Pure.

Adjacent turns of one role are one turn, as they are officially. Source: compat-api §9.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import InvalidField
from ...messages import Message, ToolCall
from ..fields import Fields
from ..limits import MAX_MESSAGES
from .content import Content, joined

_ROLES = ("user", "assistant", "system")


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: tuple[Message, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Turn:
    role: str
    blocks: list[Fields]


def read_conversation(body: Fields, fetched: Mapping[str, bytes]) -> Conversation:
    """`system` and `messages` of a request. Raises InvalidField."""
    given = body.objects("messages")
    if not given:
        raise body.invalid("messages", "messages is required")
    if len(given) > MAX_MESSAGES:
        raise body.invalid("messages", f"messages: at most {MAX_MESSAGES} items are accepted")
    reader = _Reader(fetched)
    messages = tuple(message for turn in _turns(body, given) for message in reader.read(turn))
    if not messages:  # to the native layer this would be a wish to load the model
        raise body.invalid("messages", "messages is required: all of them are empty")
    return Conversation(messages, tuple(reader.warnings))


def _turns(body: Fields, messages: list[Fields]) -> list[_Turn]:
    turns = [] if body.raw("system") is None else [_Turn("system", _blocks(body, "system"))]
    for message in messages:
        role = (message.text("role") or "").lower()
        if role not in _ROLES:
            raise message.invalid("role", f"'{message.at('role')}' must be user or assistant")
        blocks = _blocks(message, "content")
        if turns and turns[-1].role == role:
            turns[-1].blocks += blocks
        else:
            turns.append(_Turn(role, blocks))
    return turns


def _blocks(owner: Fields, name: str) -> list[Fields]:
    """A mere string is one block of text."""
    value = owner.raw(name)
    if isinstance(value, str):
        return [Fields({"type": "text", "text": value}, owner.at(name))]
    if isinstance(value, list):
        return owner.objects(name)
    raise owner.invalid(name, f"'{owner.at(name)}' must be a string or an array of blocks")


@dataclass(slots=True)
class _Said:
    """What an assistant has said since the last result of a tool that ran elsewhere."""

    content: Content
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def messages(self) -> Iterator[Message]:
        text, thinking, images = self.content.text, joined(self.thoughts), tuple(self.content.images)
        if text or thinking or images or self.calls:
            yield Message("assistant", text, thinking, images, tuple(self.calls))


class _Reader:
    """Reads the turns of one conversation in their order: a result belongs to a call that came before it."""

    def __init__(self, fetched: Mapping[str, bytes]) -> None:
        self._fetched = fetched
        self._names: dict[str, str] = {}
        """Of the tools that were called, by the ids of the calls."""
        self.warnings: list[str] = []

    def read(self, turn: _Turn) -> Iterator[Message]:
        match turn.role:
            case "user":
                yield from self._user(turn.blocks)
            case "assistant":
                yield from self._assistant(turn.blocks)
            case _:
                yield from self._system(turn.blocks)

    def _system(self, blocks: list[Fields]) -> Iterator[Message]:
        content = Content(self._fetched)
        for block in blocks:
            if block.text("type") == "text":
                content.take(block)
            else:
                self.warnings.append(f"{block.path}: a block of type {block.text('type')!r} has no effect there")
        if content.text:
            yield Message("system", content.text)

    def _user(self, blocks: list[Fields]) -> Iterator[Message]:
        """The results of tools first: templates want them right behind the calls."""
        content = Content(self._fetched)
        for block in blocks:
            if block.text("type") == "tool_result":
                yield self._result(block)
            elif not content.take(block):
                raise _unknown(block, "a user message")
        if content.text or content.images:
            yield Message("user", content.text, images=tuple(content.images))

    def _assistant(self, blocks: list[Fields]) -> Iterator[Message]:
        said = _Said(Content(self._fetched))
        for block in blocks:
            match block.text("type"):
                case "tool_use" | "server_tool_use":
                    said.calls.append(self._call(block, len(said.calls)))
                case "web_search_tool_result":
                    yield from said.messages()
                    said = _Said(Content(self._fetched))
                    yield self._answer(block, _found(block))
                case "thinking":
                    said.thoughts.append(block.text("thinking") or "")
                case "redacted_thinking":
                    pass  # nobody but its maker can read it
                case _ if not said.content.take(block):
                    raise _unknown(block, "an assistant message")
        yield from said.messages()

    def _call(self, block: Fields, index: int) -> ToolCall:
        id_, name = block.text("id"), block.text("name")
        if not id_:
            raise block.invalid("id", "tool_use block missing required 'id' field")
        if not name:
            raise block.invalid("name", "tool_use block missing required 'name' field")
        self._names[id_] = name
        arguments = {} if block.object("input") is None else block.raw("input")
        return ToolCall(name, arguments, id_, index)

    def _answer(self, result: Fields, text: str, images: Sequence[bytes] = ()) -> Message:
        """What a tool says to the call that it answers."""
        id_ = result.text("tool_use_id") or ""
        if id_ not in self._names:
            raise result.invalid("tool_use_id", f"'{result.at('tool_use_id')}' matches no tool_use block before it")
        return Message("tool", text, images=tuple(images), tool_name=self._names[id_], tool_call_id=id_)

    def _result(self, block: Fields) -> Message:
        content = Content(self._fetched, picture="tool_result image")
        for part in () if block.raw("content") is None else _blocks(block, "content"):
            if not content.take(part):
                raise _unknown(part, "a tool_result")
        text = f"Error: {content.text}" if block.boolean("is_error") else content.text  # all that a template shows
        return self._answer(block, text, content.images)


def _found(block: Fields) -> str:
    """What a web search found, in the words in which the model was told of it."""
    if isinstance(block.raw("content"), dict):
        failure = Fields(block.raw("content"), block.at("content"))
        return f"web_search_tool_result_error: {failure.text('error_code') or ''}"
    return "\n".join(f"- {page.text('title') or ''}: {page.text('url') or ''}" for page in block.objects("content"))


def _unknown(block: Fields, where: str) -> InvalidField:
    return block.invalid("type", f"{block.path}: blocks of type {block.text('type')!r} are not supported in {where}")

"""The items of an answer, made of its parts in the order in which they come, and what a stream tells of each step.

One item is open at a time: thinking and text go on until something else comes; a call is whole at once. The same items
make a reply that is not streamed. Source: compat-api §8.4 for the items, §8.5 for the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from ...messages import Text, Thinking, ToolCall
from .reading import Asked
from .reply import (
    CustomCallItem,
    FunctionCallItem,
    ItemStatus,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    SummaryText,
    TokenLogprob,
    logprobs_of,
)
from .tools import Called, custom_input

Part = Text | Thinking | ToolCall

Event = tuple[str, dict[str, Any]]
"""The name of an event without `response.`, and what it says."""

NewId = Callable[[str], str]
"""Makes an id of a prefix: `msg` becomes `msg_` and at least 24 random characters."""

PIECE_CHARS = 64
"""Arguments come in pieces of this length, so that whoever shows them while they come sees them come."""


class _Reasoning:
    """A reasoning item that is open. Source: compat-api §8.5."""

    def __init__(self, id_: str, index: int, *, shows_thoughts: bool) -> None:
        self._id = id_
        self._where = {"item_id": id_, "output_index": index, "summary_index": 0}
        self._index = index
        self._shows_thoughts = shows_thoughts
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        yield _added(self._index, ReasoningItem(id=self._id))
        yield "reasoning_summary_part.added", {**self._where, "part": SummaryText(text="")}

    def add(self, part: Text | Thinking) -> Iterator[Event]:
        self._texts.append(part.text)
        yield "reasoning_summary_text.delta", {**self._where, "delta": part.text}

    def item(self, status: ItemStatus) -> ReasoningItem:
        text = "".join(self._texts)
        return ReasoningItem(
            id=self._id,
            status=UNSET if status == "completed" else status,
            summary=[SummaryText(text=text)],
            encrypted_content=text if self._shows_thoughts else UNSET,
        )

    def end(self, item: OutputItem) -> Iterator[Event]:
        summary = SummaryText(text="".join(self._texts))
        yield "reasoning_summary_text.done", {**self._where, "text": summary.text}
        yield "reasoning_summary_part.done", {**self._where, "part": summary}
        yield _done(self._index, item)


class _Message:
    """A message item that is open."""

    def __init__(self, id_: str, index: int) -> None:
        self._id = id_
        self._where = {"item_id": id_, "output_index": index, "content_index": 0}
        self._index = index
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> Iterator[Event]:
        yield _added(self._index, MessageItem(id=self._id, status="in_progress"))
        yield "content_part.added", {**self._where, "part": OutputText(text="")}

    def add(self, part: Text | Thinking) -> Iterator[Event]:
        logprobs = logprobs_of(part.logprobs)
        self._texts.append(part.text)
        self._logprobs += logprobs
        yield "output_text.delta", {**self._where, "delta": part.text, "logprobs": logprobs}

    def item(self, status: ItemStatus) -> MessageItem:
        return MessageItem(id=self._id, status=status, content=[self._content()])

    def end(self, item: OutputItem) -> Iterator[Event]:
        content = self._content()
        yield "output_text.done", {**self._where, "text": content.text, "logprobs": content.logprobs}
        yield "content_part.done", {**self._where, "part": content}
        yield _done(self._index, item)

    def _content(self) -> OutputText:
        return OutputText(text="".join(self._texts), logprobs=self._logprobs)


class Output:
    """What an answer consists of so far."""

    def __init__(self, asked: Asked, new_id: NewId) -> None:
        self._asked = asked
        self._new_id = new_id
        self._closed: list[OutputItem] = []
        self._open: _Reasoning | _Message | None = None

    def items(self) -> list[OutputItem]:
        """One that is open counts as cut off."""
        return self._closed if self._open is None else [*self._closed, self._open.item("incomplete")]

    def add(self, part: Part) -> Iterator[Event]:
        """The next part; whoever calls must take all the events."""
        if isinstance(part, ToolCall):
            yield from self._close("completed")
            yield from self._call(part)
        elif part.text or part.logprobs:
            kind = _Message if isinstance(part, Text) else _Reasoning
            if not isinstance(self._open, kind):
                yield from self._close("completed")
                yield from self._begin(part)
            assert self._open is not None
            yield from self._open.add(part)

    def end(self, status: ItemStatus) -> Iterator[Event]:
        """Close what is open. An answer that neither says nor calls anything ends with an empty message."""
        yield from self._close(status)
        if all(isinstance(item, ReasoningItem) for item in self._closed):
            yield from self._begin(Text(""))
            yield from self._close(status)

    def _begin(self, part: Text | Thinking) -> Iterator[Event]:
        index = len(self._closed)
        if isinstance(part, Text):
            self._open = _Message(self._new_id("msg"), index)
        else:
            self._open = _Reasoning(self._new_id("rs"), index, shows_thoughts=self._asked.shows_thoughts)
        yield from self._open.begin()

    def _close(self, status: ItemStatus) -> Iterator[Event]:
        open_, self._open = self._open, None
        if open_ is not None:
            item = open_.item(status)
            self._closed.append(item)
            yield from open_.end(item)

    def _call(self, call: ToolCall) -> Iterator[Event]:
        index = len(self._closed)
        called = self._asked.called.get(call.name, Called(call.name))
        call_id, namespace = call.id or self._new_id("call"), called.namespace or UNSET
        if called.is_custom:
            custom = CustomCallItem(
                id=self._new_id("ctc"),
                status="completed",
                call_id=call_id,
                name=called.name,
                namespace=namespace,
                input=custom_input(call.arguments),
            )
            self._closed.append(custom)
            yield from _custom_events(index, custom)
        else:
            function = FunctionCallItem(
                id=self._new_id("fc"),
                status="completed",
                call_id=call_id,
                name=called.name,
                namespace=namespace,
                arguments=msgspec.json.encode(call.arguments).decode(),
            )
            self._closed.append(function)
            yield from _function_events(index, function)


def _function_events(index: int, item: FunctionCallItem) -> Iterator[Event]:
    where = {"item_id": item.id, "output_index": index}
    yield _added(index, msgspec.structs.replace(item, status="in_progress", arguments=""))
    for piece in _pieces(item.arguments):
        yield "function_call_arguments.delta", {**where, "delta": piece}
    yield "function_call_arguments.done", {**where, "name": item.name, "arguments": item.arguments}
    yield _done(index, item)


def _custom_events(index: int, item: CustomCallItem) -> Iterator[Event]:
    where = {"item_id": item.id, "output_index": index}
    yield _added(index, msgspec.structs.replace(item, status="in_progress", input=""))
    for piece in _pieces(item.input):
        yield "custom_tool_call_input.delta", {**where, "delta": piece}
    yield "custom_tool_call_input.done", {**where, "input": item.input}
    yield _done(index, item)


def _added(index: int, item: OutputItem) -> Event:
    return "output_item.added", {"output_index": index, "item": item}


def _done(index: int, item: OutputItem) -> Event:
    return "output_item.done", {"output_index": index, "item": item}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS))

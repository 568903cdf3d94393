"""The answer to a chat completion, written whole or as a stream. Source: compat-api §5.6 to §5.8, §2.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import LlameroError
from ...messages import Finished, Logprob, Started, Text, Thinking, ToolCall
from .. import sse
from .errors import write_error
from .reply import Head, UsageReply, by_likelihood, finite, system_fingerprint, usage_of

Part = Text | Thinking | ToolCall
FinishReason = Literal["stop", "length", "tool_calls", "function_call"]

ARGUMENT_CHARS = 64
"""Arguments come in pieces of this length, so that whoever shows them while they come sees them come."""

_encode = msgspec.json.Encoder().encode


class TopLogprobReply(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None


class LogprobReply(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None
    top_logprobs: list[TopLogprobReply]


class LogprobsReply(msgspec.Struct):
    content: list[LogprobReply]
    refusal: None = None


class FunctionReply(msgspec.Struct):
    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCallReply(msgspec.Struct):
    """Whole, or with an `index` one of the pieces that make it up."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionReply = msgspec.field(default_factory=FunctionReply)


class MessageReply(msgspec.Struct):
    role: str
    content: str | None
    refusal: None = None
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET
    function_call: FunctionReply | UnsetType = UNSET


class Delta(msgspec.Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET
    function_call: FunctionReply | UnsetType = UNSET


class ChoiceReply(msgspec.Struct):
    index: int
    message: MessageReply
    logprobs: LogprobsReply | None
    finish_reason: FinishReason


class ChunkChoice(msgspec.Struct):
    index: int
    delta: Delta
    logprobs: LogprobsReply | None = None
    finish_reason: FinishReason | None = None


class ChatReply(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChoiceReply]
    usage: UsageReply
    service_tier: str = "default"


class Chunk(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: UsageReply | UnsetType | None = UNSET


def write_chat(
    head: Head, choices: Sequence[tuple[Sequence[Part], Finished]], *, logprobs: bool = False, is_legacy: bool = False
) -> bytes:
    """The whole reply. `logprobs`: whether they were asked for; `is_legacy`: calls are written as `function_call`."""
    finished = [end for _, end in choices]
    return _encode(
        ChatReply(
            head.id,
            "chat.completion",
            head.created_s,
            head.model,
            system_fingerprint(finished[0].fingerprint),
            [
                _choice(index, parts, end, logprobs=logprobs, is_legacy=is_legacy)
                for index, (parts, end) in enumerate(choices)
            ],
            usage_of(finished, len(finished)),
        )
    )


def _choice(index: int, parts: Sequence[Part], end: Finished, *, logprobs: bool, is_legacy: bool) -> ChoiceReply:
    text = "".join(part.text for part in parts if isinstance(part, Text))
    reasoning = "".join(part.text for part in parts if isinstance(part, Thinking))
    calls = [part for part in parts if isinstance(part, ToolCall)]
    message = MessageReply("assistant", text if text or not calls else None, reasoning=reasoning or UNSET)
    if calls and is_legacy:
        message.function_call = FunctionReply(calls[0].name, _arguments(calls[0]))
    elif calls:
        message.tool_calls = [
            ToolCallReply(id=call.id, type="function", function=FunctionReply(call.name, _arguments(call)))
            for call in calls
        ]
    said = [logprob for part in parts if not isinstance(part, ToolCall) for logprob in part.logprobs]
    reason = _reason(end, has_calls=bool(calls), is_legacy=is_legacy)
    return ChoiceReply(index, message, _logprobs(said) if logprobs else None, reason)


@dataclass(slots=True)
class _Progress:
    """How far one choice of a stream has come."""

    has_begun: bool = False
    calls: int = 0


@dataclass(slots=True)
class ChatStream:
    """Writes the chunks of a stream; several choices may come in any order and mixed."""

    head: Head
    logprobs: bool = False
    include_usage: bool = False
    is_legacy: bool = False
    _fingerprint: str = ""
    _choices: dict[int, _Progress] = field(default_factory=dict)

    def begin(self, started: Started) -> bytes:
        self._fingerprint = system_fingerprint(started.fingerprint)
        return b""

    def part(self, part: Part, choice: int = 0) -> bytes:
        progress = self._choices.setdefault(choice, _Progress())
        if isinstance(part, ToolCall):
            deltas = self._call(part, progress)
            return b"".join(self._chunk(choice, self._first(delta, progress)) for delta in deltas)
        if not part.text and not part.logprobs:
            return b""
        delta = Delta(content=part.text) if isinstance(part, Text) else _thought(part)
        logprobs = _logprobs(part.logprobs) if self.logprobs and part.logprobs else None
        return self._chunk(choice, self._first(delta, progress), logprobs)

    def finish(self, finished: Finished, choice: int = 0) -> bytes:
        progress = self._choices.setdefault(choice, _Progress())
        empty = b"" if progress.has_begun else self._chunk(choice, self._first(Delta(content=""), progress))
        reason = _reason(finished, has_calls=progress.calls > 0, is_legacy=self.is_legacy)
        return empty + self._chunk(choice, Delta(), reason=reason)

    def end(self, finished: Sequence[Finished]) -> bytes:
        usage = self._frame([], usage_of(finished, len(finished))) if self.include_usage else b""
        return usage + sse.DONE

    def failed(self, error: LlameroError) -> bytes:
        return sse.frame(write_error(error)) + sse.DONE

    def idle(self) -> bytes:
        return sse.KEEP_ALIVE

    def _first(self, delta: Delta, progress: _Progress) -> Delta:
        """The role comes once, and with something that clients take for the content so far."""
        if not progress.has_begun:
            progress.has_begun = True
            delta.role = "assistant"
            if delta.content is UNSET and delta.reasoning is UNSET:
                delta.content = None
        return delta

    def _call(self, call: ToolCall, progress: _Progress) -> Iterator[Delta]:
        """The name, then the arguments piece by piece. The older form has room for one call only."""
        index = progress.calls
        progress.calls += 1
        if self.is_legacy and index:
            return
        pieces = [FunctionReply(arguments=piece) for piece in _pieces(_arguments(call))]
        name = FunctionReply(call.name)
        if self.is_legacy:
            yield from (Delta(function_call=function) for function in (name, *pieces))
            return
        yield Delta(tool_calls=[ToolCallReply(index, call.id, "function", name)])
        yield from (Delta(tool_calls=[ToolCallReply(index, function=piece)]) for piece in pieces)

    def _chunk(
        self, choice: int, delta: Delta, logprobs: LogprobsReply | None = None, reason: FinishReason | None = None
    ) -> bytes:
        return self._frame([ChunkChoice(choice, delta, logprobs, reason)], None if self.include_usage else UNSET)

    def _frame(self, choices: list[ChunkChoice], usage: UsageReply | UnsetType | None) -> bytes:
        head = self.head
        return sse.frame(
            _encode(
                Chunk(
                    head.id,
                    "chat.completion.chunk",
                    head.created_s,
                    head.model,
                    self._fingerprint,
                    choices,
                    usage,
                )
            )
        )


def _thought(part: Thinking) -> Delta:
    """Beside thinking stands an empty text, for programs that print the content of every chunk."""
    return Delta(content=UNSET if part.has_text else "", reasoning=part.text)


def _reason(finished: Finished, *, has_calls: bool, is_legacy: bool) -> FinishReason:
    if finished.reason == "stop" and has_calls:
        return "function_call" if is_legacy else "tool_calls"
    return finished.reason


def _arguments(call: ToolCall) -> str:
    return _encode(call.arguments).decode()


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + ARGUMENT_CHARS] for at in range(0, len(text), ARGUMENT_CHARS))


def _logprobs(logprobs: Sequence[Logprob]) -> LogprobsReply:
    """An entry for each token; a token without bytes of its own has none."""
    return LogprobsReply(
        [
            LogprobReply(
                entry.token,
                finite(entry),
                entry.bytes or None,
                [TopLogprobReply(top.token, finite(top), top.bytes or None) for top in by_likelihood(entry.top)],
            )
            for entry in logprobs
        ]
    )

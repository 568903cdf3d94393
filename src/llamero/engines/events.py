"""What llama-server says, as typed values: its replies, the events of its streams, and what they mean. Pure.

Fields that nothing here needs are not read, those that an engine leaves out have what that means.
Source: scheduler §11 to §13, modelfile-templates §3.4.
"""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ..errors import EngineError
from ..messages import Event, Logprob, Text, Thinking, ToolCall, Usage, Vector
from .ledger import Entry

BROKE = "an error was encountered while running the model"


class Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    draft_n: int = 0
    draft_n_accepted: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.cache_n + self.prompt_n,
            cached_tokens=self.cache_n,
            prompt_ns=int(self.prompt_ms * 1e6),
            predicted_tokens=self.predicted_n,
            predicted_ns=int(self.predicted_ms * 1e6),
            draft_tokens=self.draft_n,
            accepted_tokens=self.draft_n_accepted,
        )


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolDelta] = []


class Logprobs(msgspec.Struct):
    content: list[Entry] | None = None


class Choice(msgspec.Struct):
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Failure(msgspec.Struct):
    message: str = ""
    code: int | None = None
    type: str = ""


class Verbose(msgspec.Struct):
    stopping_word: str = ""


class ChatChunk(msgspec.Struct):
    choices: list[Choice] = []
    verbose: Verbose | None = msgspec.field(default=None, name="__verbose")
    """In the last chunks, when the body asked for it."""
    timings: Timings | None = None
    error: Failure | None = None


class CompletionChunk(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    """The one token that this piece comes with."""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    """Of the prompt."""
    stop: bool = False
    stop_type: str = ""
    stopping_word: str = ""
    completion_probabilities: list[Entry] = []
    timings: Timings | None = None
    error: Failure | None = None


class Probabilities(msgspec.Struct):
    completion_probabilities: Annotated[list[Entry], Meta(min_length=1, max_length=1)]


class TokensUsed(msgspec.Struct):
    prompt_tokens: int = 0


class Embedding(msgspec.Struct):
    embedding: str | list[float | None]
    """In base64, as asked for; an engine that does not know this sends numbers, and null for a NaN."""
    index: int = 0

    @property
    def vector(self) -> Vector:
        """Raises ValueError for what is none."""
        if isinstance(self.embedding, list):
            return array("f", (math.nan if value is None else value for value in self.embedding))
        vector = array("f", base64.b64decode(self.embedding, validate=True))
        if sys.byteorder == "big":
            vector.byteswap()
        return vector


class Embeddings(msgspec.Struct):
    data: list[Embedding]
    usage: TokensUsed = msgspec.field(default_factory=TokensUsed)


class Score(msgspec.Struct):
    index: int
    relevance_score: float


class Ranking(msgspec.Struct):
    results: list[Score]
    usage: TokensUsed = msgspec.field(default_factory=TokensUsed)


class Prompt(msgspec.Struct):
    prompt: str


class Counted(msgspec.Struct):
    input_tokens: int


class Tokens(msgspec.Struct):
    tokens: list[int]


class Content(msgspec.Struct):
    content: str


class Saved(msgspec.Struct):
    n_saved: int


class Restored(msgspec.Struct):
    n_restored: int


class Erased(msgspec.Struct):
    n_erased: int


class Properties(msgspec.Struct):
    media_marker: str = "<__media__>"
    """An engine that does not say has the one that it always was."""


_T = TypeVar("_T")


def decode(decoder: msgspec.json.Decoder[_T], data: bytes, what: str = "an event of its stream") -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise EngineError(f"{BROKE}: {what} makes no sense") from error


class ToolCalls:
    """Puts streamed fragments of tool calls together; a call leaves as soon as the next index, or the end, is there."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, str, str]] = {}

    def feed(self, deltas: Sequence[ToolDelta]) -> list[Event]:
        done: list[Event] = []
        for delta in deltas:
            done += [event for index in list(self._open) if index < delta.index for event in self._close(index)]
            id_, name, arguments = self._open.get(delta.index, ("", "", ""))
            function = delta.function or Function()
            self._open[delta.index] = (
                id_ or delta.id or "",
                name + (function.name or ""),
                arguments + (function.arguments or ""),
            )
        return done

    def finish(self) -> list[Event]:
        return [event for index in sorted(self._open) for event in self._close(index)]

    def _close(self, index: int) -> list[Event]:
        id_, name, text = self._open.pop(index)
        try:
            arguments = msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else {}
        except (msgspec.MsgspecError, RecursionError):
            return [Text(f"{name}{text}")]  # unreadable calls are shown, never dropped
        return [ToolCall(name, arguments, id_, index)]


def chat_events(choice: Choice, calls: ToolCalls, top_logprobs: int) -> list[Event]:
    delta = choice.delta
    logprobs: tuple[Logprob, ...] = ()
    if choice.logprobs is not None and choice.logprobs.content:
        logprobs = tuple(item.event(top_logprobs) for item in choice.logprobs.content)
    events: list[Event] = []
    if delta.reasoning_content:
        has_text = bool(delta.content)
        events.append(Thinking(delta.reasoning_content, () if has_text else logprobs, has_text))
    if delta.content:
        events += [*calls.finish(), Text(delta.content, logprobs)]
    if not events and logprobs:
        events.append(Text("", logprobs))  # the token's text is held back, half a character or half a tag
    if delta.tool_calls:
        events += calls.feed(delta.tool_calls)
    return events

"""What `/api/...` answers: the structs on the wire, and the writers that make bytes of the steps of an answer."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ... import durations
from ...errors import LlameroError, NotSignedIn
from ...messages import Delays, Embedded, Finished, Loaded, Logprob, Rendered, Text, Thinking, ToolCall, Usage
from ..gojson import encode
from ..vectors import Numbers, numbers


class LogprobReply(msgspec.Struct, omit_defaults=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top_logprobs: list[LogprobReply] | None = None


class FunctionReply(msgspec.Struct):
    index: int
    name: str
    arguments: dict[str, Any]


class ToolCallReply(msgspec.Struct):
    id: str | UnsetType
    function: FunctionReply


class MessageReply(msgspec.Struct):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET


class DebugInfo(msgspec.Struct):
    rendered_template: str
    image_count: int | UnsetType = UNSET


class TimingsReply(msgspec.Struct):
    """Where a request's time went (native-api §2.10): milliseconds and tokens, 0 for what did not happen."""

    queued_ms: float
    load_ms: float
    restore_ms: float
    prompt_tokens: int
    cached_tokens: int
    prefill_ms: float
    predicted_tokens: int
    decode_ms: float
    draft_tokens: int
    accepted_tokens: int


class GenerateReply(msgspec.Struct, kw_only=True):
    model: str
    created_at: str
    response: str
    thinking: str | UnsetType = UNSET
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    context: tuple[int, ...] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    logprobs: list[LogprobReply] | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class ChatReply(msgspec.Struct, kw_only=True):
    model: str
    created_at: str
    message: MessageReply
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    logprobs: list[LogprobReply] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class EmbedReply(msgspec.Struct):
    model: str
    embeddings: list[Numbers]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class EmbeddingsReply(msgspec.Struct):
    embedding: Numbers


class ErrorReply(msgspec.Struct, omit_defaults=True):
    error: str
    signin_url: str = ""


Part = Text | Thinking | ToolCall

R = TypeVar("R", ChatReply, GenerateReply)

Clock = Callable[[], int]
"""Nanoseconds since 1970."""


class _Writer(ABC, Generic[R]):
    """Writes the steps of one answer; what chat and generate have in common."""

    def __init__(self, model: str, clock: Clock, *, timings: bool = False) -> None:
        self._model = model
        self._clock = clock
        self._timings = timings

    def part(self, part: Part) -> bytes:
        """One line of a stream."""
        return encode(self._reply([part], done=False))

    def end(self, finished: Finished, parts: Sequence[Part] = ()) -> bytes:
        """The last line of a stream; with all `parts`, the whole answer."""
        reply = self._reply(parts, done=True)
        _finish(reply, finished)
        if self._timings:  # of all its runs: the question is where the time went
            reply.timings = _timings(finished.cost, finished.delays)
        return encode(reply)

    def single(self, step: Loaded | Rendered) -> bytes:
        """The whole reply to a request that generates nothing."""
        reply = self._reply([], done=isinstance(step, Loaded))
        if isinstance(step, Loaded):
            reply.done_reason = step.reason
            if self._timings:
                reply.timings = _timings(Usage(), step.delays)
        else:
            reply.debug_info = _debug(step)
        return encode(reply)

    @abstractmethod
    def _reply(self, parts: Sequence[Part], *, done: bool) -> R: ...


class ChatWriter(_Writer[ChatReply]):
    def single(self, step: Loaded | Rendered) -> bytes:
        if isinstance(step, Loaded):
            return super().single(step)
        reply = self._reply([], done=False)
        reply.message.role = ""  # as the reference has it
        reply.debug_info = _debug(step)
        return encode(reply)

    def _reply(self, parts: Sequence[Part], *, done: bool) -> ChatReply:
        text, thinking, calls, logprobs = _join(parts)
        message = MessageReply("assistant", text, thinking or UNSET, calls or UNSET)
        now = timestamp(self._clock())
        return ChatReply(model=self._model, created_at=now, message=message, done=done, logprobs=logprobs or UNSET)


class GenerateWriter(_Writer[GenerateReply]):
    def _reply(self, parts: Sequence[Part], *, done: bool) -> GenerateReply:
        text, thinking, calls, logprobs = _join(parts)
        return GenerateReply(
            model=self._model,
            created_at=timestamp(self._clock()),
            response=text,
            thinking=thinking or UNSET,
            done=done,
            tool_calls=calls or UNSET,
            logprobs=logprobs or UNSET,
        )


def write_embed(model: str, embedded: Embedded, *, timings: bool = False) -> bytes:
    return encode(
        EmbedReply(
            model,
            [numbers(vector) for vector in embedded.vectors],
            embedded.total_ns or UNSET,
            embedded.load_ns or UNSET,
            embedded.usage.prompt_tokens or UNSET,
            embedded.warnings or UNSET,
            _timings(embedded.usage, embedded.delays) if timings else UNSET,
        )
    )


def write_embeddings(embedded: Embedded) -> bytes:
    return encode(EmbeddingsReply(numbers(embedded.vectors[0]) if embedded.vectors else msgspec.Raw(b"[]")))


def write_error(error: LlameroError) -> bytes:
    return encode(ErrorReply(str(error), error.signin_url if isinstance(error, NotSignedIn) else ""))


def _join(parts: Sequence[Part]) -> tuple[str, str, list[ToolCallReply], list[LogprobReply]]:
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCallReply] = []
    logprobs: list[LogprobReply] = []
    for part in parts:
        if isinstance(part, ToolCall):
            function = FunctionReply(part.index, part.name, part.arguments)
            calls.append(ToolCallReply(part.id or UNSET, function))
            continue
        (text if isinstance(part, Text) else thinking).append(part.text)
        logprobs += [_logprob(item) for item in part.logprobs]
    return "".join(text), "".join(thinking), calls, logprobs


def _logprob(item: Logprob) -> LogprobReply:
    return LogprobReply(item.token, item.logprob, item.bytes, [_logprob(other) for other in item.top] or None)


def _finish(reply: ChatReply | GenerateReply, finished: Finished) -> None:
    usage = finished.usage
    if isinstance(reply, GenerateReply) and finished.context is not None:
        reply.context = finished.context
    reply.done_reason = finished.reason
    reply.total_duration = finished.total_ns or UNSET
    reply.load_duration = finished.load_ns or UNSET
    reply.prompt_eval_count = usage.prompt_tokens or UNSET
    reply.prompt_eval_duration = usage.prompt_ns or UNSET
    reply.eval_count = usage.predicted_tokens or UNSET
    reply.eval_duration = usage.predicted_ns or UNSET
    reply.warnings = finished.warnings or UNSET


def _timings(usage: Usage, delays: Delays) -> TimingsReply:
    def ms(ns: int) -> float:
        return round(ns / durations.MS, 3)

    return TimingsReply(
        queued_ms=ms(delays.queued_ns),
        load_ms=ms(delays.load_ns),
        restore_ms=ms(delays.restore_ns),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        prefill_ms=ms(usage.prompt_ns),
        predicted_tokens=usage.predicted_tokens,
        decode_ms=ms(usage.predicted_ns),
        draft_tokens=usage.draft_tokens,
        accepted_tokens=usage.accepted_tokens,
    )


def _debug(rendered: Rendered) -> DebugInfo:
    return DebugInfo(rendered.prompt, rendered.image_count or UNSET)


def timestamp(ns: int, *, local: bool = False) -> str:
    """RFC 3339 with up to nine fractional digits, trailing zeros removed; UTC, or with the server's own offset."""
    seconds, fraction = divmod(ns, durations.SECOND)
    text, offset = _second(seconds, local)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text}{digits}{offset}"


@lru_cache(maxsize=4)
def _second(seconds: int, local: bool) -> tuple[str, str]:
    """Date and time of day, and the offset: the tokens of one second share them."""
    moment = time.localtime(seconds) if local else time.gmtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
    if not local or not moment.tm_gmtoff:
        return text, "Z"
    sign, minutes = ("-", -moment.tm_gmtoff // 60) if moment.tm_gmtoff < 0 else ("+", moment.tm_gmtoff // 60)
    return text, f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"

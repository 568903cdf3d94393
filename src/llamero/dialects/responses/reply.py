"""The response object and the items of its output: the wire. Source: compat-api §8.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...messages import Finished, Logprob
from ..openai.reply import by_likelihood, finite

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: list[TopLogprob]


def logprobs_of(logprobs: Sequence[Logprob]) -> list[TokenLogprob]:
    return [
        TokenLogprob(
            entry.token,
            finite(entry),
            entry.bytes,
            [TopLogprob(top.token, finite(top), top.bytes) for top in by_likelihood(entry.top)],
        )
        for entry in logprobs
    ]


class SummaryText(msgspec.Struct, kw_only=True):
    type: str = "summary_text"
    text: str


class OutputText(msgspec.Struct, kw_only=True):
    type: str = "output_text"
    text: str
    annotations: tuple[()] = ()
    logprobs: list[TokenLogprob] = []


class ReasoningItem(msgspec.Struct, kw_only=True):
    id: str
    type: str = "reasoning"
    status: ItemStatus | UnsetType = UNSET
    """Said only of thinking that was cut off."""
    summary: list[SummaryText] = []
    encrypted_content: str | UnsetType = UNSET
    """The plain text: clients hand it back unread."""


class MessageItem(msgspec.Struct, kw_only=True):
    id: str
    type: str = "message"
    status: ItemStatus
    role: str = "assistant"
    content: list[OutputText] = []


class FunctionCallItem(msgspec.Struct, kw_only=True):
    id: str
    type: str = "function_call"
    status: ItemStatus
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    arguments: str
    """JSON."""


class CustomCallItem(msgspec.Struct, kw_only=True):
    id: str
    type: str = "custom_tool_call"
    status: ItemStatus
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    input: str


OutputItem = ReasoningItem | MessageItem | FunctionCallItem | CustomCallItem


class InputDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class UsageReply(msgspec.Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


def usage_of(finished: Finished) -> UsageReply:
    usage = finished.cost
    return UsageReply(
        usage.prompt_tokens,
        InputDetails(usage.cached_tokens),
        usage.predicted_tokens,
        OutputDetails(finished.thinking_tokens),
        usage.prompt_tokens + usage.predicted_tokens,
    )


class ErrorReply(msgspec.Struct):
    code: str
    message: str


class IncompleteDetails(msgspec.Struct):
    """Clients know two reasons, and the other one is censorship: whatever ended an answer too early is this one."""

    reason: str = "max_output_tokens"


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """All keys are always there. Those that repeat the request are `Asked.echo`."""

    id: str
    object: str = "response"
    created_at: int
    """Seconds since 1970, the same in all events of a stream."""
    completed_at: int | None = None
    status: Status
    background: bool
    error: ErrorReply | None = None
    frequency_penalty: float
    incomplete_details: IncompleteDetails | None = None
    instructions: Any
    max_output_tokens: int | None
    max_tool_calls: None = None
    metadata: dict[str, Any]
    model: str
    output: Sequence[OutputItem] = ()
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any] | None
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[Any]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: UsageReply | None = None

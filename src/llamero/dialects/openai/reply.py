"""What every reply of chat completions and completions says besides its answer. Source: compat-api §5.6, §6.2."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ... import __version__
from ...messages import Finished, Logprob

FINGERPRINT_DIGITS = 12
LOWEST_LOGPROB = -9999.0
"""OpenAI's number for the logarithm of nothing; JSON knows no infinity."""


@dataclass(frozen=True, slots=True)
class Head:
    """The same in the whole reply, and in every chunk of a stream."""

    id: str
    """With its prefix: `chatcmpl-` or `cmpl-`."""
    created_s: int
    """Since 1970."""
    model: str
    """As the client spelled it."""


class PromptDetails(msgspec.Struct):
    cached_tokens: int
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageReply(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_of(finished: Sequence[Finished], per_prompt: int) -> UsageReply:
    """Of all answers together. `per_prompt` answers in a row share a prompt, which counts once."""
    firsts = [each.cost for each in finished[::per_prompt]]
    prompt_tokens = sum(usage.prompt_tokens for usage in firsts)
    predicted_tokens = sum(each.cost.predicted_tokens for each in finished)
    return UsageReply(
        prompt_tokens,
        predicted_tokens,
        prompt_tokens + predicted_tokens,
        PromptDetails(sum(usage.cached_tokens for usage in firsts)),
        CompletionDetails(sum(each.thinking_tokens for each in finished)),
    )


def system_fingerprint(model_fingerprint: str) -> str:
    """Changes with the model and with our version, as the text that a seed leads to may."""
    digest = hashlib.sha256(f"{model_fingerprint} {__version__}".encode())
    return f"fp_{digest.hexdigest()[:FINGERPRINT_DIGITS]}"


def finite(logprob: Logprob) -> float:
    return max(logprob.logprob, LOWEST_LOGPROB)


def by_likelihood(logprobs: Sequence[Logprob]) -> list[Logprob]:
    return sorted(logprobs, key=lambda each: each.logprob, reverse=True)

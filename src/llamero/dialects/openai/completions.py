"""The body of a completion, read: the oldest of OpenAI's endpoints. Source: compat-api §6.1."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ...messages import GenerateRequest
from ..fields import Fields, read_body, read_extensions, warnings_of
from ..limits import MAX_INPUTS, MAX_TOP_LOGPROBS
from . import sampling
from .chat import read_model
from .prompts import Prompt, read_prompts
from .sampling import read_count, read_include_usage, read_max_tokens, read_sampling

_FIELDS = sampling.FIELDS | frozenset(
    "model prompt suffix max_tokens stream stream_options logprobs echo best_of raw".split()
)


@dataclass(frozen=True, slots=True)
class Completion:
    """A request for completions of one or more prompts."""

    request: GenerateRequest
    """Of every prompt, without the prompt."""
    prompts: tuple[Prompt, ...]
    n: int = 1
    """Answers to each prompt."""
    best_of: int = 1
    """Answers to each prompt that are made to choose them from; at least `n`."""
    echo: bool = False
    include_usage: bool = False
    logprobs: bool = False
    """Whether they are to be written; `best_of` needs them too."""

    def requests(self) -> tuple[GenerateRequest, ...]:
        """One for each answer to be made, prompt after prompt."""
        return tuple(
            dataclasses.replace(_with_prompt(self.request, prompt), number=number)
            for prompt in self.prompts
            for number in range(self.best_of)
        )


def read_completion(body: bytes, *, raw: bool = False) -> Completion:
    """Raises BadRequest, mostly as InvalidField. With `raw`, prompts go without a template unless the request asks."""
    fields = read_body(body)
    model = read_model(fields)
    stream = fields.boolean("stream") or False
    extensions = read_extensions(fields)
    prompts = _prompts(fields)
    n = read_count(fields, "n")
    best_of = _best_of(fields, n, stream=stream)
    if len(prompts) * best_of > MAX_INPUTS:
        raise fields.invalid("prompt", f"prompt: at most {MAX_INPUTS} answers are given to one request")
    echo = fields.boolean("echo") or False
    logprobs = fields.integer("logprobs")
    if logprobs is not None and not 0 <= logprobs <= MAX_TOP_LOGPROBS:
        raise fields.invalid("logprobs", f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    only_echo = echo and fields.integer("max_tokens") == 0
    raw = _is_raw(fields, prompts, echo=echo, by_default=raw)
    request = GenerateRequest(
        model=model,
        suffix=fields.text("suffix") or "",
        stream=stream,
        raw=raw,
        think=extensions.get("think", False if raw else None),
        logprobs=logprobs is not None or best_of > n,
        top_logprobs=logprobs or 0,
        keep_alive_ns=extensions.get("keep_alive_ns"),
        is_batch=extensions.get("is_batch", False),
        adapters=extensions.get("adapters"),
        loads_when_empty=False,
        raw_without_template=fields.raw("raw") is None,
        generates=not only_echo,
        tells_context=False,
        warnings=warnings_of(fields, _FIELDS),
        **read_sampling(fields, extensions["options"], None if only_echo else read_max_tokens(fields, "max_tokens")),
    )
    return Completion(
        request,
        prompts,
        n,
        best_of,
        echo,
        read_include_usage(fields, stream=stream),
        logprobs is not None,
    )


def _with_prompt(request: GenerateRequest, prompt: Prompt) -> GenerateRequest:
    if isinstance(prompt, str):
        return dataclasses.replace(request, prompt=prompt)
    return dataclasses.replace(request, tokens=prompt)


def _prompts(body: Fields) -> tuple[Prompt, ...]:
    given = body.raw("prompt")
    if given is None or given == []:
        raise body.invalid("prompt", "prompt is required")
    prompts = read_prompts(given)
    if prompts is None:
        raise body.invalid("prompt", "prompt must be a string, an array of strings, token ids, or arrays of token ids")
    return prompts


def _best_of(body: Fields, n: int, *, stream: bool) -> int:
    if body.raw("best_of") is None:
        return n
    best_of = read_count(body, "best_of")
    if best_of < n:
        raise body.invalid("best_of", "best_of must not be less than n")
    if stream and best_of > 1:
        raise body.invalid("best_of", "best_of cannot be used with stream")
    return best_of


def _is_raw(body: Fields, prompts: tuple[Prompt, ...], *, echo: bool, by_default: bool) -> bool:
    """Whether the prompt goes to the model as it is. A suffix has a form of its own, for which the text is needed."""
    has_tokens = not isinstance(prompts[0], str)
    if body.text("suffix"):
        if has_tokens:
            raise body.invalid("suffix", "suffix needs a prompt that is a text")
        return body.boolean("raw") or False
    given = body.boolean("raw")
    return has_tokens or echo or (by_default if given is None else given)

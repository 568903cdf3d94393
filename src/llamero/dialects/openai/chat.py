"""The body of a chat completion, read. Its parts have modules of their own. Source: compat-api §5.1 to §5.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...messages import ChatRequest
from ..fields import Fields, read_body, read_extensions, warnings_of
from ..limits import MAX_TOP_LOGPROBS
from . import sampling, tools
from .conversation import read_messages
from .effort import read_effort
from .response_format import read_format
from .sampling import read_count, read_include_usage, read_max_tokens, read_sampling
from .tools import read_tools

_FIELDS = (
    sampling.FIELDS
    | tools.FIELDS
    | frozenset(
        "model messages stream stream_options max_tokens max_completion_tokens response_format reasoning "
        "reasoning_effort logprobs top_logprobs modalities store".split()
    )
)
_IDLE = ("prediction", "verbosity", "moderation", "web_search_options", "audio")


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat completion: the request for one answer, and what concerns its form."""

    request: ChatRequest
    n: int = 1
    """How many answers are wanted; the `number` of the request tells them apart."""
    include_usage: bool = False
    is_legacy: bool = False
    """Calls are to be written as `function_call`."""


def read_model(body: Fields) -> str:
    model = body.text("model") or ""
    if not model.strip():
        raise body.invalid("model", "model is required", "missing_required_parameter")
    return model


def read_chat(body: bytes, *, effort_fallback: bool = False, fetched: Mapping[str, bytes] = {}) -> Chat:
    """Raises BadRequest, mostly as InvalidField.

    With `effort_fallback` a wish to think counts for nothing with models that cannot; `fetched` has the bytes of the
    remote pictures that `images.remote_urls` named.
    """
    fields = read_body(body)
    model = read_model(fields)
    stream = fields.boolean("stream") or False
    extensions = read_extensions(fields)
    effort = read_effort(fields)
    box = read_tools(fields)
    wants_logprobs, top_logprobs = _logprobs(fields)
    _check_modalities(fields)
    completion_tokens, old_name = (read_max_tokens(fields, name) for name in ("max_completion_tokens", "max_tokens"))
    max_tokens = old_name if completion_tokens is None else completion_tokens
    request = ChatRequest(
        model=model,
        messages=read_messages(fields, fetched),
        stream=stream,
        format=read_format(fields),
        think=extensions.get("think") if effort is None else effort,
        is_thinking_optional=effort_fallback and effort is not None,
        tools=box.tools,
        tool_choice=box.choice,
        parallel_tool_calls=box.is_parallel,
        logprobs=wants_logprobs,
        top_logprobs=top_logprobs,
        keep_alive_ns=extensions.get("keep_alive_ns"),
        is_batch=extensions.get("is_batch", False),
        adapters=extensions.get("adapters"),
        warnings=warnings_of(fields, _FIELDS, _idle(fields)),
        **read_sampling(fields, extensions["options"], max_tokens),
    )
    return Chat(request, read_count(fields, "n"), read_include_usage(fields, stream=stream), box.is_legacy)


def _logprobs(body: Fields) -> tuple[bool, int]:
    wants, top = body.boolean("logprobs") or False, body.integer("top_logprobs") or 0
    if not 0 <= top <= MAX_TOP_LOGPROBS:
        raise body.invalid("top_logprobs", f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    if top and not wants:
        raise body.invalid("top_logprobs", "top_logprobs needs logprobs to be true")
    return wants, top


def _check_modalities(body: Fields) -> None:
    if any(kind != "text" for kind in body.items("modalities") or ()):
        raise body.invalid("modalities", "modalities: only text can be answered")


def _idle(body: Fields) -> tuple[str, ...]:
    """Nothing is stored: whoever asks for just that gets it."""
    return (*_IDLE, "store") if body.boolean("store") else _IDLE

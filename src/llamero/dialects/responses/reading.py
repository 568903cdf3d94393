"""The body of a request for a response; its items and tools have modules of their own. Source: compat-api §8.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...chat.schema import SchemaRefused, check_schema
from ...messages import ChatRequest, Message
from ..fields import Fields, read_extensions, warnings_of
from ..limits import MAX_TOP_LOGPROBS
from ..openai import sampling
from ..openai.chat import read_model
from ..openai.effort import read_effort
from ..openai.sampling import read_max_tokens, read_sampling
from .items import History, Item, input_items, read_items
from .tools import Called, Toolbox, read_tools

_FIELDS = (sampling.FIELDS - {"n"}) | frozenset(
    "model input instructions max_output_tokens stream tools tool_choice parallel_tool_calls reasoning text truncation "
    "background include top_logprobs store previous_response_id".split()
)
_IDLE = tuple(
    "max_tool_calls stream_options access_programs background_options context_management image moderation".split()
)
_REFUSED = ("conversation", "prompt")
"""What would lose context if it were ignored. `false` asks for nothing."""

_FALLBACKS = {"temperature": 1.0}
"""OpenAI's default where it is not Ollama's; that of top_p is left to the model."""

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

MAX_METADATA = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a response: the one for the answer, and what concerns its form."""

    request: ChatRequest
    echo: Mapping[str, Any]
    """Those keys of the response object that repeat the request."""
    items: tuple[Item, ...] = ()
    """The whole input, with what was said before: what is kept together with the answer."""
    called: Mapping[str, Called] = field(default_factory=dict)
    """The tools as the client knows them, by the names that the model uses."""
    keeps: bool = False
    """Whether the answer is to be kept."""
    is_background: bool = False
    """Whether the client will not wait for it, and asks for it later."""
    shows_thoughts: bool = False
    """Whether reasoning items carry `encrypted_content`, for a client that keeps the conversation itself."""


def previous_id(body: Fields) -> str | None:
    """The response that this one follows: its items are to be the `earlier` ones of the history."""
    return body.text("previous_response_id") or None


def read(
    body: Fields, history: History | None = None, *, can_keep: bool = True, effort_fallback: bool = False
) -> Asked:
    """Read what `fields.read_body` gave. Raises InvalidField.

    `can_keep`: whether there is a place where answers are kept. With `effort_fallback` a wish to think counts for
    nothing with models that cannot.
    """
    history = history or History()
    model = read_model(body)
    _refuse(body)
    box, include = read_tools(body), _include(body)
    warnings = [*warnings_of(body, _FIELDS, _IDLE), *box.warnings, *_idle_values(body, include, can_keep=can_keep)]
    items = input_items(body, history)
    instructions = _instructions(body, history, warnings)
    messages = (*instructions, *read_items(items, history.fetched, warnings))
    if not messages:
        raise body.invalid("input", "input is required", "missing_required_parameter")
    request = ChatRequest(
        model=model,
        messages=messages,
        stream=body.boolean("stream") or False,
        tools=box.functions,
        tool_choice=box.choice,
        parallel_tool_calls=box.is_parallel,
        truncate=_truncation(body) == "auto",
        warnings=tuple(warnings),
        **_answering(body, include, effort_fallback=effort_fallback),
    )
    keeps = can_keep and body.boolean("store") is not False
    shows_thoughts = ENCRYPTED in include or not keeps
    is_background = _is_background(body, keeps=keeps)
    echo = _echo(body, box, keeps=keeps)
    return Asked(request, echo, tuple(item.value for item in items), box.called, keeps, is_background, shows_thoughts)


def _refuse(body: Fields) -> None:
    for name in _REFUSED:
        if body.raw(name) not in (None, False):
            raise body.invalid(name, f"'{name}' is not supported", "unsupported_parameter")


def _is_background(body: Fields, *, keeps: bool) -> bool:
    if not body.boolean("background"):
        return False
    if not keeps:
        raise body.invalid("background", "'background' needs a response that is kept, and this one is not")
    if body.boolean("stream"):
        raise body.invalid("stream", "'stream' is not supported together with 'background'")
    return True


def _idle_values(body: Fields, include: list[Any], *, can_keep: bool) -> list[str]:
    """Values that mean nothing here, of fields that otherwise do."""
    warnings = []
    text = body.object("text")
    if text is not None and text.text("verbosity") is not None:
        warnings.append("field 'text.verbosity' has no effect")
    if body.boolean("store") and not can_keep:
        warnings.append("field 'store' has no effect: this server keeps no responses")
    if _top_logprobs(body) and LOGPROBS not in include:
        warnings.append(f"field 'top_logprobs' has no effect unless {LOGPROBS!r} is included")
    return warnings


def _answering(body: Fields, include: list[Any], *, effort_fallback: bool) -> dict[str, Any]:
    """How the model shall answer, as arguments of a GenerationRequest."""
    extensions, effort = read_extensions(body), read_effort(body)
    wants_logprobs = LOGPROBS in include
    sampled = read_sampling(body, extensions["options"], read_max_tokens(body, "max_output_tokens"))
    return {
        **sampled,
        "fallbacks": dict(_FALLBACKS),
        "format": _format(body),
        "think": extensions.get("think") if effort is None else effort,
        "is_thinking_optional": effort_fallback and effort is not None,
        "keep_alive_ns": extensions.get("keep_alive_ns"),
        "is_batch": extensions.get("is_batch", False),
        "adapters": extensions.get("adapters"),
        "logprobs": wants_logprobs,
        "top_logprobs": _top_logprobs(body) if wants_logprobs else 0,
    }


def _instructions(body: Fields, history: History, warnings: list[str]) -> tuple[Message, ...]:
    """A text for the system, or items of their own."""
    value = body.raw("instructions")
    if isinstance(value, list):
        return read_items(body.objects("instructions"), history.fetched, warnings)
    text = body.text("instructions")
    return (Message("system", text),) if text else ()


def _format(body: Fields) -> Any:
    """None, "json" or a schema that can be enforced."""
    text = body.object("text")
    given = text.object("format") if text is not None else None
    match given and given.text("type"):
        case None | "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            assert given is not None
            return _schema(given)
        case kind:
            assert given is not None
            raise given.invalid("type", f"text.format: unknown type {str(kind)[:100]!r}")


def _schema(given: Fields) -> Any:
    schema = given.raw("schema")
    if not isinstance(schema, dict):
        raise given.invalid("schema", "'text.format.schema' must be a JSON Schema object")
    try:
        check_schema(schema)
    except SchemaRefused as error:
        raise given.invalid("schema", f"invalid text.format.schema: {error.fault}") from error
    return schema


def _truncation(body: Fields) -> str:
    truncation = body.text("truncation") or "disabled"
    if truncation not in ("auto", "disabled"):
        raise body.invalid("truncation", "'truncation' must be auto or disabled")
    return truncation


def _include(body: Fields) -> list[Any]:
    return body.items("include") or []


def _top_logprobs(body: Fields) -> int:
    top = body.integer("top_logprobs") or 0
    if not 0 <= top <= MAX_TOP_LOGPROBS:
        raise body.invalid("top_logprobs", f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    return top


def _echo(body: Fields, box: Toolbox, *, keeps: bool) -> dict[str, Any]:
    """The request's part of the response object, with the official defaults for what was not said."""
    reasoning, text = body.object("reasoning"), body.raw("text") or {}
    temperature, top_p = body.number("temperature"), body.number("top_p")
    return {
        "background": body.boolean("background") or False,
        "frequency_penalty": body.number("frequency_penalty") or 0,
        "instructions": body.raw("instructions"),
        "max_output_tokens": body.integer("max_output_tokens"),
        "metadata": _metadata(body),
        "model": body.raw("model"),
        "parallel_tool_calls": box.is_parallel is not False,
        "presence_penalty": body.number("presence_penalty") or 0,
        "previous_response_id": previous_id(body),
        "prompt_cache_key": body.text("prompt_cache_key"),
        "reasoning": reasoning and {"effort": reasoning.raw("effort"), "summary": reasoning.raw("summary")},
        "safety_identifier": body.text("safety_identifier"),
        "store": keeps,
        "temperature": 1.0 if temperature is None else temperature,
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": body.raw("tool_choice") or "auto",
        "tools": body.raw("tools") or [],
        "top_logprobs": _top_logprobs(body),
        "top_p": 1.0 if top_p is None else top_p,
        "truncation": _truncation(body),
    }


def _metadata(body: Fields) -> dict[str, Any]:
    """Labels of the client's own, in OpenAI's limits."""
    metadata = body.raw("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or len(metadata) > MAX_METADATA:
        raise body.invalid("metadata", f"'metadata' must be an object of at most {MAX_METADATA} texts")
    for key, value in metadata.items():
        if not isinstance(value, str) or len(key) > MAX_METADATA_KEY_CHARS or len(value) > MAX_METADATA_VALUE_CHARS:
            limits = f"{MAX_METADATA_KEY_CHARS} and {MAX_METADATA_VALUE_CHARS} characters"
            raise body.invalid("metadata", f"'metadata': names and values are texts of at most {limits}")
    return metadata

"""Bodies of `/v1/messages` as chat requests. Pure.

Source: compat-api §9.1, §9.3; its §1.3 for what every dialect takes besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidField
from ...messages import ChatRequest
from ..fields import Fields, read_body, read_extensions, warnings_of
from .conversation import read_conversation
from .thinking import Display, read_thinking
from .tools import read_choice, read_tools

_KNOWN = frozenset(
    "model max_tokens messages system stream temperature top_p top_k stop_sequences tools tool_choice thinking "
    "output_config output_format".split()
)
_IDLE = ("container", "speed", "inference_geo", "diagnostics", "user_profile_id", "workspace_id")
"""Fields of a service with more than one place, price and customer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what only this dialect's reply has to know of it."""

    request: ChatRequest
    max_tokens: int
    display: Display


def read_messages(body: bytes, *, thinks_by_default: bool = False, fetched: Mapping[str, bytes] = {}) -> Asked:
    """A request for a message; without `thinks_by_default`, thinking is off until it is asked for.

    `fetched` has the pictures of http(s) URLs that were fetched before. Raises BadRequest.
    """
    fields = read_body(body)
    check_model(fields)
    max_tokens = fields.integer("max_tokens")
    if max_tokens is None or max_tokens <= 0:
        raise fields.invalid("max_tokens", "max_tokens is required and must be positive")
    shared, display = read_prompt(fields, fetched, thinks_by_default=thinks_by_default)
    shared["options"] |= _options(fields) | {"num_predict": max_tokens}
    return Asked(ChatRequest(**shared, stream=fields.boolean("stream") is True), max_tokens, display)


def check_model(fields: Fields) -> None:
    if not (fields.text("model") or "").strip():
        raise fields.invalid("model", "model is required", "missing_required_parameter")


def read_prompt(
    fields: Fields, fetched: Mapping[str, bytes], *, thinks_by_default: bool
) -> tuple[dict[str, Any], Display]:
    """All that the prompt depends on and more, as arguments of a ChatRequest; and what of the thinking is shown."""
    conversation = read_conversation(fields, fetched)
    tools = read_tools(fields)
    choice, is_parallel = read_choice(fields, tools.names)
    extensions = read_extensions(fields)
    thinking = read_thinking(fields, extensions.pop("think", None), by_default=thinks_by_default)
    warnings = warnings_of(fields, _KNOWN, _IDLE)
    shared = {
        **extensions,
        "model": fields.text("model"),
        "messages": conversation.messages,
        "tools": tools.tools,
        "tool_choice": choice,
        "parallel_tool_calls": is_parallel,
        "format": _format(fields),
        "think": thinking.think,
        "max_thinking_tokens": thinking.max_tokens,
        "hides_thinking": thinking.display == "hidden",
        "is_thinking_optional": True,
        "warnings": (*warnings, *conversation.warnings, *tools.warnings, *thinking.warnings),
    }
    return shared, thinking.display


def _options(fields: Fields) -> dict[str, Any]:
    stops = fields.items("stop_sequences")
    for index, text in enumerate(stops or ()):
        if not isinstance(text, str):
            raise InvalidField("stop_sequences must be strings", f"stop_sequences[{index}]")
    given = {
        "temperature": fields.number("temperature"),
        "top_p": fields.number("top_p"),
        "top_k": fields.integer("top_k"),
        "stop": stops or None,  # an empty list leaves the model's own
    }
    return {name: value for name, value in given.items() if value is not None}


def _format(fields: Fields) -> Any:
    """The schema that the answer must follow, from today's place for it or from the one of the beta."""
    config = fields.object("output_config")
    format = (config and config.object("format")) or fields.object("output_format")
    if format is None:
        return None
    if format.text("type") != "json_schema":
        raise format.invalid("type", f"'{format.at('type')}' must be json_schema")
    if format.object("schema") is None:
        raise format.invalid("schema", f"'{format.at('schema')}' is required")
    return format.raw("schema")

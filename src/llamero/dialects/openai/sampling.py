"""How the next token is chosen, as chat completions and completions both ask for it. Source: compat-api §5.1, §6.1."""

from __future__ import annotations

from typing import Any

from ...options import MAX_STOP_BYTES, MAX_STOPS
from ..fields import Fields

FIELDS = frozenset(
    "temperature top_p top_k min_p repeat_penalty frequency_penalty presence_penalty seed stop logit_bias n".split()
)

MAX_CHOICES = 8
"""Security §5: each one costs a whole answer."""
MAX_BIAS = 100.0

_FALLBACKS = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's defaults where theirs are not Ollama's."""


def read_sampling(body: Fields, options: dict[str, Any], max_tokens: int | None) -> dict[str, Any]:
    """Arguments of a GenerationRequest. `options` are the native ones that came along: the dialect's own fields win."""
    given = {
        "temperature": _temperature(body),
        "top_p": _top_p(body),
        "top_k": body.integer("top_k"),
        "seed": body.integer("seed"),
        "num_predict": max_tokens,
        "stop": _stop(body),
        **{name: body.number(name) for name in ("min_p", "repeat_penalty", "frequency_penalty", "presence_penalty")},
    }
    return {
        "options": {**options, **{name: value for name, value in given.items() if value is not None}},
        "fallbacks": dict(_FALLBACKS),
        "logit_bias": _logit_bias(body),
    }


def read_count(body: Fields, name: str) -> int:
    """`n` or `best_of`: how many answers."""
    count = body.integer(name)
    if count is not None and not 1 <= count <= MAX_CHOICES:
        raise body.invalid(name, f"{name} must be between 1 and {MAX_CHOICES}")
    return 1 if count is None else count


def read_max_tokens(body: Fields, name: str) -> int | None:
    """A negative number means no limit."""
    tokens = body.integer(name)
    if tokens == 0:
        raise body.invalid(name, f"{name} must not be 0")
    return tokens


def read_include_usage(body: Fields, *, stream: bool) -> bool:
    options = body.object("stream_options")
    if options is None:
        return False
    if not stream:
        raise body.invalid("stream_options", "stream_options is only allowed when stream is true")
    return options.boolean("include_usage") or False


def _temperature(body: Fields) -> float | None:
    value = body.number("temperature")
    if value is not None and value < 0:
        raise body.invalid("temperature", "temperature must not be negative")
    return value


def _top_p(body: Fields) -> float | None:
    value = body.number("top_p")
    if value is not None and not 0 <= value <= 1:
        raise body.invalid("top_p", "top_p must be between 0 and 1")
    return value


def _stop(body: Fields) -> list[str] | None:
    """None for an empty list as well: clients send one with every request, and mean no change to the model's own."""
    value = body.raw("stop")
    texts = [value] if isinstance(value, str) else value
    if texts is None:
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise body.invalid("stop", "invalid type for 'stop' field: must be a string or an array of strings")
    if len(texts) > MAX_STOPS or any(len(text.encode()) > MAX_STOP_BYTES for text in texts):
        raise body.invalid("stop", f"stop: at most {MAX_STOPS} strings of {MAX_STOP_BYTES} bytes each are accepted")
    return [text for text in texts if text] or None  # an empty one would end every answer before its first word


def _logit_bias(body: Fields) -> dict[int, float]:
    biases = body.object("logit_bias")
    if biases is None:
        return {}
    read = {}
    for token in biases.unknown(()):
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise body.invalid("logit_bias", f"logit_bias: {token!r} is not a token id")
        bias = biases.number(token) or 0.0
        read[int(token)] = max(-MAX_BIAS, min(MAX_BIAS, bias))
    return read

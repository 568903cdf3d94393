"""Texts and token ids where completions and embeddings take either. Source: compat-api §6.1, §7."""

from __future__ import annotations

from typing import Any

Prompt = str | tuple[int, ...]
"""A text or its token ids; which ids there are is the model's to know."""


def read_prompts(value: Any) -> tuple[Prompt, ...] | None:
    """A text, texts, token ids, or lists of token ids. None for anything else, also for a mixture."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        return None
    if _all(str, value):
        return tuple(value)
    if _all(int, value):
        return (tuple(value),)
    if _all(list, value) and all(tokens and _all(int, tokens) for tokens in value):
        return tuple(tuple(tokens) for tokens in value)
    return None


def _all(type_: type, items: list[Any]) -> bool:
    return all(type(item) is type_ for item in items)  # bool is no int here

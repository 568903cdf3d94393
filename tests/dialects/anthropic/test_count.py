"""compat-api §10: counting the tokens of a prompt."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from llamero.dialects.anthropic.count import read_count, write_count
from llamero.dialects.anthropic.reading import read_messages
from llamero.errors import InvalidField

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
FULL = HELLO | {
    "system": "be brief",
    "tools": [{"name": "add", "input_schema": {"type": "object"}}, {"type": "bash_20250124", "name": "bash"}],
    "tool_choice": {"type": "tool", "name": "add"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "options": {"num_ctx": 512},
}


@pytest.mark.parametrize("body", [HELLO, FULL], ids=["short", "full"])
def test_the_prompt_is_the_one_of_the_message(body: dict[str, Any]) -> None:
    """partly C-100"""
    counted = read_count(json.dumps(body).encode())
    meant = read_messages(json.dumps(body | {"max_tokens": 5}).encode()).request
    options = {name: value for name, value in meant.options.items() if name != "num_predict"}
    assert counted == dataclasses.replace(meant, options=options)


@pytest.mark.parametrize("max_tokens", [0, -5, 10, None, "many"])
def test_a_limit_of_the_answer_means_nothing(max_tokens: Any) -> None:
    assert read_count(json.dumps(HELLO | {"max_tokens": max_tokens}).encode()) == read_count(json.dumps(HELLO).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [({"messages": HELLO["messages"]}, "model is required"), ({"model": "m"}, "messages is required")],
)
def test_what_is_missing_is_named(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read_count(json.dumps(body).encode())


def test_the_reply() -> None:
    assert write_count(12) == b'{"input_tokens":12}'

"""compat-api §9.6: an answer as one message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.anthropic.reply import Part, write_message
from llamero.messages import Finished, Text, Thinking, ToolCall
from tests.dialects.anthropic.answers import ADD, ANSWERS, ID, NOW, finished, frame

CALL = {"type": "tool_use", "id": "toolu_abcdefgh", "name": "add", "input": {"b": 2, "a": "ä"}}


def reply(parts: list[Part], end: Finished | None = None, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(write_message(frame(**more), [(parts, end or finished())]))
    return message


def thinking(text: str) -> dict[str, str]:
    return {"type": "thinking", "thinking": text, "signature": f"signed {text}"}


def test_a_whole_message() -> None:
    """partly C-85"""
    assert reply([Text("Hel"), Text("lo")]) == {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": "some/model:1b",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 20,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 3},
        },
    }


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ("nothing", []),
        ("empty pieces", []),
        ("thinking, text", [thinking("hmm"), {"type": "text", "text": "yes"}]),
        ("thinking, call", [thinking("hm"), CALL]),
        (
            "text, thinking, text, thinking",
            [{"type": "text", "text": "a"}, thinking("b"), {"type": "text", "text": "c"}, thinking("d")],
        ),
        (
            "the same call twice",
            [CALL, {"type": "tool_use", "id": "toolu_ijklmnop", "name": "now", "input": {}}],
        ),
    ],
    ids=["nothing (partly C-102)", "empty", "thinking (partly C-95)", "call (partly C-91)", "alternating", "twice"],
)
def test_blocks_stand_in_the_order_of_the_answer(answer: str, content: list[Any]) -> None:
    assert reply(ANSWERS[answer])["content"] == content


def test_thinking_that_is_to_be_omitted_leaves_its_signature() -> None:
    assert reply([Thinking("secret"), Text("a")], display="omitted")["content"] == [
        {"type": "thinking", "thinking": "", "signature": "signed secret"},
        {"type": "text", "text": "a"},
    ]


def test_thinking_that_nobody_asked_for_is_hidden() -> None:
    """partly C-95"""
    assert reply(ANSWERS["text, thinking, text, thinking"], display="hidden")["content"] == [
        {"type": "text", "text": "ac"}
    ]


def test_the_order_of_arguments_is_kept() -> None:
    assert list(reply([ADD])["content"][0]["input"]) == ["b", "a"]


def test_every_call_has_an_id_of_its_own() -> None:
    ids = [block["id"] for block in reply(ANSWERS["calls without ids"])["content"]]
    assert len(set(ids)) == 2
    assert all(id_.startswith("toolu_") for id_ in ids)
    assert reply([ToolCall("a", {}, "9charlong")])["content"][0]["id"] == "toolu_9charlong"


@pytest.mark.parametrize(
    ("parts", "end", "reason", "sequence"),
    [
        ([Text("a")], finished(), "end_turn", None),
        ([], finished(), "end_turn", None),
        ([Text("a")], finished(stopped_by="X"), "stop_sequence", "X"),
        ([ADD, NOW], finished(), "tool_use", None),
        ([ADD], finished(stopped_by="X"), "tool_use", None),
        ([Text("a")], finished("length", predicted=100), "max_tokens", None),
        ([ADD], finished("length", predicted=100), "max_tokens", None),
        ([Text("a")], finished("length", predicted=99), "model_context_window_exceeded", None),
    ],
    ids=[
        "end",
        "nothing",
        "stop text (partly C-87)",
        "calls",
        "call and stop text",
        "limit (partly C-87)",
        "limit and call",
        "full window",
    ],
)
def test_why_the_answer_ended(parts: list[Part], end: Finished, reason: str, sequence: str | None) -> None:
    message = reply(parts, end)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)

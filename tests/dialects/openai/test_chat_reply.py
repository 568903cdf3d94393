"""Chat completions, written (compat-api §5.6 to §5.8, §2.4)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from llamero.dialects.openai.chat_reply import ARGUMENT_CHARS, ChatStream, Part, write_chat
from llamero.dialects.openai.reply import Head, system_fingerprint
from llamero.errors import EngineDied
from llamero.messages import Finished, Logprob, Started, Text, Thinking, ToolCall, Usage

HEAD = Head("chatcmpl-abc", 1_700_000_000, "as:sent")
STOP = Finished("stop", Usage(prompt_tokens=10, cached_tokens=4, predicted_tokens=5), 0, 0, thinking_tokens=2)
LENGTH = Finished("length", Usage(prompt_tokens=10, predicted_tokens=5), 0, 0)
ADD = ToolCall("add", {"b": 1, "a": "ü"}, "call_1", 0)
SUB = ToolCall("sub", {}, "call_2", 1)
LOGPROB = Logprob("He", -0.5, (72, 101), (Logprob("A", -2.0, (65,)), Logprob("He", -0.5, (72, 101))))
WRITTEN = {
    "token": "He",
    "logprob": -0.5,
    "bytes": [72, 101],
    "top_logprobs": [
        {"token": "He", "logprob": -0.5, "bytes": [72, 101]},
        {"token": "A", "logprob": -2.0, "bytes": [65]},
    ],
}


def whole(*parts: Part, finished: Finished = STOP, **said: bool) -> dict[str, Any]:
    return dict(json.loads(write_chat(HEAD, [(parts, finished)], **said)))


def frames(stream: bytes) -> list[Any]:
    """The chunks of a stream, whose form is checked on the way."""
    *events, rest = stream.decode().split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def streamed(*parts: Part, finished: Finished = STOP, **said: bool) -> list[Any]:
    stream = ChatStream(HEAD, **said)
    begun = stream.begin(Started(fingerprint="f"))
    return frames(begun + b"".join(map(stream.part, parts)) + stream.finish(finished) + stream.end([finished]))


def deltas(chunks: Sequence[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks]


# --- whole ---


def test_a_whole_reply() -> None:
    """partly C-24, C-25"""
    assert whole(Text("Hel"), Text("lo")) == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "as:sent",
        "system_fingerprint": system_fingerprint(""),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 2,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
    }


def test_calls_without_a_text() -> None:
    """partly C-38"""
    choice = whole(Thinking("h"), Thinking("m"), ADD, SUB)["choices"][0]
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "reasoning": "hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"b":1,"a":"ü"}'}},
                {"id": "call_2", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_a_text_beside_calls_stays_and_no_answer_at_all_is_an_empty_text() -> None:
    assert whole(Text("a"), ADD)["choices"][0]["message"]["content"] == "a"
    assert whole()["choices"][0]["message"]["content"] == ""


def test_a_function_call_in_older_words() -> None:
    choice = whole(ADD, is_legacy=True)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "add", "arguments": '{"b":1,"a":"ü"}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"


def test_an_answer_cut_short_says_so_whatever_was_called() -> None:
    """partly C-58"""
    assert whole(ADD, finished=LENGTH)["choices"][0]["finish_reason"] == "length"
    assert streamed(ADD, finished=LENGTH)[-1]["choices"][0]["finish_reason"] == "length"


def test_logprobs_of_all_tokens() -> None:
    """partly C-48"""
    special = Logprob("", -math.inf)
    said = whole(Thinking("He", (LOGPROB,)), Text("", (special,)), logprobs=True)["choices"][0]["logprobs"]
    empty = {"token": "", "logprob": -9999.0, "bytes": None, "top_logprobs": []}
    assert said == {"content": [WRITTEN, empty], "refusal": None}


def test_usage_of_several_answers() -> None:
    """partly C-49"""
    reply = json.loads(write_chat(HEAD, [([Text("a")], STOP), ([Text("b")], LENGTH), ([ADD], STOP)]))
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["stop", "length", "tool_calls"]
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 15, 25)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4


def test_a_fingerprint_is_the_models() -> None:
    assert system_fingerprint("a") == system_fingerprint("a") != system_fingerprint("b")
    assert system_fingerprint("a").startswith("fp_")


# --- streams ---


def test_a_stream_of_text() -> None:
    """partly C-51, C-53, C-54"""
    chunks = streamed(Text("Hel"), Text("lo"))
    assert chunks[0] == {
        "id": "chatcmpl-abc",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "as:sent",
        "system_fingerprint": system_fingerprint("f"),
        "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "logprobs": None, "finish_reason": None}
        ],
    }
    assert deltas(chunks[1:]) == [{"content": "lo"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    shared = ("id", "object", "created", "model", "system_fingerprint")
    assert all([chunk[key] for key in shared] == [chunks[0][key] for key in shared] for chunk in chunks)


def test_an_empty_answer_still_has_a_role() -> None:
    """partly C-55"""
    assert deltas(streamed(Text(""))) == [{"role": "assistant", "content": ""}, {}]


def test_thinking_and_text_never_share_a_chunk() -> None:
    """partly C-56"""
    assert deltas(streamed(Thinking("h"), Thinking("m"), Text("a"))) == [
        {"role": "assistant", "content": "", "reasoning": "h"},
        {"content": "", "reasoning": "m"},
        {"content": "a"},
        {},
    ]


def test_usage_comes_last_and_is_null_until_then() -> None:
    """partly C-54"""
    chunks = streamed(Text("a"), include_usage=True)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None, None]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 15


def test_logprobs_stand_beside_their_text() -> None:
    first, silent, held, _ = streamed(Text("He", (LOGPROB,)), Text("x"), Text("", (LOGPROB,)), logprobs=True)
    assert first["choices"][0]["logprobs"] == {"content": [WRITTEN], "refusal": None}
    assert silent["choices"][0]["logprobs"] is None
    assert (deltas([held]), held["choices"][0]["logprobs"]["content"]) == ([{"content": ""}], [WRITTEN])


@pytest.mark.parametrize("chars", [0, 1, ARGUMENT_CHARS, 10 * ARGUMENT_CHARS])
def test_arguments_come_in_pieces(chars: int) -> None:
    """partly C-57"""
    call = ToolCall("add", {"a": "x" * chars, "ü": [1]}, "call_1", 0)
    *parts, finish = deltas(streamed(call, SUB))
    assert finish == {}
    assert parts[0] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}],
    }
    pieces = [part["tool_calls"][0] for part in parts]
    assert all(len(part) == 1 for part in parts[1:])
    joined = ["".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == i) for i in (0, 1)]
    assert list(map(json.loads, joined)) == [call.arguments, {}]
    assert [piece["id"] for piece in pieces if "id" in piece] == ["call_1", "call_2"]
    if chars > ARGUMENT_CHARS:
        assert sum(piece["index"] == 0 for piece in pieces) > 2


def test_a_streamed_function_call_in_older_words() -> None:
    chunks = streamed(ADD, is_legacy=True)
    assert deltas(chunks) == [
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": ""}},
        {"function_call": {"arguments": '{"b":1,"a":"ü"}'}},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


def test_several_answers_may_come_mixed() -> None:
    """partly C-49"""
    stream = ChatStream(HEAD)
    stream.begin(Started())
    sent = stream.part(Text("a"), 0) + stream.part(ADD, 1) + stream.finish(STOP, 1) + stream.part(Text("b"), 0)
    chunks = frames(sent + stream.finish(STOP, 0) + stream.end([STOP, STOP]))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices] == [0, 1, 1, 1, 0, 0]
    assert [choice["delta"].get("role") for choice in choices] == ["assistant", "assistant", None, None, None, None]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "tool_calls", None, "stop"]


def test_an_error_within_a_stream_ends_it() -> None:
    """partly C-12"""
    chunks = frames(ChatStream(HEAD).failed(EngineDied("the engine died")))
    assert chunks == [{"error": {"message": "the engine died", "type": "server_error", "param": None, "code": None}}]


def test_silence_is_filled_with_a_comment() -> None:
    assert ChatStream(HEAD).idle() == b": keep-alive\n\n"

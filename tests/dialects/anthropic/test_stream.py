"""compat-api §9.7, §2.4: an answer as a stream of events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.anthropic.reply import Part, write_message
from llamero.dialects.anthropic.stream import StreamWriter
from llamero.dialects.anthropic.thinking import Display
from llamero.errors import EngineDied
from llamero.messages import Finished, Started, Text, Thinking
from tests.dialects.anthropic.answers import ANSWERS, finished, frame

REQUEST = "req_0123456789abcdef01234567"
STARTED = Started(prompt_tokens=30, cached_tokens=20)
Event = dict[str, Any]


def stream(
    parts: list[Part], end: Finished | None = None, display: Display = "shown", started: Started = STARTED
) -> list[Event]:
    writer = StreamWriter(frame(display), REQUEST)
    end = end or finished()
    data = writer.begin(started) + b"".join(map(writer.part, parts)) + writer.finish(end) + writer.end([end])
    return events(data)


def events(data: bytes) -> list[Event]:
    """Each frame is a name, one line of JSON whose type is the name, and an empty line."""
    assert data.endswith(b"\n\n")
    found = []
    for text in data.decode().removesuffix("\n\n").split("\n\n"):
        name, line = text.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def accumulated(events: list[Event]) -> Event:
    """What a client makes of a stream. It holds the stream to its order: one open block at a time, counted from 0."""
    message: Event = events[0]["message"]
    is_open, pieces, has_ended = False, "", False
    for event in events[1:]:
        assert not has_ended
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                is_open, pieces = True, ""
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(message["content"]) - 1
                block, delta = message["content"][-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        assert not block["signature"]
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case _:
                        pieces += delta["partial_json"]
                        block["input"] = json.loads(pieces or "{}")
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(message["content"]) - 1
                is_open = False
            case "message_delta":
                assert not is_open
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case "message_stop":
                has_ended = True
            case other:
                assert other == "ping"
    assert has_ended
    return message


def test_the_events_of_thinking_text_and_a_call() -> None:
    """partly C-96"""
    parts: list[Part] = [Thinking("hm"), Text("a"), Text("b"), *ANSWERS["text, calls"][1:2]]
    assert [
        (event["type"], event.get("index"), event.get("delta"), event.get("content_block")) for event in stream(parts)
    ] == [
        ("message_start", None, None, None),
        ("ping", None, None, None),
        ("content_block_start", 0, None, {"type": "thinking", "thinking": "", "signature": ""}),
        ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "hm"}, None),
        ("content_block_delta", 0, {"type": "signature_delta", "signature": "signed hm"}, None),
        ("content_block_stop", 0, None, None),
        ("content_block_start", 1, None, {"type": "text", "text": ""}),
        ("content_block_delta", 1, {"type": "text_delta", "text": "a"}, None),
        ("content_block_delta", 1, {"type": "text_delta", "text": "b"}, None),
        ("content_block_stop", 1, None, None),
        ("content_block_start", 2, None, {"type": "tool_use", "id": "toolu_abcdefgh", "name": "add", "input": {}}),
        ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": ""}, None),
        ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": '{"b":2,"a":"ä"}'}, None),
        ("content_block_stop", 2, None, None),
        ("message_delta", None, {"stop_reason": "tool_use", "stop_sequence": None}, None),
        ("message_stop", None, None, None),
    ]


def test_the_first_event_knows_what_the_prompt_cost() -> None:
    """partly C-99"""
    first, *_, last, _ = stream([Text("a")])
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 20}
    assert first["message"]["usage"] == usage | {"output_tokens": 0}
    assert last["usage"] == usage | {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}}
    assert (first["message"]["stop_reason"], first["message"]["stop_sequence"]) == (None, None)


@pytest.mark.parametrize("display", ["shown", "omitted", "hidden"])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "end", [finished(), finished("length"), finished(stopped_by="X")], ids=["stop", "length", "text"]
)
def test_a_stream_says_what_a_whole_message_says(answer: str, display: Display, end: Finished) -> None:
    """partly C-96, partly C-97, partly C-98: whatever the parts and their order, nothing is lost"""
    whole = json.loads(write_message(frame(display), [(ANSWERS[answer], end)]))
    assert accumulated(stream(ANSWERS[answer], end, display)) == whole


def test_omitted_thinking_is_never_on_the_wire() -> None:
    parts: list[Part] = [Thinking("secret"), Text("a")]
    kinds = [
        event["delta"]["type"] for event in stream(parts, display="omitted") if event["type"] == "content_block_delta"
    ]
    assert kinds == ["signature_delta", "text_delta"]


def test_hidden_thinking_does_not_break_a_text_in_two() -> None:
    parts = ANSWERS["text, thinking, text, thinking"]
    assert [event["type"] for event in stream(parts, display="hidden")].count("content_block_start") == 1


def test_an_error_ends_the_stream_with_its_reason() -> None:
    """partly C-12"""
    writer = StreamWriter(frame(), REQUEST)
    writer.begin(STARTED)
    writer.part(Text("a"))
    assert events(writer.failed(EngineDied("the engine fell over"))) == [
        {"type": "error", "error": {"type": "api_error", "message": "the engine fell over"}, "request_id": REQUEST}
    ]


def test_silence_is_broken_by_pings() -> None:
    assert StreamWriter(frame(), REQUEST).idle() == b'event: ping\ndata: {"type":"ping"}\n\n'

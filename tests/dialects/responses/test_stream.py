"""Responses, streamed and whole (compat-api §8.4 to §8.6, §8.8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llamero.dialects.responses.output import Part
from llamero.errors import EngineDied
from llamero.messages import Logprob, Started, Text, Thinking, ToolCall
from tests.dialects.responses.scenes import NOW_S, asked, events, finished, streamed, whole, writer

MESSAGE = "output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done"
REASONING = (
    "output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done "
    "reasoning_summary_part.done output_item.done"
)
CALL = "output_item.added function_call_arguments.delta function_call_arguments.done output_item.done"


def order(stream: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in stream]


def test_the_order_of_thinking_then_text_then_a_call() -> None:
    """partly C-75, partly C-76, partly C-77"""
    parts = [Thinking("hm"), Text("a"), ToolCall("f", {"x": 1}, "call_1")]
    stream = streamed(asked(store=False), parts, finished())
    assert order(stream) == f"created in_progress {REASONING} {MESSAGE} {CALL} completed".split()
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert [event["output_index"] for event in stream[2:-1]] == [0] * 6 + [1] * 6 + [2] * 4

    begin, end = stream[0]["response"], stream[-1]["response"]
    assert (begin["status"], begin["output"], begin["usage"]) == ("in_progress", [], None)
    assert begin == stream[1]["response"]
    assert (end["status"], end["id"], end["created_at"]) == ("completed", begin["id"], NOW_S)
    done = [event["item"] for event in stream if event["type"] == "response.output_item.done"]
    assert end["output"] == done
    for event in stream[2:-1]:
        item = event.get("item")
        assert (item["id"] if item else event["item_id"]) == done[event["output_index"]]["id"]


def test_what_the_events_of_a_call_say() -> None:
    """partly C-77"""
    arguments = {"path": "x" * 100}
    stream = streamed(asked(), [ToolCall("f", arguments, "call_1")], finished())[2:-1]
    text = '{"path":"' + "x" * 100 + '"}'
    item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f"}
    assert stream[0]["item"] == {**item, "status": "in_progress", "arguments": ""}
    deltas = [event["delta"] for event in stream if event["type"].endswith("arguments.delta")]
    assert len(deltas) == 2
    assert "".join(deltas) == text
    assert stream[-2] | {"sequence_number": 0} == {
        "type": "response.function_call_arguments.done",
        "sequence_number": 0,
        "item_id": "fc_1",
        "output_index": 0,
        "name": "f",
        "arguments": text,
    }
    assert stream[-1]["item"] == {**item, "status": "completed", "arguments": text}


def test_calls_are_named_as_the_client_knows_the_tools() -> None:
    """partly C-74"""
    tools = [
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
        {"type": "custom", "name": "patch"},
    ]
    parts = [ToolCall("ns.g", {}, "call_1"), ToolCall("patch", {"input": "a\nb"}), ToolCall("other", {}, "call_3")]
    stream = streamed(asked(tools=tools), parts, finished())
    first, second, third = stream[-1]["response"]["output"]
    assert (first["name"], first["namespace"], first["call_id"]) == ("g", "ns", "call_1")
    assert second == {
        "id": "ctc_3",
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "call_2",
        "name": "patch",
        "input": "a\nb",
    }
    assert third["name"] == "other"
    assert "namespace" not in third
    assert order(stream)[6:10] == (
        "output_item.added custom_tool_call_input.delta custom_tool_call_input.done output_item.done".split()
    )


ANSWERS: dict[str, list[Part]] = {
    "text": [Text("a"), Text("b")],
    "thinking and text": [Thinking("a"), Thinking("b"), Text("c")],
    "text and calls": [Text("a"), ToolCall("f", {}, "call_1"), ToolCall("g", {}, "call_2", 1)],
    "text after a call": [ToolCall("f", {}, "call_1"), Text("a")],
    "everything twice": [Text("a"), Thinking("b"), Text("c"), ToolCall("f", {}, "call_1"), Thinking("d"), Text("e")],
    "nothing": [],
    "empty parts": [Thinking(""), Text("")],
    "only thinking": [Thinking("a")],
}


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("parts", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_stream_ends_with_the_reply_that_is_not_streamed(parts: list[Part], reason: Any) -> None:
    """partly C-78, partly C-79"""
    stream = streamed(asked(), parts, finished(reason))
    assert stream[-1]["response"] == whole(asked(), parts, finished(reason))
    added = [event for event in stream if event["type"] == "response.output_item.added"]
    done = [event for event in stream if event["type"] == "response.output_item.done"]
    indexes = list(range(len(added)))
    assert [event["output_index"] for event in added] == [event["output_index"] for event in done] == indexes
    assert [event["item"]["id"] for event in added] == [event["item"]["id"] for event in done]
    said = {kind: "".join(part.text for part in parts if isinstance(part, kind)) for kind in (Text, Thinking)}
    for kind, name in ((Text, "output_text"), (Thinking, "reasoning_summary_text")):
        told = [event["delta"] for event in stream if event["type"] == f"response.{name}.delta"]
        assert "".join(told) == said[kind]


def test_one_item_is_open_at_a_time() -> None:
    """partly C-78"""
    is_open = 0
    for event in streamed(asked(), ANSWERS["everything twice"], finished()):
        is_open += {"response.output_item.added": 1, "response.output_item.done": -1}.get(event["type"], 0)
        assert is_open in (0, 1)
    assert is_open == 0


@pytest.mark.parametrize("answer", ["nothing", "empty parts", "only thinking"])
def test_an_answer_without_words_has_an_empty_message(answer: str) -> None:
    stream = streamed(asked(), ANSWERS[answer], finished())
    last = stream[-1]["response"]["output"][-1]
    assert last["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]
    assert order(stream)[-6:] == (
        "output_item.added content_part.added output_text.done content_part.done output_item.done completed".split()
    )


def test_calls_alone_need_no_message() -> None:
    assert [item["type"] for item in whole(asked(), [ToolCall("f", {}, "call_1")], finished())["output"]] == [
        "function_call"
    ]


def test_an_answer_that_was_cut() -> None:
    """partly C-79"""
    stream = streamed(asked(), [Thinking("a"), Text("b")], finished("length"))
    assert order(stream)[-1] == "incomplete"
    assert "completed" not in order(stream)
    response = stream[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["completed_at"] is None
    thinking, message = response["output"]
    assert "status" not in thinking
    assert message["status"] == "incomplete"


def test_an_answer_that_only_repeated_itself_is_not_whole() -> None:
    end = replace(finished(), is_stuck=True)
    assert order(streamed(asked(), [Text("a")], end))[-1] == "incomplete"
    response = whole(asked(), [Text("a")], end)
    assert (response["status"], response["output"][0]["status"]) == ("incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_thinking_that_was_cut() -> None:
    response = whole(asked(), [Thinking("a")], finished("length"))
    assert [item["status"] for item in response["output"]] == ["incomplete", "incomplete"]


def test_a_call_that_came_before_the_cut_is_whole() -> None:
    response = whole(asked(), [ToolCall("f", {}, "call_1")], finished("length"))
    assert response["status"] == "incomplete"
    assert [item["status"] for item in response["output"]] == ["completed"]


def test_thinking_is_handed_out_only_to_clients_that_keep_it() -> None:
    parts = [Thinking("a"), Text("b")]
    shown = whole(asked(store=False), parts, finished())["output"][0]
    assert shown == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "a"}],
        "encrypted_content": "a",
    }
    assert "encrypted_content" not in whole(asked(), parts, finished())["output"][0]


def test_the_response_object_has_all_its_keys() -> None:
    """partly C-70"""
    response = whole(asked(), [Text("a")], finished())
    keys = (
        "id object created_at completed_at status background error frequency_penalty incomplete_details instructions "
        "max_output_tokens max_tool_calls metadata model output parallel_tool_calls presence_penalty "
        "previous_response_id prompt_cache_key reasoning safety_identifier service_tier store temperature text "
        "tool_choice tools top_logprobs top_p truncation usage"
    )
    assert list(response) == keys.split()
    assert (response["object"], response["status"], response["completed_at"]) == ("response", "completed", NOW_S)
    assert response["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 18,
    }


def test_logprobs_of_the_text() -> None:
    top = (Logprob("b", -2.0, (98,)), Logprob("a", -0.5, (97,)))
    parts = [Text("a", (Logprob("a", -0.5, (97,), top),)), Text("", (Logprob("", float("-inf")),))]
    stream = streamed(asked(include=["message.output_text.logprobs"], top_logprobs=2), parts, finished())
    deltas = [event["logprobs"] for event in stream if event["type"] == "response.output_text.delta"]
    assert deltas[0] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": [97]},
                {"token": "b", "logprob": -2.0, "bytes": [98]},
            ],
        }
    ]
    assert stream[-1]["response"]["output"][0]["content"][0]["logprobs"] == [*deltas[0], *deltas[1]]


def test_a_failure_is_the_last_event_and_keeps_what_there_is() -> None:
    """partly C-12"""
    to = writer(asked())
    wire = to.begin(Started()) + to.part(ToolCall("f", {}, "call_1")) + to.part(Text("a"))
    last = events(wire + to.failed(EngineDied("gone")))[-1]
    assert last["type"] == "response.failed"
    response = last["response"]
    assert (response["status"], response["usage"]) == ("failed", None)
    assert response["error"] == {"code": "server_error", "message": "gone"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_a_response_that_is_made_while_nobody_waits() -> None:
    to = writer(asked(background=True))
    first = to.queued()
    assert (first.status, first.background, first.output) == ("queued", True, ())
    assert to.response.status == "in_progress"
    to.part(ToolCall("f", {}, "call_1"))
    to.part(Text("a"))
    to.cancelled()
    assert (to.response.status, to.response.usage, to.response.completed_at) == ("cancelled", None, None)
    assert [item.status for item in to.response.output] == ["completed", "incomplete"]
    assert to.response.id == first.id


def test_silence_is_filled_with_a_comment() -> None:
    assert writer(asked()).idle() == b": keep-alive\n\n"

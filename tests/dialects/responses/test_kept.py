"""What can be asked of a response that was kept (compat-api §8.9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.responses import kept
from llamero.dialects.responses.items import History
from llamero.dialects.responses.kept import Kept, keep
from llamero.errors import InvalidField
from llamero.messages import Message, Text, Thinking, ToolCall
from tests.dialects.responses.scenes import asked, counting_ids, finished, writer

PARTS = [
    Thinking("why"),
    Text("hello"),
    ToolCall("ns.g", {"a": 1}, "call_1"),
    ToolCall("patch", {"input": "x"}, "call_2"),
]
TOOLS = [
    {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
    {"type": "custom", "name": "patch"},
]


def answered(*items: Any) -> Kept:
    read = asked(input=list(items), tools=TOOLS)
    to = writer(read)
    to.whole(PARTS, finished())
    return keep(to.response, read.items, counting_ids())


def test_a_later_request_goes_on_from_there() -> None:
    """partly C-83"""
    before = answered({"role": "user", "content": "hi"})
    outputs = [
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "2"},
    ]
    stored = json.loads(json.dumps(before.conversation))
    request = asked(History(earlier=stored), input=outputs).request
    assert request.messages == (
        Message("user", "hi"),
        Message(
            "assistant",
            "hello",
            thinking="why",
            tool_calls=(ToolCall("ns.g", {"a": 1}, "call_1", 0), ToolCall("patch", {"input": "x"}, "call_2", 1)),
        ),
        Message("tool", "1", tool_name="ns.g", tool_call_id="call_1"),
        Message("tool", "2", tool_name="patch", tool_call_id="call_2"),
    )


@pytest.mark.parametrize(
    ("item", "listed"),
    [
        (
            {"role": "assistant", "content": None},
            {"id": "msg_0", "type": "message", "role": "assistant", "content": []},
        ),
        (
            {"role": "user", "content": "a"},
            {"id": "msg_0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        ),
        (
            {"role": "assistant", "content": "a", "id": None},
            {
                "id": "msg_0",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a", "annotations": []}],
            },
        ),
        (
            {"type": "message", "role": "user", "content": [], "id": "msg_own", "status": "incomplete"},
            {"type": "message", "role": "user", "content": [], "id": "msg_own", "status": "incomplete"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            {"type": "function_call_output", "call_id": "c", "output": "1", "id": "fco_0"},
        ),
    ],
)
def test_input_is_listed_in_full_form(item: Any, listed: Any) -> None:
    (only,) = answered(item).items
    assert only == {"status": "completed", **listed}


def page(given: Kept, **query: str) -> tuple[list[str], bool]:
    reply = json.loads(kept.list_input(given, query))
    ids = [item["id"] for item in reply["data"]]
    assert (reply["object"], reply["first_id"], reply["last_id"]) == ("list", ids[0], ids[-1])
    return ids, reply["has_more"]


def test_pages_of_input() -> None:
    given = answered(*[{"role": "user", "content": str(number)} for number in range(25)])
    ids = [f"msg_{number}" for number in range(25)]
    assert page(given) == (ids[:4:-1], True), "20 of them, the newest first"
    assert page(given, order="asc", limit="10") == (ids[:10], True)
    assert page(given, order="asc", limit="10", after="msg_9") == (ids[10:20], True)
    assert page(given, order="asc", limit="100", after="msg_19") == (ids[20:], False)
    assert page(given, after="msg_1") == (ids[:1], False)


def test_the_page_after_the_last() -> None:
    reply = json.loads(kept.list_input(answered({"role": "user", "content": "a"}), {"after": "msg_0"}))
    assert reply == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "9" * 5000}, {"limit": "x"}, {"order": "up"}, {"after": "msg_9"}],
)
def test_pages_that_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidField) as caught:
        kept.list_input(answered({"role": "user", "content": "a"}), query)
    assert caught.value.param in query


def test_small_replies() -> None:
    assert json.loads(kept.write_deleted("resp_1")) == {"id": "resp_1", "object": "response", "deleted": True}
    assert json.loads(kept.write_input_tokens(7)) == {"object": "response.input_tokens", "input_tokens": 7}
    given = answered({"role": "user", "content": "a"})
    assert json.loads(kept.write_kept(given))["id"] == given.id


def test_unknown_responses() -> None:
    assert str(kept.not_found("resp_1")) == "Response with id 'resp_1' not found."
    error = kept.previous_not_found("resp_1")
    assert str(error) == "Previous response with id 'resp_1' not found."
    assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")


def test_what_nobody_is_at_any_more_has_failed() -> None:
    read = asked(background=True)
    to = writer(read)
    queued = keep(to.queued(), read.items, counting_ids())
    begun = queued.now(to.response)
    assert begun.items == queued.items
    assert [each.is_pending for each in (queued, begun)] == [True, True]
    broken = kept.broken_off(begun)
    assert not broken.is_pending
    assert (broken.response["status"], broken.response["error"]["code"]) == ("failed", "server_error")
    assert begun.response["status"] == "in_progress"
    to.finish(finished())
    assert not begun.now(to.response).is_pending

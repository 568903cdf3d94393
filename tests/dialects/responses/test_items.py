"""Items of a conversation become messages (compat-api §8.2)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from llamero.dialects.responses import items
from llamero.dialects.responses.items import History
from llamero.errors import InvalidField
from llamero.messages import Message, ToolCall
from tests.dialects.responses.scenes import asked, body, messages

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
PICTURE = "data:image/png;base64," + base64.b64encode(PNG).decode()
NOTE = "data:text/plain;base64," + base64.b64encode("kein Geheimnis: ä".encode()).decode()


def said(role: str, text: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


def call(call_id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(call_id: str, value: Any = "42") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "encrypted_content": text}


def test_a_text_is_what_the_user_says() -> None:
    assert asked(input="hello").request.messages == (Message("user", "hello"),)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "user", "content": "a"}, Message("user", "a")),
        (said("system", "a"), Message("system", "a")),
        (said("developer", "a"), Message("system", "a")),
        (said("critic", "a"), Message("critic", "a")),
        (said("User", "a"), Message("user", "a")),
        (said("assistant", None), Message("assistant")),
        ({"role": "user"}, Message("user")),
        (
            said("user", [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
            Message("user", "ab"),
        ),
        (said("assistant", [{"type": "output_text", "text": "a"}]), Message("assistant", "a")),
        (said("assistant", [{"type": "refusal", "refusal": "no"}]), Message("assistant", "no")),
        (said("user", []), Message("user")),
        (
            said("user", [{"type": "input_image", "image_url": PICTURE}, {"type": "input_text", "text": "a"}]),
            Message("user", "a", images=(PNG,)),
        ),
        (said("user", [{"type": "input_image", "image_url": {"url": PICTURE}}]), Message("user", images=(PNG,))),
        (said("user", [{"type": "input_file", "file_data": NOTE}]), Message("user", "kein Geheimnis: ä")),
    ],
)
def test_messages(item: Any, message: Message) -> None:
    """partly C-71, partly C-72"""
    assert messages(item) == (message,)


def test_calls_belong_to_the_message_before_them_and_outputs_know_their_tool() -> None:
    """partly C-73"""
    assert messages(
        said("user", "q"),
        said("assistant", "let me see"),
        call("c1", "f", '{"b": 1, "a": 2}'),
        call("c2", "g", "null"),
        call("c3", "g", " "),
        output("c1"),
        output("c3", None),
        output("c2", [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": PICTURE}]),
    ) == (
        Message("user", "q"),
        Message(
            "assistant",
            "let me see",
            tool_calls=(
                ToolCall("f", {"b": 1, "a": 2}, "c1", 0),
                ToolCall("g", {}, "c2", 1),
                ToolCall("g", {}, "c3", 2),
            ),
        ),
        Message("tool", "42", tool_name="f", tool_call_id="c1"),
        Message("tool", "", tool_name="g", tool_call_id="c3"),
        Message("tool", "x", images=(PNG,), tool_name="g", tool_call_id="c2"),
    )


def test_a_call_after_an_output_begins_a_message_of_its_own() -> None:
    conversation = messages(call("c1"), output("c1"), call("c2"), output("c2"))
    assert [message.role for message in conversation] == ["assistant", "tool", "assistant", "tool"]


def test_what_is_said_between_a_call_and_its_output_is_folded_into_the_message_with_the_call() -> None:
    first, second, last = messages(
        call("c1"), call("c2"), output("c1"), said("assistant", "wait"), said("assistant", "…"), output("c2")
    )
    assert (first.content, len(first.tool_calls)) == ("wait\n…", 2)
    assert (second.tool_call_id, last.tool_call_id) == ("c1", "c2")


@pytest.mark.parametrize(
    "between",
    [[said("user", "and?"), said("assistant", "a")], [output("c1"), said("assistant", "a")]],
    ids=["after the user", "after the last output"],
)
def test_other_answers_stay_messages_of_their_own(between: list[Any]) -> None:
    conversation = messages(call("c1"), *between)
    assert conversation[0].content == ""
    assert conversation[-1] == Message("assistant", "a")


def test_thinking_belongs_to_what_the_assistant_does_next() -> None:
    """partly C-81"""
    assert messages(
        thought("a"), thought("b"), said("assistant", "x"), said("user", "y"), thought("c"), call("c1"), output("c1")
    ) == (
        Message("assistant", "x", thinking="a\nb"),
        Message("user", "y"),
        Message("assistant", thinking="c", tool_calls=(ToolCall("f", {}, "c1"),)),
        Message("tool", "42", tool_name="f", tool_call_id="c1"),
    )


def test_thinking_that_led_to_nothing_is_a_message_of_its_own() -> None:
    assert messages(thought("a"), said("user", "x"), thought("b")) == (
        Message("assistant", thinking="a"),
        Message("user", "x"),
        Message("assistant", thinking="b"),
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"encrypted_content": "e", "summary": [{"type": "summary_text", "text": "s"}]}, "e"),
        ({"content": [{"type": "reasoning_text", "text": "c"}], "summary": [{"text": "s"}]}, "c"),
        ({"content": [], "summary": [{"text": "s"}, {"text": "t"}]}, "s\nt"),
        ({"encrypted_content": None, "content": None, "summary": [{"text": "s"}]}, "s"),
    ],
)
def test_thinking_is_read_in_its_fullest_form(fields: dict[str, Any], text: str) -> None:
    assert messages({"type": "reasoning", **fields}) == (Message("assistant", thinking=text),)


def test_empty_reasoning_is_nothing() -> None:
    assert messages({"type": "reasoning", "summary": []}, said("user", "a")) == (Message("user", "a"),)


def test_searches_of_before_are_passed_over() -> None:
    assert messages(said("user", "a"), {"type": "web_search_call", "id": "ws_1"}) == (Message("user", "a"),)


def test_custom_tools_are_called_with_one_text() -> None:
    assert messages(
        {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
    ) == (
        Message("assistant", tool_calls=(ToolCall("patch", {"input": "*** Begin"}, "c1"),)),
        Message("tool", "done", tool_name="patch", tool_call_id="c1"),
    )


@pytest.mark.parametrize("name", ["g", "ns.g"])
def test_calls_in_a_namespace_get_back_the_name_that_the_model_used(name: str) -> None:
    """partly C-74"""
    first, second = messages(call("c1", name, namespace="ns"), output("c1"))
    assert (first.tool_calls[0].name, second.tool_name) == ("ns.g", "ns.g")


def test_earlier_items_come_first_and_instructions_before_them() -> None:
    history = History(earlier=[said("user", "1"), said("assistant", "2")])
    request = asked(history, input="3", instructions="be brief").request
    assert [message.content for message in request.messages] == ["be brief", "1", "2", "3"]


def test_references_are_replaced_by_what_was_kept() -> None:
    given = body(input=[{"type": "item_reference", "id": "msg_1"}, said("user", "b")])
    assert items.references(given) == ["msg_1"]
    history = History(referenced={"msg_1": said("user", "a")})
    assert [message.content for message in asked(history, input=given.raw("input")).request.messages] == ["a", "b"]


def test_references_of_hostile_bodies() -> None:
    for value in ("x", None, {}, [1, [], {"type": "item_reference"}, {"type": "item_reference", "id": 3}]):
        assert items.references(body(input=value)) == []


def test_remote_pictures_of_the_whole_conversation_are_named() -> None:
    def picture(number: int) -> dict[str, Any]:
        return said("user", [{"type": "input_image", "image_url": f"https://example.com/{number}.png"}])

    history = History(earlier=[picture(1)], referenced={"msg_1": picture(2)})
    given = body(input=[picture(4)], instructions=[picture(3)])
    assert items.remote_urls(given, history) == {
        "https://example.com/1.png": "previous_response_id",
        "https://example.com/2.png": "previous_response_id",
        "https://example.com/3.png": "instructions",
        "https://example.com/4.png": "input[0].content[0].image_url",
    }


def test_pictures_that_were_fetched_are_used() -> None:
    url = "https://example.com/a.png"
    item = said("user", [{"type": "input_image", "image_url": url}])
    assert messages(item, history=History(fetched={url: PNG})) == (Message("user", images=(PNG,)),)


def test_pictures_that_lie_elsewhere_are_left_out_with_a_warning() -> None:
    request = asked(input=[said("user", [{"type": "input_image", "file_id": "file-1"}])]).request
    assert request.messages == (Message("user"),)
    assert request.warnings == ("input[0].content[0]: pictures by file_id are not supported; it was left out",)


@pytest.mark.parametrize(
    ("item", "message", "param"),
    [
        ({"foo": 1}, "input[0]: input item missing required 'type' field", "input[0].type"),
        ({"type": "mcp_call"}, 'input[0]: unknown input item type: "mcp_call"', "input[0].type"),
        ({"type": 3}, "'input[0].type' must be a string", "input[0].type"),
        ("text", "'input[0]' must be an object", "input[0]"),
        (said("user", 3), "'input[0].content' must be a string or an array", "input[0].content"),
        (said("", "a"), "'input[0].role' is required", "input[0].role"),
        (said("user", [{"type": "hologram"}]), "unknown content type: hologram", "input[0].content[0].type"),
        (said("user", [{"type": "input_text"}]), "'input[0].content[0].text' is required", "input[0].content[0].text"),
        (
            said("user", [{"type": "input_image", "image_url": "https://example.com/a.png"}]),
            "image URLs are not currently supported",
            "input[0].content[0].image_url",
        ),
        (said("user", [{"type": "input_image"}]), "invalid image input", "input[0].content[0].image_url"),
        (
            said("user", [{"type": "input_file", "file_id": "file-1"}]),
            "file inputs are not currently supported",
            "input[0].content[0]",
        ),
        (
            said("user", [{"type": "input_file", "file_data": "data:application/pdf;base64,JVBERg=="}]),
            "file inputs are not currently supported: files of type 'application/pdf'",
            "input[0].content[0].file_data",
        ),
        (call("c1", "f", "not json"), "failed to parse function call arguments", "input[0].arguments"),
        (call("c1", "f", "[1]"), "failed to parse function call arguments", "input[0].arguments"),
        (call("c1", "f", '{"a":' * 5000), "failed to parse function call arguments", "input[0].arguments"),
        (call("", "f"), "'input[0].call_id' is required", "input[0].call_id"),
        (call("c1", ""), "'input[0].name' is required", "input[0].name"),
        ({**call("c1"), "call_id": ["c1"]}, "'input[0].call_id' must be a string", "input[0].call_id"),
        (output("c1", {"a": 1}), "'input[0].output' must be a string or an array", "input[0].output"),
        ({"type": "item_reference", "id": "msg_9"}, "Item with id 'msg_9' not found.", "input[0].id"),
    ],
)
def test_items_that_are_refused(item: Any, message: str, param: str) -> None:
    """partly C-72"""
    with pytest.raises(InvalidField) as caught:
        messages(item)
    assert str(caught.value).startswith(message)
    assert caught.value.param == param


def test_earlier_items_count_like_own_ones() -> None:
    history = History(earlier=[said("user", "a")] * 10_000)
    with pytest.raises(InvalidField, match="at most 10000 items"):
        asked(history)


def test_long_conversations_are_read_in_linear_time() -> None:
    """Folding 9,000 answers into one message of 8 MB: quadratic copying would take minutes."""
    late = [said("assistant", "x" * 8_000_000), call("c1"), *[said("assistant", "y")] * 9_000, output("c1")]
    first, last = messages(*late)
    assert len(first.content) == 8_000_000 + 2 * 9_000
    assert last.tool_call_id == "c1"

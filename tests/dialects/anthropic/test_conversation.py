"""compat-api §9.2: turns and blocks become messages."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from llamero.dialects.anthropic.content import joined
from llamero.dialects.anthropic.conversation import read_conversation
from llamero.dialects.fields import Fields
from llamero.errors import InvalidField
from llamero.messages import Message, ToolCall

PNG = b"\x89PNG\r\n\x1a\nanything"
DATA = base64.b64encode(PNG).decode()
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"b": 2, "a": 1}}
CALL = ToolCall("add", {"b": 2, "a": 1}, "toolu_1")


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def result(content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content} | more


def answer(words: str, *images: bytes) -> Message:
    return Message("tool", words, images=images, tool_name="add", tool_call_id="toolu_1")


def read(*messages: Any, system: Any = None, fetched: dict[str, bytes] | None = None) -> tuple[Message, ...]:
    return read_conversation(Fields({"system": system, "messages": list(messages)}), fetched or {}).messages


def refused(*messages: Any, system: Any = None) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        read(*messages, system=system)
    return caught.value


# --- turns ---------------------------------------------------------------------------------------------------------


def test_a_string_is_one_block_of_text() -> None:
    assert read({"role": "user", "content": "hi"}) == read(user(text("hi"))) == (Message("user", "hi"),)


def test_roles_are_read_in_any_case() -> None:
    assert read({"role": "User", "content": "a"}, {"role": "ASSISTANT", "content": "b"}) == (
        Message("user", "a"),
        Message("assistant", "b"),
    )


@pytest.mark.parametrize("role", ["tool", "developer", "", None])
def test_any_other_role_is_refused(role: str | None) -> None:
    error = refused(user(text("a")), {"role": role, "content": "b"})
    assert error.param == "messages[1].role"


def test_adjacent_turns_of_one_role_are_one() -> None:
    assert read(user(text("a")), user(PICTURE, text("b")), assistant(text("c")), assistant(USE)) == (
        Message("user", "a\nb", images=(PNG,)),
        Message("assistant", "c", tool_calls=(CALL,)),
    )


@pytest.mark.parametrize("system", ["be brief\nbe kind", [text("be brief"), text("be kind")]], ids=["string", "blocks"])
def test_the_system_prompt_is_one_leading_message(system: Any) -> None:
    """partly C-88"""
    assert read(user(text("hi")), system=system) == (Message("system", "be brief\nbe kind"), Message("user", "hi"))


@pytest.mark.parametrize("system", ["", [], [text("")], None])
def test_an_empty_system_prompt_is_none(system: Any) -> None:
    assert read(user(text("hi")), system=system) == (Message("user", "hi"),)


def test_blocks_that_a_system_prompt_cannot_hold_are_named() -> None:
    read_in = read_conversation(Fields({"system": [PICTURE, text("a")], "messages": [user(text("hi"))]}), {})
    assert read_in.messages[0] == Message("system", "a")
    assert read_in.warnings == ("system[0]: a block of type 'image' has no effect there",)


def test_a_system_message_stands_where_it_was_said() -> None:
    messages = read(user(text("a")), {"role": "system", "content": "now in French"}, user(text("b")), system="s")
    assert [(message.role, message.content) for message in messages] == [
        ("system", "s"),
        ("user", "a"),
        ("system", "now in French"),
        ("user", "b"),
    ]


def test_a_last_turn_of_the_assistant_is_the_beginning_of_the_answer() -> None:
    assert read(user(text("a")), assistant(text("The answer is ")))[-1] == Message("assistant", "The answer is ")


def test_turns_that_hold_nothing_are_skipped_but_not_all_of_them() -> None:
    assert read(user(text("")), assistant(), user(text("a"))) == (Message("user", "a"),)
    assert refused(user(text("")), assistant()).param == "messages"


@pytest.mark.parametrize("content", [None, 1, {}, True])
def test_content_is_a_string_or_blocks(content: Any) -> None:
    assert refused({"role": "user", "content": content}).param == "messages[0].content"
    assert refused(user(1)).param == "messages[0].content[0]"


@pytest.mark.parametrize("content", [1, {}, [1], [{"type": "text"}]])
def test_a_system_prompt_of_another_type_is_refused(content: Any) -> None:
    assert refused(user(text("a")), system=content).param.startswith("system")


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["a", "b"], "a\nb"),
        (["a\n", "b"], "a\nb"),
        (["a", "\nb"], "a\nb"),
        (["a\n", "\nb"], "a\n\nb"),
        (["", "a", "", "b", ""], "a\nb"),
        ([], ""),
    ],
)
def test_texts_are_kept_apart_by_one_line_end(texts: list[str], whole: str) -> None:
    assert joined(texts) == whole


# --- pictures ------------------------------------------------------------------------------------------------------


def source(**fields: Any) -> dict[str, Any]:
    return {"type": "image", "source": fields}


def test_pictures_are_attached_in_their_order() -> None:
    """partly C-90"""
    link = source(type="url", url=f"data:image/png;base64,{DATA}")
    assert read(user(PICTURE, text("what is it?"), link)) == (Message("user", "what is it?", images=(PNG, PNG)),)


def test_a_fetched_picture_is_taken_and_any_other_url_refused() -> None:
    """partly C-90"""
    picture = source(type="url", url="https://example.com/a.png")
    assert read(user(picture), fetched={"https://example.com/a.png": PNG}) == (Message("user", images=(PNG,)),)
    assert str(refused(user(picture))) == "invalid image source type: url. Only base64 images are supported."


@pytest.mark.parametrize(
    ("picture", "message", "param"),
    [
        ({"type": "image"}, "invalid image source", "source"),
        ({"type": "image", "source": "x"}, "invalid image source", "source"),
        (source(type="base64"), "invalid base64 image data", "source.data"),
        (source(type="base64", data="§"), "invalid base64 image data", "source.data"),
        (source(type="file", file_id="f"), "invalid image source type: file. Only base64 images", "source.type"),
        (source(), "invalid image source type: . Only base64 images", "source.type"),
        (source(type="url"), "invalid image source type: url. Only base64 images", "source.type"),
        (source(type="url", url="file:///etc/passwd"), "invalid image source type: url.", "source.type"),
        (source(type="url", url="data:text/html;base64,AAAA"), "invalid image input", "source.url"),
    ],
)
def test_pictures_that_cannot_be_read(picture: Any, message: str, param: str) -> None:
    error = refused(user(text("a"), picture))
    assert str(error).startswith(message)
    assert error.param == f"messages[0].content[1].{param}"


@pytest.mark.parametrize("picture", [{"type": "image"}, source(type="file"), source(type="url", url="https://a/b")])
def test_pictures_in_results_have_their_own_words(picture: Any) -> None:
    error = refused(user(text("a")), assistant(USE), user(result([picture])))
    assert str(error) == "invalid tool_result image source"


# --- tools ---------------------------------------------------------------------------------------------------------


def test_text_thinking_and_calls_of_an_assistant_are_one_message() -> None:
    thought = {"type": "thinking", "thinking": "one", "signature": "whatever"}
    assert read(
        user(text("a")),
        assistant(thought, text("b"), {**thought, "thinking": "two"}, USE, {**USE, "id": "toolu_2", "input": None}),
    )[1:] == (
        Message(
            "assistant",
            "b",
            "one\ntwo",
            tool_calls=(CALL, ToolCall("add", {}, "toolu_2", 1)),
        ),
    )


def test_redacted_thinking_is_dropped() -> None:
    redacted = {"type": "redacted_thinking", "data": "x"}
    assert read(user(text("a")), assistant(redacted, text("b")))[1] == Message("assistant", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, answer("")),
        ("3", answer("3")),
        ([text("3"), text("really")], answer("3\nreally")),
        ([text("see"), PICTURE], answer("see", PNG)),
    ],
)
def test_results_name_the_tool_and_the_call(content: Any, message: Message) -> None:
    """partly C-91"""
    assert read(user(text("a")), assistant(USE), user(result(content)))[2:] == (message,)


def test_results_come_before_the_words_of_the_same_turn() -> None:
    """partly C-92"""
    second = {**USE, "id": "toolu_2"}
    messages = read(
        user(text("a")),
        assistant(USE, second),
        user(text("so?"), result("2", tool_use_id="toolu_2"), result("1"), text("well?")),
    )
    assert [(message.role, message.content) for message in messages[2:]] == [
        ("tool", "2"),
        ("tool", "1"),
        ("user", "so?\nwell?"),
    ]


def test_a_failed_tool_is_known_by_its_text() -> None:
    """partly C-93"""
    assert read(user(text("a")), assistant(USE), user(result("no", is_error=True)))[2:] == (answer("Error: no"),)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "tool_use", "name": "add"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "", "name": "add"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "x"}, "tool_use block missing required 'name' field"),
        (
            {"type": "tool_use", "id": "x", "name": "add", "input": "{}"},
            "'messages[1].content[0].input' must be an object",
        ),
    ],
    ids=["no id (partly C-92)", "empty id", "no name (partly C-92)", "input as text"],
)
def test_calls_that_cannot_be_read(block: Any, message: str) -> None:
    assert str(refused(user(text("a")), assistant(block))).startswith(message)


@pytest.mark.parametrize("id_", ["toolu_2", "", None], ids=["another", "empty", "absent"])
def test_a_result_without_its_call_is_refused(id_: str | None) -> None:
    error = refused(user(text("a")), assistant(USE), user(result("3", tool_use_id=id_)))
    assert error.param == "messages[2].content[0].tool_use_id"


def test_a_call_that_comes_later_does_not_count() -> None:
    assert refused(user(result("3")), assistant(USE)).param == "messages[0].content[0].tool_use_id"


SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "llamas"}}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            [
                {"type": "web_search_result", "title": "Llama", "url": "https://a", "encrypted_content": "x"},
                {"type": "web_search_result", "title": "Alpaca", "url": "https://b"},
            ],
            "- Llama: https://a\n- Alpaca: https://b",
        ),
        (
            {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            "web_search_tool_result_error: unavailable",
        ),
    ],
)
def test_a_search_of_before_is_a_call_and_its_result(content: Any, found: str) -> None:
    block = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": content}
    assert read(user(text("a")), assistant(text("let me see"), SEARCH, block, text("so")))[1:] == (
        Message("assistant", "let me see", tool_calls=(ToolCall("web_search", {"query": "llamas"}, "srvtoolu_1"),)),
        Message("tool", found, tool_name="web_search", tool_call_id="srvtoolu_1"),
        Message("assistant", "so"),
    )


# --- documents and the rest ----------------------------------------------------------------------------------------


def document(source: Any, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source} | more


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (document({"type": "text", "media_type": "text/plain", "data": "It rains."}), Message("user", "It rains.")),
        (
            document({"type": "text", "data": "It rains."}, title="Weather", context="of today"),
            Message("user", "Weather\nof today\nIt rains."),
        ),
        (document({"type": "content", "content": "It rains."}), Message("user", "It rains.")),
        (
            document({"type": "content", "content": [text("It"), PICTURE, text("rains.")]}),
            Message("user", "It\nrains.", images=(PNG,)),
        ),
        (
            {"type": "search_result", "source": "https://a", "title": "Weather", "content": [text("It rains.")]},
            Message("user", "Weather\nhttps://a\nIt rains."),
        ),
    ],
    ids=["text", "title", "string", "blocks", "search result"],
)
def test_documents_are_inlined_as_text(block: Any, message: Message) -> None:
    assert read(user(block)) == (message,)
    in_result = read(user(text("a")), assistant(USE), user(result([block])))[2]
    assert in_result == answer(message.content, *message.images)


@pytest.mark.parametrize(
    "block",
    [
        document({"type": "base64", "media_type": "application/pdf", "data": "AAAA"}),
        document({"type": "url", "url": "https://a/b.pdf"}),
        document({"type": "file", "file_id": "f"}),
        document(None),
        document({"type": "content", "content": [document({"type": "text", "data": "x"})]}),
        {"type": "search_result", "source": "s", "title": "t", "content": [PICTURE]},
        {"type": "container_upload", "file_id": "f"},
        {"type": "web_fetch_tool_result", "tool_use_id": "x", "content": []},
        {"type": "audio"},
        {"text": "no type"},
        {"type": 1},
    ],
)
def test_what_we_cannot_show_to_a_model_is_refused_with_its_place(block: Any) -> None:
    for messages in (
        [user(block)],
        [user(text("a")), assistant(block)],
        [user(text("a")), assistant(USE), user(result([block]))],
    ):
        error = refused(*messages)
        assert error.param.startswith(f"messages[{len(messages) - 1}].content[0].")


@pytest.mark.parametrize("block", [USE, {"type": "thinking", "thinking": "x"}, SEARCH])
def test_a_user_does_not_speak_for_the_assistant(block: Any) -> None:
    assert refused(user(block)).param == "messages[0].content[0].type"


def test_an_assistant_does_not_answer_its_own_calls() -> None:
    assert refused(user(text("a")), assistant(USE, result("3"))).param == "messages[1].content[1].type"


def test_the_number_of_messages_is_bounded() -> None:
    assert refused(*[user(text("a"))] * 10_001).param == "messages"

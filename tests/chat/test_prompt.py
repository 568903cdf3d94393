"""Requests to the engine, made of messages and options (modelfile-templates §3, §4; scheduler §12, §14)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat import prompt
from llamero.chat.media import Media
from llamero.messages import Message, ToolCall
from llamero.options import merge_options

SYSTEM, USER, ASSISTANT = Message("system", "asked"), Message("user", "hi"), Message("assistant", "yo")
STORED = (Message("user", "stored"), Message("assistant", "answer"))


def options(**given: Any) -> dict[str, Any]:
    return merge_options(given)


def contents(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


def test_t65_system_then_stored_then_asked() -> None:
    """T-65: the model's SYSTEM steps back for a request that begins with a system message."""
    assert contents(prompt.assemble("own", STORED, [USER])) == ["own", "stored", "answer", "hi"]
    assert contents(prompt.assemble("own", STORED, [SYSTEM, USER])) == ["stored", "answer", "asked", "hi"]
    assert contents(prompt.assemble("own", (), [USER, SYSTEM])) == ["own", "hi", "asked"]
    assert contents(prompt.assemble("", (), [USER])) == ["hi"]


def test_old_thinking_is_cut_out_of_earlier_answers() -> None:
    thought = Message("assistant", "<think>hm</think>\n\nanswer")
    last = Message("assistant", "<think>now</think>rest")
    assert contents(prompt.strip_old_thinking([USER, thought, USER, last])) == ["hi", "answer", "hi", last.content]
    open_end = Message("assistant", "<think>never closed")
    assert contents(prompt.strip_old_thinking([USER, open_end, USER])) == ["hi", open_end.content, "hi"]


TALK = [SYSTEM, Message("user", "1"), Message("assistant", "2"), Message("system", "rule"), Message("user", "3")]


@pytest.mark.parametrize(
    ("start", "left"),
    [
        (0, ["asked", "1", "2", "rule", "3"]),
        (2, ["asked", "2", "rule", "3"]),
        (4, ["asked", "rule", "3"]),
    ],
)
def test_dropped_system_messages_move_to_the_front(start: int, left: list[str]) -> None:
    assert contents(prompt.kept(TALK, start)) == left


@pytest.mark.parametrize(
    ("start", "left"),
    [
        (1, ["asked", "1", "2", "rule", "3"]),
        (2, ["asked", "1", "2", "rule", "3"]),
        (3, ["asked", "rule", "3"]),
    ],
)
def test_what_is_left_can_begin_with_words_of_the_user(start: int, left: list[str]) -> None:
    assert contents(prompt.kept(TALK, start, from_user=True)) == left


async def start_that_fits(lengths: list[int], limit: int) -> tuple[int, int]:
    """Where the conversation begins when message i costs `lengths[i]` tokens, and how often tokens were counted."""
    calls = 0

    async def count(start: int) -> int:
        nonlocal calls
        calls += 1
        return sum(lengths[start:])

    return await prompt.fit([USER] * len(lengths), limit, count), calls


@pytest.mark.parametrize(
    ("lengths", "limit", "start"),
    [
        pytest.param([1, 1, 1], 1, 2, id="T-66: only the last one fits"),
        pytest.param([5, 5, 5], 0, 2, id="the last one stays although it does not fit"),
        pytest.param([5, 5, 5], 10, 1, id="one goes"),
        pytest.param([9], 1, 0, id="a single message is not touched"),
        pytest.param([], 1, 0, id="nothing"),
    ],
)
async def test_messages_go_until_the_rest_fits(lengths: list[int], limit: int, start: int) -> None:
    assert (await start_that_fits(lengths, limit))[0] == start


async def test_t68_what_fits_is_counted_once() -> None:
    """T-68."""
    assert await start_that_fits([1] * 5, 100) == (0, 1)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(0, 200))
async def test_bisection_finds_what_trying_in_turn_finds(lengths: list[int], limit: int) -> None:
    last = len(lengths) - 1
    in_turn = next((i for i in range(last + 1) if sum(lengths[i:]) <= limit), last)
    assert (await start_that_fits(lengths, limit))[0] == in_turn


@pytest.mark.parametrize(
    ("ctx", "keep", "adds_bos", "limit"),
    [
        pytest.param(8, 3, False, 6, id="R-63 small"),
        pytest.param(4096, 4, False, 2050, id="keep 4"),
        pytest.param(4096, 4, True, 2051, id="R-63 keep 4 and BOS"),
        pytest.param(8, 99, False, 7, id="keep more than there is room for"),
        pytest.param(8, -1, False, 7, id="keep all"),
    ],
)
def test_cut_prompts_keep_their_beginning_and_their_end(ctx: int, keep: int, adds_bos: bool, limit: int) -> None:
    tokens = list(range(5000))
    cut = prompt.cut_tokens(tokens, ctx, keep, adds_bos=adds_bos)
    assert len(cut) == limit
    kept = min(ctx - 1, 5000 if keep < 0 else keep + adds_bos)
    assert cut[:kept] == tokens[:kept]
    assert cut[kept:] == tokens[5000 - (limit - kept) :]


def test_r63_the_worked_example() -> None:
    assert prompt.cut_tokens(range(10), 8, 3, adds_bos=False) == [0, 1, 2, 7, 8, 9]


@pytest.mark.parametrize(("asked", "sent"), [(-1, 20480), (100, 100), (30000, 20480), (0, 20480), (20480, 20480)])
def test_r55_answers_are_bounded_by_ten_contexts(asked: int, sent: int) -> None:
    """R-55."""
    assert prompt.sampling(options(num_predict=asked), 2048)["n_predict"] == sent


def test_zero_values_are_sent_and_some_are_left_out_when_empty() -> None:
    body = prompt.sampling(options(temperature=0, top_k=0, num_keep=0, typical_p=0), 2048)
    assert (body["temperature"], body["top_k"]) == (0, 0)
    assert not {"n_keep", "typical_p", "stop"} & set(body)
    body = prompt.sampling(options(stop=["x"], num_keep=5), 2048)
    assert (body["stop"], body["n_keep"], body["typical_p"]) == (["x"], 5, 1.0)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"repeat_last_n": -1}, {"repeat_last_n": 2048}),
        ({"repeat_last_n": 10**12}, {"repeat_last_n": 2048}),
        ({"repeat_last_n": 0}, {"repeat_last_n": 0}),
        ({"num_keep": -7}, {"n_keep": -1}),
        ({"num_keep": 10**12}, {"n_keep": 2048}),
        ({"seed": -5}, {"seed": -1}),
        ({"seed": 2**32 - 2}, {"seed": 2**32 - 2}),
        ({"seed": 2**32 - 1}, {"seed": 0}),
    ],
)
def test_numbers_are_put_in_the_engines_words(given: dict[str, Any], sent: dict[str, Any]) -> None:
    """It refuses what lies beyond its bounds, and takes the last seed that 32 bits have for a random one."""
    assert sent.items() <= prompt.sampling(options(**given), 2048).items()


def test_nothing_is_kept_when_that_is_asked_of_an_engine_that_keeps() -> None:
    assert prompt.sampling(options(num_keep=0), 2048, engine_keeps=4)["n_keep"] == 0


@pytest.mark.parametrize(
    ("given", "reused"),
    [
        ({}, True),
        ({"seed": 7}, False),
        ({"seed": 7, "temperature": 0}, True),
        ({"seed": -1}, True),
        ({"seed": 0}, False),
    ],
)
def test_prompts_are_not_reused_for_seeded_sampling(given: dict[str, Any], reused: bool) -> None:
    assert prompt.sampling(options(**given), 2048)["cache_prompt"] is reused


def test_messages_as_the_engine_reads_them() -> None:
    """Partly T-100: arguments travel as text, tool results with their call, thinking as reasoning."""
    call = ToolCall("f", {"a": 1}, "call_1")
    talk = [
        Message("assistant", "", "hm", tool_calls=(call,)),
        Message("tool", "2", tool_name="f", tool_call_id="call_1"),
    ]
    assistant, tool = prompt.template_body(talk, {})["messages"]
    assert assistant["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert assistant["reasoning_content"] == "hm"
    assert tool == {"role": "tool", "content": "2", "name": "f", "tool_call_id": "call_1"}


def test_pictures_and_sounds_become_parts_behind_the_text() -> None:
    picture, sound = b"p", b"s"
    media = {picture: Media("image", "image/png", b"PNG"), sound: Media("audio", "audio/mpeg", b"MP3")}
    body = prompt.template_body([Message("user", "look", images=(picture, sound))], media)
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,UE5H"}},
        {"type": "input_audio", "input_audio": {"data": "TVAz", "format": "mp3"}},
    ]


@pytest.mark.parametrize(
    ("content", "pictures", "parts"),
    [
        ("a [img] b", 1, ["a ", 0, " b"]),
        ("a [img] b", 2, ["a ", 0, " b", 1]),
        ("[img][img] b [img]", 2, [0, 1, " b [img]"]),
        ("", 2, [0, 1]),
    ],
)
def test_a_picture_stands_where_the_text_says(content: str, pictures: int, parts: list[str | int]) -> None:
    images = tuple(bytes([number]) for number in range(pictures))
    media = {image: Media("image", "image/png", image) for image in images}
    (message,) = prompt.template_body([Message("user", content, images=images)], media)["messages"]
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
    assert message["content"] == [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": urls[part]}}
        for part in parts
    ]


def test_only_what_is_asked_about_is_told_to_the_template() -> None:
    assert prompt.template_body([USER], {}).keys() == {"messages"}
    body = prompt.template_body([USER], {}, {"tools": [1]}, {"enable_thinking": True})
    assert (body["tools"], body["chat_template_kwargs"]) == ([1], {"enable_thinking": True})


def call(name: str, id_: str = "") -> Message:
    return Message("assistant", tool_calls=(ToolCall(name, {}, id_),))


def result(name: str = "", id_: str = "") -> Message:
    return Message("tool", "r", tool_name=name, tool_call_id=id_)


@pytest.mark.parametrize(
    ("talk", "results"),
    [
        pytest.param([call("f", "1"), result(id_="1")], [("f", "1")], id="name from the id"),
        pytest.param([call("f", "1"), result("f")], [("f", "1")], id="id from the name"),
        pytest.param([call("f", "1"), result()], [("f", "1")], id="in order"),
        pytest.param(
            [
                Message("assistant", tool_calls=(ToolCall("f", {}, "1"), ToolCall("g", {}, "2"))),
                result("g"),
                result(),
            ],
            [("g", "2"), ("f", "1")],
            id="of two calls",
        ),
        pytest.param([call("f"), result("f")], [("f", "call00000")], id="neither had one"),
        pytest.param([call("f", "1"), result("f"), call("f", "2"), result("f")], [("f", "1"), ("f", "2")], id="twice"),
        pytest.param([result("g", "9")], [("g", "9")], id="of no call"),
        pytest.param([result()], [("", "")], id="nothing to go by"),
    ],
)
def test_partly_t100_a_result_has_the_name_and_the_id_of_its_call(
    talk: list[Message], results: list[tuple[str, str]]
) -> None:
    given = prompt.matched(talk)
    assert [(message.tool_name, message.tool_call_id) for message in given if message.role == "tool"] == results
    ids = [call.id for message in given for call in message.tool_calls]
    assert all(ids), "templates look at the ids of calls"
    assert len(set(ids)) == len(ids)


def test_an_answer_that_is_begun_twice_is_gone_on_with_as_one() -> None:
    """The engine refuses two."""
    talk = [USER, Message("assistant", "a", "hm"), Message("assistant", "b")]
    assert prompt.continued(talk) == (USER, Message("assistant", "a\n\nb", "hm"))
    assert prompt.continued([USER, ASSISTANT, USER]) == (USER, ASSISTANT, USER)
    called = call("f", "1")
    assert prompt.continued([USER, called, ASSISTANT]) == (USER, called, ASSISTANT)


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        (Message("assistant", ""), False),
        (Message("assistant", " "), True),
        (Message("assistant", "", thinking="hm"), True),
        (Message("assistant", "", tool_calls=(ToolCall("add", {}),)), True),
        (Message("user", ""), True),
    ],
)
def test_an_answer_without_a_word_has_not_begun(last: Message, kept: bool) -> None:
    """The engine writes the assistant's header for a new answer, and goes on with one that stands there."""
    before = Message("user", "Hi")
    assert prompt.continued([before, last]) == ((before, last) if kept else (before,))
    assert prompt.continued([last]) == (last,)


def test_formats() -> None:
    schema = {"type": "object"}
    assert prompt.completion_constraint(None) == {}
    assert prompt.completion_constraint("json") == prompt.completion_constraint(schema)
    assert prompt.completion_constraint(schema).keys() == {"grammar"}
    bounded = {"type": "integer", "minimum": 3}
    assert prompt.completion_constraint(bounded)["json_schema"].items() > bounded.items()


@pytest.mark.parametrize(
    ("wanted", "top", "fields"), [(False, 5, {}), (True, 0, {"n_probs": 1}), (True, 5, {"n_probs": 5})]
)
def test_log_probabilities(wanted: bool, top: int, fields: dict[str, Any]) -> None:
    """Partly R-57."""
    assert prompt.logprob_fields(wanted=wanted, top=top) == fields

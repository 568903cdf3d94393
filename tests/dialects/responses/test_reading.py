"""The fields of a request for a response (compat-api §8.1)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.dialects.responses import reading
from llamero.dialects.responses.items import History
from llamero.errors import InvalidField
from llamero.messages import Message
from tests.dialects.responses.scenes import asked, body


def test_the_smallest_request() -> None:
    request = asked().request
    assert request.model == "m"
    assert request.messages == (Message("user", "hi"),)
    assert request.options == {}
    assert request.fallbacks == {"temperature": 1.0}, "and top_p is the model's"
    assert (request.stream, request.think, request.format, request.truncate) == (False, None, None, False)
    assert request.warnings == ()


def test_what_reaches_the_model() -> None:
    """partly C-17, partly C-82"""
    request = asked(
        stream=True,
        temperature=0,
        top_p=0.5,
        max_output_tokens=9,
        reasoning={"effort": "minimal", "summary": "auto"},
        truncation="auto",
        options={"num_ctx": 512, "temperature": 0.3},
        keep_alive=0,
        think=False,
        include=["message.output_text.logprobs", "file_search_call.results"],
        top_logprobs=2,
    ).request
    assert request.options == {"num_ctx": 512, "temperature": 0.0, "top_p": 0.5, "num_predict": 9}
    assert (request.stream, request.think, request.truncate, request.keep_alive_ns) == (True, "low", True, 0)
    assert (request.logprobs, request.top_logprobs) == (True, 2)


@pytest.mark.parametrize("effort", ["low", "none"])
def test_efforts_can_be_wishes(effort: str) -> None:
    given = body(input="hi", reasoning={"effort": effort})
    assert reading.read(given, effort_fallback=True).request.is_thinking_optional
    assert not reading.read(given).request.is_thinking_optional


def test_think_counts_where_no_effort_is_said() -> None:
    assert asked(think=True).request.think is True
    assert asked(think=True, reasoning={"effort": "none"}).request.think is False


@pytest.mark.parametrize(
    ("format", "read"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "name": "n", "schema": {"type": "array"}}, {"type": "array"}),
    ],
)
def test_formats(format: Any, read: Any) -> None:
    """partly C-80"""
    assert asked(text={"format": format}).request.format == read


def test_instructions_are_a_text_or_items() -> None:
    """partly C-71"""
    assert asked(instructions="a").request.messages[0] == Message("system", "a")
    items = [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]
    assert asked(instructions=items).request.messages == (
        Message("system", "a"),
        Message("user", "b"),
        Message("user", "hi"),
    )


def test_instructions_alone_are_enough() -> None:
    assert asked(input=None, instructions="greet").request.messages == (Message("system", "greet"),)


def test_so_is_what_was_said_before() -> None:
    history = History(earlier=[{"role": "user", "content": "a"}])
    assert asked(history, input=None).request.messages == (Message("user", "a"),)


def test_everything_is_echoed() -> None:
    """partly C-82"""
    fields = {
        "instructions": "i",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f", "parameters": None}],
        "top_logprobs": 3,
        "top_p": 0.25,
        "truncation": "auto",
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
    }
    assert asked(**fields).echo == {**fields, "model": "m", "background": False}


def test_defaults_are_echoed() -> None:
    assert asked().echo == {
        "background": False,
        "frequency_penalty": 0,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "m",
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": None,
        "safety_identifier": None,
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
    }


@pytest.mark.parametrize(
    ("store", "can_keep", "keeps"), [(None, True, True), (True, True, True), (False, True, False), (True, False, False)]
)
def test_what_is_kept_is_said_truly(store: bool | None, can_keep: bool, keeps: bool) -> None:
    read = reading.read(body(input="hi", store=store), can_keep=can_keep)
    assert (read.keeps, read.echo["store"]) == (keeps, keeps)
    assert read.shows_thoughts is not keeps, "whoever keeps the conversation needs the thinking"
    assert bool(read.request.warnings) is (store is True and not can_keep)


def test_thoughts_are_shown_to_whoever_asks() -> None:
    assert asked(include=["reasoning.encrypted_content"]).shows_thoughts


def test_the_whole_conversation_is_kept() -> None:
    earlier = {"role": "user", "content": "a"}
    kept = asked(
        History(earlier=[earlier], referenced={"msg_1": earlier}), input=[{"type": "item_reference", "id": "msg_1"}]
    )
    assert kept.items == (earlier, earlier)
    assert asked(input="b").items == ({"type": "message", "role": "user", "content": "b"},)


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"zzz": 1}, "field 'zzz' is unknown and has no effect"),
        ({"n": 2}, "field 'n' is unknown and has no effect"),
        ({"max_tool_calls": 3}, "field 'max_tool_calls' has no effect"),
        ({"stream_options": {"include_obfuscation": False}}, "field 'stream_options' has no effect"),
        ({"text": {"verbosity": "low"}}, "field 'text.verbosity' has no effect"),
        ({"top_logprobs": 1}, "field 'top_logprobs' has no effect unless 'message.output_text.logprobs' is included"),
    ],
)
def test_what_has_no_effect_is_named(fields: dict[str, Any], warning: str) -> None:
    """partly C-03"""
    assert asked(**fields).request.warnings == (warning,)


def test_labels_and_null_are_no_news() -> None:
    labels = {"user": "u", "metadata": {}, "service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s"}
    nothing = {"zzz": None, "conversation": None, "prompt": None, "background": False, "stream": None, "store": None}
    assert asked(**labels, **nothing).request.warnings == ()


def test_the_model_comes_first() -> None:
    """partly C-07"""
    with pytest.raises(InvalidField, match="model is required") as caught:
        reading.read(body(model="", background=True))
    assert (caught.value.param, caught.value.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input"),
        ({"background": True, "store": False}, "background"),
        ({"background": True, "stream": True}, "stream"),
        ({"background": "yes"}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"instructions": 3}, "instructions"),
        ({"instructions": [{"foo": 1}]}, "instructions[0].type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"store": 1}, "store"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": "all"}, "include"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "animal"}}}}, "text.format.schema"),
        ({"text": 3}, "text"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"previous_response_id": 3}, "previous_response_id"),
        ({"think": "hard"}, "think"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    """partly C-84"""
    with pytest.raises(InvalidField) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_the_response_before() -> None:
    assert reading.previous_id(body(previous_response_id="resp_1")) == "resp_1"
    assert reading.previous_id(body()) is None

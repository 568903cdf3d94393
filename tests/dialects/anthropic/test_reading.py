"""compat-api §9.1, §9.3: the fields of a request for a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.anthropic.reading import Asked, read_messages
from llamero.errors import BadRequest, InvalidField
from llamero.messages import Message

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def read(**fields: Any) -> Asked:
    return read_messages(json.dumps({"model": "m", "max_tokens": 10, "messages": HELLO} | fields).encode())


def test_a_minimal_request() -> None:
    asked = read()
    assert asked.max_tokens == 10
    assert asked.display == "hidden"
    request = asked.request
    assert request.model == "m"
    assert request.messages == (Message("user", "hello"),)
    assert request.options == {"num_predict": 10}
    assert (request.stream, request.think, request.is_thinking_optional) == (False, False, True)
    assert (request.tools, request.tool_choice, request.parallel_tool_calls) == ((), None, None)
    assert (request.format, request.keep_alive_ns, request.warnings) == (None, None, ())


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({}, "model is required", "model"),
        ({"model": " ", "max_tokens": 1, "messages": HELLO}, "model is required", "model"),
        ({"model": "m"}, "max_tokens is required and must be positive", "max_tokens"),
        ({"model": "m", "max_tokens": 0}, "max_tokens is required and must be positive", "max_tokens"),
        (
            {"model": "m", "max_tokens": -1, "messages": HELLO},
            "max_tokens is required and must be positive",
            "max_tokens",
        ),
        ({"model": "m", "max_tokens": 1}, "messages is required", "messages"),
        ({"model": "m", "max_tokens": 1, "messages": []}, "messages is required", "messages"),
    ],
    ids=["nothing (partly C-86)", "blank model", "no limit", "no room", "negative", "no messages", "empty messages"],
)
def test_the_first_three_checks_in_their_order(body: dict[str, Any], message: str, param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_messages(json.dumps(body | {"system": 1}).encode())
    assert (str(caught.value), caught.value.param) == (message, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 1}, "model"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": True}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": ["END", 1]}, "stop_sequences[1]"),
        ({"output_config": []}, "output_config"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema", "schema": "x"}}, "output_format.schema"),
        ({"options": [1]}, "options"),
        ({"keep_alive": True}, "keep_alive"),
    ],
)
def test_a_wrong_type_is_refused_by_the_name_of_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    assert caught.value.param == param
    assert param.rpartition(".")[2].partition("[")[0] in str(caught.value) or "keep_alive" in param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"model": "m"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """partly C-04"""
    with pytest.raises(BadRequest):
        read_messages(body)


def test_sampling_is_set_only_where_it_is_given() -> None:
    """partly C-89"""
    request = read(temperature=1, top_p=0.5, top_k=3, stop_sequences=["X", "Y"]).request
    assert request.options == {"temperature": 1.0, "top_p": 0.5, "top_k": 3, "stop": ["X", "Y"], "num_predict": 10}
    assert request.fallbacks == {}


def test_an_empty_list_of_stop_texts_leaves_the_models_own() -> None:
    assert "stop" not in read(stop_sequences=[]).request.options


def test_native_settings_come_along_and_the_dialects_own_fields_win() -> None:
    """partly C-17"""
    request = read(options={"num_ctx": 512, "num_predict": 5, "top_k": 1}, keep_alive="1s", top_k=2).request
    assert request.options == {"num_ctx": 512, "num_predict": 10, "top_k": 2}
    assert request.keep_alive_ns == 1_000_000_000


def test_null_is_as_good_as_absent() -> None:
    """partly C-03"""
    names = (
        "system stream temperature top_p top_k stop_sequences tools tool_choice thinking output_config output_format"
    )
    assert read(**dict.fromkeys([*names.split(), "zzz", "container", "options", "think"])) == read()


def test_what_has_no_effect_is_named_and_labels_are_not() -> None:
    """partly C-03"""
    labels = {"metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}}
    assert read(**labels).request.warnings == ()
    assert read(zzz=1, speed="fast", container="c").request.warnings == (
        "field 'zzz' is unknown and has no effect",
        "field 'container' has no effect",
        "field 'speed' has no effect",
    )


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_schema_for_the_answer(place: str) -> None:
    """partly C-101"""
    format = {"type": "json_schema", "schema": SCHEMA}
    request = read(**{place: {"format": format} if place == "output_config" else format}).request
    assert request.format == SCHEMA


def test_todays_place_of_the_schema_wins_over_the_betas() -> None:
    old = {"type": "json_schema", "schema": {"type": "string"}}
    assert (
        read(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}, output_format=old).request.format
        == SCHEMA
    )


@pytest.mark.parametrize("stream", [True, False, None])
def test_a_stream_is_one_that_was_asked_for(stream: bool | None) -> None:
    assert read(stream=stream).request.stream is bool(stream)


def test_thinking_that_nobody_asked_for_is_not_shown() -> None:
    """partly C-95"""
    assert read().request.hides_thinking
    assert not read(thinking={"type": "enabled", "budget_tokens": 7}).request.hides_thinking
    assert read(thinking={"type": "enabled", "budget_tokens": 7}).request.max_thinking_tokens == 7


def test_a_server_can_let_models_think_by_default() -> None:
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": HELLO}).encode()
    asked = read_messages(body, thinks_by_default=True)
    assert (asked.request.think, asked.display) == (None, "shown")

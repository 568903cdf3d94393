"""Chat completions, read (compat-api §5.1 to §5.5)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from llamero import durations
from llamero.dialects.openai.chat import Chat, read_chat
from llamero.errors import BadRequest, InvalidField
from llamero.messages import Message, ToolCall

HELLO = [{"role": "user", "content": "hello"}]
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "x-kept": [1]}}}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(10)
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def read(messages: Any = HELLO, **fields: Any) -> Chat:
    return read_chat(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def refused(messages: Any = HELLO, **fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        read(messages, **fields)
    return str(caught.value), caught.value.param


# --- fields ---


def test_the_least_that_can_be_asked() -> None:
    """partly C-28"""
    chat = read()
    request = chat.request
    assert (request.model, request.messages, request.stream) == ("m", (Message("user", "hello"),), False)
    assert (request.options, request.fallbacks) == ({}, {"temperature": 1.0, "top_p": 1.0})
    assert (request.format, request.think, request.logprobs, request.tools) == (None, None, False, ())
    assert (chat.n, chat.include_usage, chat.is_legacy, request.warnings) == (1, False, False, ())


def test_null_is_like_absence() -> None:
    """partly C-03"""
    names = (
        "temperature top_p seed stop n max_tokens tools tool_choice response_format reasoning_effort logprobs stream "
        "stream_options logit_bias options keep_alive functions modalities top_k parallel_tool_calls metadata"
    )
    assert read(**dict.fromkeys(names.split())) == read()


@pytest.mark.parametrize(
    ("field", "value", "option", "expected"),
    [
        ("temperature", 0, "temperature", 0.0),
        ("top_p", 0.5, "top_p", 0.5),
        ("seed", 42, "seed", 42),
        ("max_tokens", 3, "num_predict", 3),
        ("max_tokens", -1, "num_predict", -1),
        ("max_completion_tokens", 4, "num_predict", 4),
        ("stop", "X", "stop", ["X"]),
        ("stop", ["X", "", "Y"], "stop", ["X", "Y"]),
        ("frequency_penalty", 0.1, "frequency_penalty", 0.1),
        ("presence_penalty", -0.1, "presence_penalty", -0.1),
        ("top_k", 5, "top_k", 5),
        ("min_p", 0.05, "min_p", 0.05),
        ("repeat_penalty", 1.1, "repeat_penalty", 1.1),
    ],
)
def test_options(field: str, value: Any, option: str, expected: Any) -> None:
    """partly C-27, C-29, C-30"""
    chat = read(**{field: value})
    assert chat.request.options == {option: expected}
    assert chat.request.warnings == ()


@pytest.mark.parametrize("stop", [[], "", [""]])
def test_no_stop_texts_leave_the_models_own(stop: Any) -> None:
    """Clients send an empty list with every request; a list in the options would take the place of the model's."""
    assert read(stop=stop).request.options == {}


def test_the_newer_name_for_the_length_wins() -> None:
    """partly C-27"""
    assert read(max_tokens=9, max_completion_tokens=3).request.options["num_predict"] == 3


def test_native_settings_come_along_and_yield_to_the_dialects_own() -> None:
    """partly C-17"""
    request = read(options={"num_ctx": 512, "seed": 1}, seed=2, keep_alive=0, think=True).request
    assert request.options == {"num_ctx": 512, "seed": 2}
    assert (request.keep_alive_ns, request.think) == (0, True)
    assert read(keep_alive="1m").request.keep_alive_ns == durations.MINUTE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("seed", 1.5),
        ("stop", ["X", 3]),
        ("stop", {}),
        ("max_tokens", 0),
        ("max_completion_tokens", 0),
        ("n", 0),
        ("n", 9),
        ("n", 1_000_000),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("logit_bias", {"cat": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", []),
        ("modalities", ["text", "audio"]),
        ("model", 3),
    ],
)
def test_values_that_cannot_be(field: str, value: Any) -> None:
    """partly C-49"""
    assert refused(**{field: value})[1] == field


@pytest.mark.parametrize("model", ["", "  ", None])
def test_a_model_is_required(model: Any) -> None:
    """partly C-07"""
    with pytest.raises(InvalidField) as caught:
        read(model=model)
    error = caught.value
    assert (str(error), error.param, error.code) == ("model is required", "model", "missing_required_parameter")


def test_biases_are_kept_within_their_bounds() -> None:
    """partly C-50"""
    assert read(logit_bias={"5": -100, "6": 2.5, "7": 1000}).request.logit_bias == {5: -100.0, 6: 2.5, 7: 100.0}


def test_logprobs() -> None:
    """partly C-48"""
    request = read(logprobs=True, top_logprobs=3).request
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert refused(logprobs=True, top_logprobs=21) == ("top_logprobs must be between 0 and 20", "top_logprobs")
    assert refused(top_logprobs=1)[1] == "top_logprobs"
    assert read(top_logprobs=0).request.logprobs is False


def test_usage_in_streams() -> None:
    assert read(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}).include_usage
    assert not read(stream=True, stream_options={}).include_usage


def test_fields_without_effect_are_told_and_labels_are_not() -> None:
    """partly C-03"""
    chat = read(zzz=1, verbosity="low", store=False, user="u", metadata={}, prompt_cache_key="k", service_tier="auto")
    assert chat.request.warnings == ("field 'zzz' is unknown and has no effect", "field 'verbosity' has no effect")
    assert read(store=True).request.warnings == ("field 'store' has no effect",)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null"])
def test_no_body(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_chat(body)


# --- messages ---


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "developer", "content": "x"}, Message("system", "x")),
        ({"role": "critic", "content": "x", "name": "n"}, Message("critic", "x")),
        ({"role": "User", "content": "x"}, Message("user", "x")),
        ({"role": "assistant", "content": "x", "reasoning": "r"}, Message("assistant", "x", "r")),
        ({"role": "assistant", "content": "x", "reasoning_content": "r"}, Message("assistant", "x", "r")),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "x"}], "reasoning": "r"},
            Message("assistant", "x", "r"),
        ),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, Message("assistant", "no")),
        ({"role": "user", "content": []}, Message("user")),
    ],
)
def test_messages(message: dict[str, Any], expected: Message) -> None:
    """partly C-35"""
    assert read([message]).request.messages == (expected,)


@pytest.mark.parametrize("url", [PNG_URI, {"url": PNG_URI, "detail": "low"}], ids=["bare", "object"])
def test_parts_are_one_message(url: Any) -> None:
    """partly C-32, C-33"""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": url}, {"type": "text", "text": "b"}]
    assert read([{"role": "user", "content": parts}]).request.messages == (Message("user", "a\nb", images=(PNG,)),)


def test_sounds_travel_with_the_pictures() -> None:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}}
    assert read([{"role": "user", "content": [part]}]).request.messages[0].images == (b"RIFF",)


def test_files_of_text_are_inlined() -> None:
    data = base64.b64encode("grün".encode()).decode()
    part = {"type": "file", "file": {"file_data": f"data:text/plain;charset=utf-8;base64,{data}", "filename": "a.txt"}}
    assert read([{"role": "user", "content": [part]}]).request.messages[0].content == "grün"


def test_remote_pictures_come_from_whoever_fetched_them() -> None:
    """partly C-34"""
    part = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    assert read_chat(body, fetched={"https://a/b.png": PNG}).request.messages[0].images == (PNG,)
    with pytest.raises(InvalidField, match="image URLs are not currently supported") as caught:
        read_chat(body)
    assert caught.value.param == "messages[0].content[0].image_url"


@pytest.mark.parametrize(
    ("content", "message", "below"),
    [
        (None, "invalid message content type", ".content"),
        (2, "invalid message content type", ".content"),
        ({}, "invalid message content type", ".content"),
        (["x"], "must be an object", ".content[0]"),
        ([{"type": "text"}], "invalid message format", ".content[0].text"),
        ([{"type": "text", "text": 1}], "invalid message format", ".content[0].text"),
        ([{"type": "video"}], "invalid message format", ".content[0].type"),
        ([{}], "invalid message format", ".content[0].type"),
        ([{"type": "image_url"}], "invalid message format", ".content[0].image_url"),
        ([{"type": "image_url", "image_url": {}}], "invalid message format", ".content[0].image_url"),
        (
            [{"type": "image_url", "image_url": "data:image/tiff;base64,AA=="}],
            "invalid image input",
            ".content[0].image_url",
        ),
        ([{"type": "input_audio", "input_audio": 1}], "invalid input_audio format", ".content[0].input_audio"),
        (
            [{"type": "input_audio", "input_audio": {}}],
            "invalid input_audio format: missing data",
            ".content[0].input_audio",
        ),
        (
            [{"type": "input_audio", "input_audio": {"data": "!"}}],
            "invalid input_audio base64 data: ",
            ".content[0].input_audio",
        ),
        ([{"type": "file"}], "invalid message format", ".content[0].file"),
        ([{"type": "file", "file": {"file_id": "f"}}], "not by id", ".content[0].file"),
        (
            [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}],
            "'application/pdf'",
            ".content[0].file.file_data",
        ),
        (
            [{"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}],
            "UTF-8",
            ".content[0].file.file_data",
        ),
        ([{"type": "file", "file": {"file_data": "hello"}}], "data URI", ".content[0].file.file_data"),
    ],
)
def test_content_that_cannot_be(content: Any, message: str, below: str) -> None:
    """partly C-31, C-33"""
    said, param = refused([*HELLO, {"role": "user", "content": content}])
    assert message in said
    assert param == f"messages[1]{below}"


@pytest.mark.parametrize("messages", [[], None])
def test_messages_are_required(messages: Any) -> None:
    """partly C-31"""
    assert refused(messages) == ("[] is too short - 'messages'", "messages")


def test_a_message_has_a_role() -> None:
    assert refused([{"content": "x"}])[1] == "messages[0].role"


def test_too_many_messages() -> None:
    assert refused(HELLO * 10_001) == ("messages: at most 10000 items are accepted", "messages")


# --- tools ---


def call(id_: str, name: str, arguments: Any = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_tool_result_is_named_after_its_call() -> None:
    """partly C-39, C-41"""
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call("1", "add", '{"b":1,"a":2}'), call("2", "sub")]},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "3"}]},
        {"role": "tool", "tool_call_id": "1", "content": "4", "name": "plus"},
        {"role": "tool", "tool_call_id": "9", "content": "5"},
        {"role": "tool", "tool_call_id": "late", "content": "6"},
        {"role": "assistant", "tool_calls": [call("late", "mul"), call("late", "div")]},
    ]
    read_back = read(messages).request.messages
    assert read_back[0].tool_calls == (ToolCall("add", {"b": 1, "a": 2}, "1", 0), ToolCall("sub", {}, "2", 1))
    assert list(read_back[0].tool_calls[0].arguments) == ["b", "a"]
    assert read_back[1:5] == (
        Message("tool", "3", tool_name="sub", tool_call_id="2"),
        Message("tool", "4", tool_name="plus", tool_call_id="1"),
        Message("tool", "5", tool_call_id="9"),
        Message("tool", "6", tool_name="div", tool_call_id="late"),
    )


@pytest.mark.parametrize("arguments", ["", " \n", "null"])
def test_no_arguments_are_none(arguments: str) -> None:
    """partly C-40"""
    message = {"role": "assistant", "content": None, "tool_calls": [call("1", "add", arguments)]}
    assert read([message]).request.messages[0].tool_calls[0].arguments == {}


@pytest.mark.parametrize("arguments", ["not json", "[]", "{", "3", {"a": 1}, None, "[" * 100_000])
def test_arguments_are_the_text_of_an_object(arguments: Any) -> None:
    """partly C-40"""
    message = {"role": "assistant", "content": None, "tool_calls": [call("1", "add", arguments)]}
    path = "messages[0].tool_calls[0].function.arguments"
    assert refused([message]) == ("invalid tool call arguments", path)


def test_tools_are_kept_whole() -> None:
    request = read(tools=[ADD], tool_choice="required", parallel_tool_calls=False).request
    assert request.tools == (ADD,)
    assert (request.tool_choice, request.parallel_tool_calls) == ("required", False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [ADD, {"type": "custom", "custom": {"name": "x"}}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [ADD] * 513}, "tools"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "add"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"tools": [ADD], "functions": [ADD["function"]]}, "functions"),
        ({"functions": [ADD["function"]], "function_call": {"name": "sub"}}, "function_call"),
    ],
)
def test_tools_that_cannot_be(fields: dict[str, Any], param: str) -> None:
    """partly C-43"""
    assert refused(**fields)[1] == param


def test_functions_are_tools_in_older_words() -> None:
    messages = [
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
        {"role": "function", "name": "add", "content": "3"},
    ]
    chat = read(messages, functions=[ADD["function"]], function_call={"name": "add"})
    assert chat.is_legacy
    assert chat.request.tools == (ADD,)
    assert chat.request.tool_choice == {"type": "function", "function": {"name": "add"}}
    assert chat.request.parallel_tool_calls is False
    assert chat.request.messages == (
        Message("assistant", tool_calls=(ToolCall("add", {}),)),
        Message("tool", "3", tool_name="add"),
    )
    assert read(functions=[ADD["function"]], function_call="none").request.tool_choice == "none"


# --- the form of the answer ---

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": " JSON_Object "}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_formats(given: Any, expected: Any) -> None:
    """partly C-36"""
    assert read(response_format=given).request.format == expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"type": "yaml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "n"}},
        {"type": "json_schema", "json_schema": {"schema": "object"}},
        {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nowhere"}}},
        "json",
    ],
)
def test_formats_that_cannot_be(given: Any) -> None:
    """partly C-37"""
    assert refused(response_format=given)[1] == "response_format"


# --- effort ---


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        ("", None),
        ("none", False),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "max"),
        ("ultra", "max"),
        ("max", "max"),
    ],
)
def test_efforts(effort: str, think: Any) -> None:
    """partly C-46"""
    assert read(reasoning_effort=effort).request.think == think
    assert read(reasoning={"effort": effort}, reasoning_effort="extreme").request.think == think


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"reasoning_effort": "extreme"}, "reasoning_effort"), ({"reasoning": {"effort": "extreme"}}, "reasoning.effort")],
)
def test_other_efforts_do_not_exist(fields: dict[str, Any], param: str) -> None:
    """partly C-46"""
    assert refused(**fields) == (
        'invalid reasoning value: "extreme" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", '
        'or "none")',
        param,
    )


def test_an_effort_may_be_made_a_mere_wish() -> None:
    """partly C-47"""
    body = json.dumps({"model": "m", "messages": HELLO, "reasoning_effort": "high"}).encode()
    assert read_chat(body).request.is_thinking_optional is False
    assert read_chat(body, effort_fallback=True).request.is_thinking_optional is True


def test_an_effort_wins_over_the_native_field() -> None:
    assert read(reasoning_effort="low", think=False).request.think == "low"
    assert read(reasoning_effort="", think=False).request.think is False

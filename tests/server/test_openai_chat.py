"""Chat completions (compat-api §5), of a small real model, of models that say one thing, and of a scripted engine."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.running import Reply, Server
from tests.server.go_models import OPENED, TAGGED, Models, function
from tests.server.puppet import ABLE, CHAT, COMPLETION, LEVELS, SEER, Puppet, call, delta, end, frames
from tests.server.tiny_models import EYES, TEXT, make, picture

S = "smollm2:135m"
HI = [{"role": "user", "content": "Hi"}]
CALM = {"temperature": 0, "seed": 1}
WEATHER = function("get_weather", city={"type": "string"})
TIME = function("get_time", zone={"type": "string"})
PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
BERLIN = '<tool_call>\n{"name": "get_time", "arguments": {"zone": "Berlin"}}\n</tool_call>'


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("models"))


def post(server: Server, model: str = S, messages: Any = HI, **body: Any) -> Reply:
    return server.post(CHAT, {"model": model, "messages": messages, **body})


def answer(server: Server, model: str = S, messages: Any = HI, **body: Any) -> dict[str, Any]:
    reply = post(server, model, messages, **body)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def choice(server: Server, model: str = S, messages: Any = HI, **body: Any) -> dict[str, Any]:
    (only,) = answer(server, model, messages, **body)["choices"]
    return dict(only)


def chunks(server: Server, model: str = S, messages: Any = HI, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, of which all must agree about what they belong to."""
    reply = post(server, model, messages, **body, stream=True)
    assert reply.status == 200, reply.body
    *read, done = frames(reply.body)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in read} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in read} == {model}
    for name in ("id", "created", "system_fingerprint"):
        assert len({chunk[name] for chunk in read}) == 1
    return read


def deltas(read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in read if chunk["choices"]]


def refused(server: Server, model: str = S, messages: Any = HI, **body: Any) -> tuple[str, str | None]:
    """The message and the field of a refusal."""
    reply = post(server, model, messages, **body)
    assert reply.status == 400, reply.body
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"]


# --- whole replies ---------------------------------------------------------------------------------------------------


def test_c24_the_least_that_can_be_asked(puppet: Puppet) -> None:
    whole = answer(puppet.server, ABLE)
    assert (whole["object"], whole["model"], whole["service_tier"]) == ("chat.completion", ABLE, "default")
    assert whole["id"].startswith("chatcmpl-")
    assert whole["system_fingerprint"].startswith("fp_")
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_c25_what_it_cost(server: Server) -> None:
    long = [{"role": "user", "content": "Count: " + " ".join(map(str, range(100)))}]
    first, again = (answer(server, messages=long, max_tokens=2, temperature=0)["usage"] for _ in range(2))
    for usage in (first, again):
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens"] > 200
        assert usage["completion_tokens"] == 2
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert 200 < again["prompt_tokens_details"]["cached_tokens"] < again["prompt_tokens"]


def test_tokens_of_thinking_are_counted_among_the_others(models: Models) -> None:
    """C-25, where there is something to count."""
    thinker = models.saying("One and two and three.\n</think>\n\nFour.", OPENED)
    usage = answer(models.server, thinker, temperature=0)["usage"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]


def test_c26_no_two_replies_have_the_same_id(puppet: Puppet) -> None:
    assert len({answer(puppet.server, ABLE)["id"] for _ in range(200)}) == 200


def test_c27_how_long_an_answer_may_get(server: Server) -> None:
    for limits in ({"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 9}):
        whole = answer(server, **limits, **CALM)
        assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("length", 3)
    assert refused(server, max_tokens=0)[1] == "max_tokens"


def test_c28_a_seed_at_temperature_0_gives_one_text(server: Server) -> None:
    """C-28, its first part."""
    first, again = (choice(server, max_tokens=8, **CALM)["message"]["content"] for _ in range(2))
    assert first == again


def test_c28_defaults_are_openais_where_the_model_has_none(puppet: Puppet) -> None:
    """C-28, the rest: `temperature` and `top_p` as the engine hears them."""
    make(puppet.server, "cool", from_=ABLE, parameters={"temperature": 0.1})
    answer(puppet.server, ABLE)
    answer(puppet.server, "cool")
    answer(puppet.server, "cool", temperature=0.5, top_p=0.25)
    heard = [(body["temperature"], body["top_p"]) for body in puppet.heard()]
    assert heard == [(1.0, 1.0), (pytest.approx(0.1), 1.0), (0.5, 0.25)]


@pytest.mark.parametrize("stop", ["three", ["nowhere", "three"], ["three", ""]])
def test_c29_stop_strings(models: Models, stop: Any) -> None:
    counter = models.saying("one two three four", TAGGED)
    told = choice(models.server, counter, stop=stop, temperature=0)
    assert (told["message"]["content"], told["finish_reason"]) == ("one two ", "stop")
    read = chunks(models.server, counter, stop=stop, temperature=0)
    assert "".join(delta.get("content", "") for delta in deltas(read)) == "one two "
    assert refused(models.server, stop=["three", 4])[1] == "stop"


def test_c30_how_the_next_token_is_chosen(puppet: Puppet) -> None:
    """C-30, and the aliases that many clients send at the top."""
    given = {"frequency_penalty": 0.5, "presence_penalty": -0.5, "top_k": 7, "min_p": 0.125, "repeat_penalty": 1.5}
    answer(puppet.server, ABLE, seed=-1)
    answer(puppet.server, ABLE, **given, seed=3)
    without, with_ = puppet.heard()
    assert {name: with_[name] for name in given} == given
    assert with_["seed"] == 3
    neutral = {"frequency_penalty": 0, "presence_penalty": 0, "top_k": 40, "min_p": 0, "repeat_penalty": 1}
    assert {name: without[name] for name in given} == neutral, "as if nobody had said anything"


def test_dialect_fields_win_over_options(puppet: Puppet) -> None:
    answer(puppet.server, ABLE, temperature=0.5, options={"temperature": 0.25, "top_p": 0.75})
    (body,) = puppet.heard()
    assert (body["temperature"], body["top_p"]) == (0.5, 0.75)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("n", 0),
        ("n", 9),
        ("top_logprobs", 21),
        ("top_logprobs", 1),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"99999999": 1}),
        ("modalities", ["text", "audio"]),
        ("stream_options", {"include_usage": True}),
        ("options", {"num_ctx": "x"}),
        ("stream", "yes"),
        ("max_tokens", 1.5),
        ("messages", "Hi"),
    ],
)
def test_fields_that_cannot_be_are_named(server: Server, field: str, value: Any) -> None:
    message, param = refused(server, **({} if field == "messages" else {field: value}), **(
        {"messages": value} if field == "messages" else {}
    ))  # fmt: skip
    assert message
    assert param == field


@pytest.mark.parametrize(
    "labels",
    [
        {"user": "me", "safety_identifier": "x", "prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        {"metadata": {"a": "b"}, "service_tier": "auto", "store": False},
    ],
)
def test_labels_are_no_news(puppet: Puppet, labels: dict[str, Any]) -> None:
    reply = post(puppet.server, ABLE, **labels)
    assert (reply.status, reply.headers["Llamero-Warning"]) == (200, None)


@pytest.mark.parametrize("field", ["prediction", "verbosity", "web_search_options", "moderation", "audio"])
def test_what_has_no_effect_is_said(puppet: Puppet, field: str) -> None:
    reply = post(puppet.server, ABLE, **{field: {"a": 1}})
    assert reply.status == 200
    assert repr(field) in reply.headers["Llamero-Warning"]


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "said", "param"),
    [
        ([], "[] is too short - 'messages'", "messages"),
        (None, "[] is too short - 'messages'", "messages"),
        ([{"role": "user", "content": 2}], "invalid message content type", "messages[0].content"),
        ([{"role": "user", "content": None}], "invalid message content type", "messages[0].content"),
        ([{"role": "user"}], "invalid message content type", "messages[0].content"),
        ([{"role": "user", "content": [{"type": "nope"}]}], "invalid message format", "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "invalid message format", "messages[0].content[0].text"),
    ],
)  # fmt: skip
def test_c31_messages_that_are_none(server: Server, messages: Any, said: str, param: str) -> None:
    message, field = refused(server, messages=messages)
    assert message.startswith(said)
    assert field == param


PNG = picture()
URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def see(*urls: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url} for url in urls]}]


def test_c32_parts_of_a_message_stay_one_message(puppet: Puppet) -> None:
    parts = [
        {"type": "text", "text": "first"},
        {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
        {"type": "text", "text": "second"},
    ]
    answer(puppet.server, SEER, [{"role": "user", "content": parts}])
    (body,) = puppet.heard()
    (message,) = body["messages"]
    (text,) = [part["text"] for part in message["content"] if part["type"] == "text"]
    assert text == "first\nsecond"
    assert [part["type"] for part in message["content"]].count("image_url") == 1


def test_c33_pictures_in_every_form(puppet: Puppet) -> None:
    data = base64.b64encode(PNG).decode()
    forms = [URI, {"url": URI}, f"data:;base64,{data}", f"DATA:Image/PNG;name=x;base64,{data.rstrip('=')}"]
    answer(puppet.server, SEER, see(*forms))
    (body,) = puppet.heard()
    sent = [part["image_url"]["url"] for part in body["messages"][0]["content"]]
    assert len(sent) == 4
    assert len(set(sent)) == 1
    for url in (
        f"data:image/tiff;base64,{data}",
        "data:image/png;base64,!",
        "file:///etc/passwd",
        "ftp://a/b.png",
        "x",
    ):
        message, param = refused(puppet.server, SEER, see(url))
        assert (message, param) == ("invalid image input", "messages[0].content[0].image_url")


def test_c34_pictures_elsewhere_are_not_fetched(server: Server, tiny_eyes: str) -> None:
    """Partly C-34: as long as nobody allows it."""
    for url in ("https://example.com/a.png", "http://127.0.0.1/a.png", "HTTPS://EXAMPLE.COM/"):
        message, _ = refused(server, tiny_eyes, see(url))
        assert message == "image URLs are not currently supported, please use base64 encoded data instead"


def test_c34_nothing_of_this_network_is_ever_fetched(start_server: StartServer) -> None:
    """C-34, where it is allowed: no connection is made. What can be fetched is in `tests/test_pictures.py`."""
    server = start_server(LLAMERO_FETCH_IMAGES="1")
    make(server, "seer", [TEXT, EYES])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{port}/a.png"
            message, param = refused(server, "seer", see(URI, url))
            assert message == "the image cannot be fetched: its host is not on the public internet"
            assert param == "messages[0].content[1].image_url"
            anthropic = {"type": "image", "source": {"type": "url", "url": url}}
            for path, body in (
                ("/v1/messages", {"messages": [{"role": "user", "content": [anthropic]}], "max_tokens": 1}),
                (
                    "/v1/responses",
                    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
                ),
            ):
                reply = server.post(path, {"model": "seer", **body})
                assert (reply.status, reply.json()["error"]["message"]) == (400, message)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_pictures_for_a_model_without_eyes(server: Server) -> None:
    assert refused(server, messages=see(URI)) == (f'"{S}" does not support image input', "messages")


def test_a_real_model_sees(server: Server, tiny_eyes: str) -> None:
    blind = answer(server, tiny_eyes, HI, max_tokens=1)["usage"]["prompt_tokens"]
    assert answer(server, tiny_eyes, see(URI), max_tokens=1)["usage"]["prompt_tokens"] > blind + 4


def test_c35_developers_speak_for_the_system(puppet: Puppet) -> None:
    answer(puppet.server, ABLE, [{"role": "developer", "content": "Be kind."}, *HI])
    assert puppet.heard()[-1]["messages"][0] == {"role": "system", "content": "Be kind."}


def test_an_answer_that_has_begun_is_gone_on_with(models: Models) -> None:
    """§5.2: a trailing assistant message; only what comes behind it is the answer."""
    template = "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ end }}"
    poet = models.saying("one two three", template, behind={"#": "four five"})
    begun = [*HI, {"role": "assistant", "content": "one two three #"}]
    assert choice(models.server, poet, begun, temperature=0)["message"]["content"] == "four five"


def test_a_prompt_that_cannot_fit(server: Server) -> None:
    """§2.3: by its code, in the words of §14."""
    reply = post(server, messages=[{"role": "user", "content": "word " * 900}], options={"num_ctx": 512})
    error = reply.json()["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert error["message"] == (
        "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
        "the context length in settings, or use a model with a longer context length"
    )


def test_a_conversation_that_is_shortened_is_told(server: Server) -> None:
    turns = [{"role": role, "content": "word " * 60} for role in ("user", "assistant") * 2]
    reply = post(server, messages=[*turns, *HI], max_tokens=1, options={"num_ctx": 128})
    assert reply.status == 200
    assert "oldest messages left out" in reply.headers["Llamero-Warning"]


# --- structured output -----------------------------------------------------------------------------------------------

ANIMAL = {
    "type": "object",
    "properties": {"legs": {"type": "integer", "minimum": 2, "maximum": 8}, "furry": {"type": "boolean"}},
    "required": ["legs", "furry"],
    "additionalProperties": False,
}


def test_c36_answers_in_a_form(server: Server) -> None:
    """Partly C-36: the client's `parse` is in `tests/clients`."""
    ask = [{"role": "user", "content": 'Say only this: {"name": "Tom"}'}]
    told = choice(server, messages=ask, response_format={"type": "json_object"}, max_tokens=200, **CALM)
    assert isinstance(json.loads(told["message"]["content"]), dict)
    form = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": ANIMAL}}
    animal = json.loads(choice(server, response_format=form, max_tokens=200)["message"]["content"])
    assert sorted(animal) == ["furry", "legs"]
    assert 2 <= animal["legs"] <= 8
    free = choice(server, response_format={"type": " Text "}, max_tokens=3, **CALM)
    assert free["message"]["content"]


@pytest.mark.parametrize(
    "form",
    [
        {"type": "xml"},
        {},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nowhere"}}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "integer", "minimum": 3, "maximum": 2}}},
    ],
)
def test_c37_forms_that_cannot_be(server: Server, form: Any) -> None:
    assert refused(server, response_format=form)[1] == "response_format"


# --- tools -----------------------------------------------------------------------------------------------------------


def test_c38_a_call(models: Models) -> None:
    for script, content in ((PARIS, None), ("Let me see. " + PARIS, "Let me see.")):
        told = choice(models.server, models.saying(script), tools=[WEATHER], temperature=0)
        (made,) = told["message"]["tool_calls"]
        assert told["finish_reason"] == "tool_calls"
        assert (told["message"]["content"] or "").strip() == (content or "")
        assert told["message"]["content"] is not None or content is None
        assert sorted(made) == ["function", "id", "type"]
        assert made["id"]
        assert (made["type"], made["function"]["name"]) == ("function", "get_weather")
        assert json.loads(made["function"]["arguments"]) == {"city": "Paris"}


def history(arguments: str, content: Any = "rain", **result: Any) -> list[dict[str, Any]]:
    made = {"id": "call_9", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call_9", "content": content, **result},
    ]


@pytest.mark.parametrize(
    "content",
    [pytest.param("rain", id="C-39"), pytest.param([{"type": "text", "text": "rain"}], id="C-41")],
)
def test_calls_and_their_results_go_back(puppet: Puppet, content: Any) -> None:
    """C-39, C-41: with the id, and the name that the history has for it."""
    answer(puppet.server, ABLE, history('{"city": "Paris"}', content), tools=[WEATHER])
    _, made, result = puppet.heard()[-1]["messages"]
    assert made["tool_calls"][0]["id"] == "call_9"
    assert json.loads(made["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert result == {"role": "tool", "content": "rain", "name": "get_weather", "tool_call_id": "call_9"}


def test_c40_arguments_are_json(puppet: Puppet) -> None:
    for text in ("not json", "[1]", "{"):
        message, param = refused(puppet.server, ABLE, history(text), tools=[WEATHER])
        assert message == "invalid tool call arguments"
        assert param == "messages[1].tool_calls[0].function.arguments"
    answer(puppet.server, ABLE, history("  "), tools=[WEATHER])
    assert json.loads(puppet.heard()[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {}


def test_c42_tools_for_a_model_without_hands(server: Server) -> None:
    message, param = refused(server, tools=[WEATHER])
    assert message.endswith("does not support tools")
    assert param == "tools"


@pytest.fixture(scope="module")
def handy(models: Models) -> str:
    """The small real model, with a template that knows tools."""
    return models.smollm(TAGGED)


def names(told: dict[str, Any]) -> list[str]:
    return [made["function"]["name"] for made in told["message"].get("tool_calls", ())]


@pytest.mark.parametrize(
    ("choose", "allowed"),
    [
        ("required", {"get_weather", "get_time"}),
        ({"type": "function", "function": {"name": "get_time"}}, {"get_time"}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}},
            {"get_time"},
        ),
    ],
    ids=["required", "named", "allowed"],
)
def test_c43_calls_that_must_come(server: Server, handy: str, choose: Any, allowed: set[str]) -> None:
    """C-43: the model itself would rather talk."""
    for messages in (HI, [{"role": "user", "content": "Tell me a story."}]):
        told = choice(server, handy, messages, tools=[WEATHER, TIME], tool_choice=choose, max_tokens=300, **CALM)
        assert names(told)
        assert set(names(told)) <= allowed


def test_c43_calls_that_must_not_come(models: Models) -> None:
    """C-43: text that looks like a call is text, and the tools are not shown."""
    caller = models.saying(PARIS)
    told = choice(models.server, caller, tools=[WEATHER], tool_choice="none", temperature=0)
    assert names(told) == []
    with_, without = (
        answer(models.server, caller, tools=[WEATHER], tool_choice=choose, max_tokens=1)["usage"]["prompt_tokens"]
        for choose in ("auto", "none")
    )
    assert without < with_


@pytest.mark.parametrize(
    "choose",
    [
        {"type": "function", "function": {"name": "nobody"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("nobody")]}},
        "sometimes",
        {"type": "custom"},
    ],
)
def test_c43_choices_that_cannot_be(server: Server, handy: str, choose: Any) -> None:
    assert refused(server, handy, tools=[WEATHER], tool_choice=choose)[1] == "tool_choice"
    assert refused(server, handy, tool_choice="required")[1] == "tool_choice"


def test_c44_one_call_at_most(models: Models) -> None:
    clerk = models.saying(PARIS + "\n" + BERLIN)
    both = choice(models.server, clerk, tools=[WEATHER, TIME], temperature=0)
    assert names(both) == ["get_weather", "get_time"]
    one = choice(models.server, clerk, tools=[WEATHER, TIME], parallel_tool_calls=False, temperature=0)
    assert names(one) == ["get_weather"]


def test_tools_of_another_kind(server: Server, handy: str) -> None:
    assert refused(server, handy, tools=[{"type": "custom", "custom": {"name": "x"}}])[1] == "tools[0].type"


def test_functions_as_they_once_were_called(models: Models) -> None:
    told = choice(models.server, models.saying(PARIS), functions=[WEATHER["function"]], temperature=0)
    assert told["finish_reason"] == "function_call"
    assert told["message"]["function_call"]["name"] == "get_weather"
    assert "tool_calls" not in told["message"]


# --- thinking --------------------------------------------------------------------------------------------------------


def test_c45_thinking_is_apart(models: Models) -> None:
    thinker = models.saying("Hm, well.\n</think>\n\nFour.", OPENED, behind={"#": "Five."})
    thought = choice(models.server, thinker, temperature=0)["message"]
    assert (thought["reasoning"].strip(), thought["content"]) == ("Hm, well.", "Four.")
    plain = choice(models.server, thinker, reasoning_effort="none", temperature=0)["message"]
    assert plain == {"role": "assistant", "content": "Five.", "refusal": None}


@pytest.mark.parametrize(
    ("effort", "told"),
    [
        ("minimal", "true low"),
        ("low", "true low"),
        ("medium", "true medium"),
        ("high", "true high"),
        ("xhigh", "true max"),
        ("ultra", "true max"),
        ("max", "true max"),
        ("none", "false "),
        ("", "true medium"),
        (None, "true medium"),
    ],
)
def test_c46_efforts(puppet: Puppet, effort: str | None, told: str) -> None:
    answer(puppet.server, LEVELS, reasoning_effort=effort)
    answer(puppet.server, LEVELS, reasoning={"effort": effort}, reasoning_effort="high")
    assert [body["prompt"] for body in puppet.heard(COMPLETION)] == [f"Hi|{told}|"] * 2


def test_c46_an_effort_that_nobody_knows(server: Server) -> None:
    said = (
        'invalid reasoning value: "extreme" '
        '(must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")'
    )
    assert refused(server, reasoning_effort="extreme") == (said, "reasoning_effort")
    assert refused(server, reasoning={"effort": "extreme"}) == (said, "reasoning.effort")


def test_c47_an_effort_for_a_model_that_does_not_think(server: Server) -> None:
    assert refused(server, reasoning_effort="high") == (f'"{S}" does not support thinking', "reasoning_effort")
    assert post(server, reasoning_effort="none", max_tokens=1).status == 200


def test_an_effort_may_be_a_wish(start_server: StartServer) -> None:
    """§5.5: `LLAMERO_EFFORT_FALLBACK=1` makes a warning of the refusal."""
    server = start_server(LLAMERO_EFFORT_FALLBACK="1")
    reply = post(server, reasoning_effort="high", max_tokens=1)
    assert reply.status == 200
    assert "does not support thinking" in reply.headers["Llamero-Warning"]


# --- several answers, log-probabilities, biases ----------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_c48_log_probabilities(server: Server, streamed: bool) -> None:
    asked = {"logprobs": True, "top_logprobs": 3, "max_tokens": 6, **CALM}
    if streamed:
        found = [each for chunk in chunks(server, **asked) for each in chunk["choices"]]
        entries = [entry for each in found if each["logprobs"] for entry in each["logprobs"]["content"]]
        text = "".join(each["delta"].get("content", "") for each in found)
    else:
        told = choice(server, **asked)
        assert told["logprobs"]["refusal"] is None
        entries, text = told["logprobs"]["content"], told["message"]["content"]
    assert len(entries) == 6
    assert "".join(entry["token"] for entry in entries) == text
    for entry in entries:
        assert sorted(entry) == ["bytes", "logprob", "token", "top_logprobs"]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        likely = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(likely) == 3
        assert likely == sorted(likely, reverse=True)
        assert entry["logprob"] == likely[0] <= 0
    (bare,) = choice(server, logprobs=True, max_tokens=1)["logprobs"]["content"]
    assert bare["top_logprobs"] == []
    assert refused(server, logprobs=True, top_logprobs=21)[0] == "top_logprobs must be between 0 and 20"
    assert refused(server, top_logprobs=2)[1] == "top_logprobs"


def test_c49_several_answers(server: Server) -> None:
    """C-49. Greedy: beside others the last bits differ, and with them what a seed draws. The seeds are tested below."""
    whole = answer(server, n=3, max_tokens=4, temperature=0)
    assert [each["index"] for each in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens"] == 12
    one = answer(server, max_tokens=4, temperature=0)
    assert whole["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert whole["choices"][1]["message"] == one["choices"][0]["message"]
    read = chunks(server, n=3, max_tokens=4, temperature=0)
    texts = ["", "", ""]
    for chunk in read:
        for each in chunk["choices"]:
            texts[each["index"]] += each["delta"].get("content", "")
    assert texts == [each["message"]["content"] for each in whole["choices"]]
    assert refused(server, n=0)[1] == refused(server, n=9)[1] == "n"


def test_answers_to_a_seed_of_the_models_own_differ_too(puppet: Puppet) -> None:
    make(puppet.server, "seeded", from_=ABLE, parameters={"seed": 40})
    answer(puppet.server, "seeded", n=3)
    assert sorted(body["seed"] for body in puppet.heard()) == [40, 41, 42]
    puppet.forget()
    answer(puppet.server, ABLE, n=2)
    assert [body["seed"] for body in puppet.heard()] == [-1, -1]


def test_one_request_never_fills_the_engine_for_all_others(puppet: Puppet) -> None:
    """A hundred prompts wait for one another, not in the queue that everybody shares."""
    prompts = [f"prompt {number}" for number in range(100)]
    reply = puppet.server.post("/v1/completions", {"model": LEVELS, "prompt": prompts})
    assert [each["index"] for each in reply.json()["choices"]] == list(range(100))
    assert sorted(body["prompt"] for body in puppet.heard(COMPLETION)) == sorted(f"{p}|true medium|" for p in prompts)


def test_c50_a_bias_suppresses_a_token(models: Models) -> None:
    parrot = models.saying("first words")
    begins = choice(models.server, parrot, temperature=0, max_tokens=2)["message"]["content"]
    assert begins.startswith("firs")
    first_piece = 3 + 256 + 1  # ids: unknown, begin, end; a token for each byte; the blank; the script
    bias = {str(first_piece): -100}
    biased = choice(models.server, parrot, temperature=0, max_tokens=2, logit_bias=bias)["message"]["content"]
    assert not biased.startswith("firs")


# --- streams ---------------------------------------------------------------------------------------------------------


def test_c51_c53_a_stream(server: Server) -> None:
    """C-51, C-53."""
    read = chunks(server, max_tokens=5, **CALM)
    first, *middle, last = (chunk["choices"][0] for chunk in read)
    assert first["delta"]["role"] == "assistant"
    assert not any("role" in each["delta"] for each in (*middle, last))
    assert all(each["finish_reason"] is None for each in (first, *middle))
    assert (last["delta"], last["finish_reason"]) == ({}, "length")


def test_c52_a_stream_says_what_a_whole_reply_says(server: Server) -> None:
    read = chunks(server, max_tokens=12, **CALM)
    whole = choice(server, max_tokens=12, **CALM)["message"]["content"]
    assert "".join(delta.get("content", "") for delta in deltas(read)) == whole


def test_c54_what_a_stream_cost(server: Server) -> None:
    *told, last = chunks(server, max_tokens=2, stream_options={"include_usage": True}, **CALM)
    assert all(chunk["usage"] is None for chunk in told)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert not any("usage" in chunk for chunk in chunks(server, max_tokens=2))
    obfuscated = {"include_usage": False, "include_obfuscation": False}
    assert not any("usage" in chunk for chunk in chunks(server, max_tokens=2, stream_options=obfuscated))


def test_c55_an_empty_answer(puppet: Puppet) -> None:
    puppet.plays(end())
    assert deltas(chunks(puppet.server, ABLE)) == [{"role": "assistant", "content": ""}, {}]
    assert choice(puppet.server, ABLE)["message"]["content"] == ""


def test_c56_thinking_and_text_in_one_event(puppet: Puppet) -> None:
    puppet.plays(delta(reasoning_content="hm", content="so"), end())
    thought, said, finish = deltas(chunks(puppet.server, ABLE))
    assert thought == {"role": "assistant", "reasoning": "hm"}
    assert (said, finish) == ({"content": "so"}, {})


def test_c57_calls_of_a_stream(puppet: Puppet) -> None:
    """Partly C-57: what the client's `stream` makes of it is in `tests/clients`."""
    long = json.dumps({"city": "Llanfair" * 40})
    puppet.plays(call(0, long, name="f", id="a"), call(1, "{}", name="g", id="b"), end("tool_calls"))
    *read, finish = chunks(puppet.server, ABLE, tools=[function("f"), function("g")])
    pieces = [piece for each in deltas(read) for piece in each["tool_calls"]]
    by_index = {index: [piece for piece in pieces if piece["index"] == index] for index in (0, 1)}
    assert [len({piece["id"] for piece in of if "id" in piece}) for of in by_index.values()] == [1, 1]
    assert by_index[0][0]["id"] != by_index[1][0]["id"]
    assert [of[0]["function"] for of in by_index.values()] == [
        {"name": "f", "arguments": ""},
        {"name": "g", "arguments": ""},
    ]
    assert [of[0]["type"] for of in by_index.values()] == ["function", "function"]
    joined = ["".join(piece["function"]["arguments"] for piece in of) for of in by_index.values()]
    assert [json.loads(text) for text in joined] == [json.loads(long), {}]
    assert len(by_index[0]) > 2, "long arguments come in several pieces"
    assert not any(each.get("content") for each in deltas(read))
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


def test_c58_a_call_that_was_cut_off_by_the_limit(puppet: Puppet) -> None:
    puppet.plays(call(0, "{}", name="f", id="a"), end("length"))
    tools = [function("f")]
    assert choice(puppet.server, ABLE, tools=tools)["finish_reason"] == "length"
    assert chunks(puppet.server, ABLE, tools=tools)[-1]["choices"][0]["finish_reason"] == "length"

"""`/v1/responses` and what it keeps, on the real server. compat-api §8."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.clients.speakers import GO, JINJA, call, thought
from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import Server
from tests.server.go_models import OPENED, TAGGED, Models
from tests.server.jinja_templates import THINKING
from tests.server.puppet import ABLE, Puppet, delta, end, piece
from tests.server.puppet import call as engine_call
from tests.server.responder import ask, both, heard, kept, refused, respond
from tests.server.tiny_models import picture

S = "smollm2:135m"
ENCRYPTED = "reasoning.encrypted_content"

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}
PARIS = call("get_weather", city="Paris")
ANIMAL = {
    "type": "object",
    "properties": {"legs": {"enum": [2, 4]}},
    "required": ["legs"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("parrots"))


@pytest.fixture(scope="module")
def caller(models: Models) -> str:
    """A SmolLM2 that is told of tools: what it calls, it is made to."""
    return models.smollm(TAGGED)


def clerk(models: Models, way: str, script: str = PARIS, **parrot: Any) -> str:
    """A model that calls for the weather first, and speaks when it has heard of it."""
    return models.saying(script, GO if way == "go" else "", jinja=JINJA if way == "jinja" else "", **parrot)


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


# --- the response ----------------------------------------------------------------------------------------------------


def test_c70_a_short_answer(server: Server) -> None:
    answer = respond(server, S, "hi", temperature=0)
    assert re.fullmatch("resp_[0-9a-f]{24,}", answer.id)
    assert (answer.body["object"], answer.status, answer.body["error"]) == ("response", "completed", None)
    message = answer.output[-1]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    (part,) = message["content"]
    assert (part["type"], part["annotations"]) == ("output_text", [])
    assert part["text"]
    usage = answer.usage
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert min(usage["input_tokens"], usage["output_tokens"]) > 0
    assert answer.body["completed_at"] >= answer.body["created_at"]
    again = respond(server, S, "hi", temperature=0)
    assert 0 < again.usage["input_tokens_details"]["cached_tokens"] < again.usage["input_tokens"]
    assert again.usage["input_tokens_details"]["cache_write_tokens"] == 0
    assert again.id != answer.id


def test_c71_instructions_and_input_in_all_their_forms(puppet: Puppet) -> None:
    sent = heard(puppet, "Say hi.", instructions="Be brief.")["messages"]
    assert sent == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi."}]
    items = [
        {"role": "developer", "content": "Be kind."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"role": "user", "content": "d"},
    ]
    sent = heard(puppet, items, instructions=[{"role": "system", "content": "Be brief."}])["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "ab"),
        ("assistant", "c"),
        ("user", "d"),
    ]


def test_c72_what_cannot_be_read_is_refused_by_name(server: Server, puppet: Puppet) -> None:
    for item, param, words in (
        ({"foo": 1}, "input[0].type", "input[0]: input item missing required 'type' field"),
        ({"type": "mystery"}, "input[0].type", 'input[0]: unknown input item type: "mystery"'),
        (user({"type": "mystery"}), "input[0].content[0].type", "unknown content type: mystery"),
        (user({"type": "input_file", "file_id": "f"}), None, "file inputs are not currently supported"),
        ({"type": "item_reference", "id": "msg_0"}, "input[0].id", "not found"),
        (
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{"},
            None,
            "failed to parse function call",
        ),
    ):
        said = refused(ask(server, S, [item]))
        assert words in said[1]
        assert param in (None, said[0])
    inline = {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,Rm94Lg=="}
    (message,) = heard(puppet, [user(inline)])["messages"]
    assert "Fox." in message["content"]


def test_pictures(server: Server, tiny_eyes: str) -> None:
    import base64

    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    words = {"type": "input_text", "text": "What is it?"}
    blind, seeing = (
        respond(server, tiny_eyes, [user(*parts)], max_output_tokens=1).usage["input_tokens"]
        for parts in ([words], [words, {"type": "input_image", "image_url": url, "detail": "auto"}])
    )
    assert seeing > blind + 40
    far = user({"type": "input_image", "image_url": "https://example.com/a.png"})
    assert refused(ask(server, tiny_eyes, [far])) == (
        "input[0].content[0].image_url",
        "image URLs are not currently supported, please use base64 encoded data instead",
    )


def test_c79_answers_that_are_cut_off(server: Server) -> None:
    cut = both(server, S, max_output_tokens=3)
    assert (cut.status, cut.body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut.output[-1]["status"] == "incomplete"
    assert cut.usage["output_tokens"] == 3
    assert cut.names[-1] == "incomplete"
    assert "completed" not in cut.names


@pytest.mark.parametrize(
    ("form", "question"),
    [
        ({"type": "json_schema", "name": "animal", "schema": ANIMAL}, "Say hi."),
        ({"type": "json_object"}, "What is the capital of France? Answer in JSON with the key city."),
    ],
    ids=lambda each: each["type"] if isinstance(each, dict) else "",
)
def test_c80_answers_in_a_form(server: Server, form: dict[str, Any], question: str) -> None:
    """`responses.parse` of the client is in `tests/clients`."""
    answer = both(server, S, question, text={"format": form}, max_output_tokens=100)
    assert answer.status == "completed"
    value = json.loads(answer.text)
    assert isinstance(value, dict)
    assert form["type"] == "json_object" or (list(value) == ["legs"] and value["legs"] in (2, 4))
    assert answer.body["text"]["format"] == form


def test_an_answer_in_a_form_that_never_ends_is_not_called_complete(puppet: Puppet) -> None:
    """A small model in a grammar writes digits for ever. It is stopped after thirty, and its JSON is none."""
    puppet.plays(completion=[piece('{"n": '), *[piece("1")] * 100, {"hold": True}])
    told = both(puppet.server, ABLE, text={"format": {"type": "json_object"}})
    assert (told.status, told.body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (told.output[-1]["status"], told.names[-1]) == ("incomplete", "incomplete")
    whole = respond(puppet.server, ABLE, text={"format": {"type": "json_object"}})
    assert "only repeated itself" in " ".join(whole.warnings)


def test_an_answer_without_a_word_is_an_empty_message(models: Models) -> None:
    silent = both(models.server, models.saying("", OPENED))
    assert (silent.kinds, silent.text, silent.status) == (["message"], "", "completed")


def test_prompts_that_are_too_long(server: Server) -> None:
    long = [{"role": "user", "content": "word " * 900}, {"role": "user", "content": "Hi"}]
    param, said = refused(ask(server, S, long, options={"num_ctx": 512}))
    assert "the prompt is longer than the context length" in said
    assert param == "input"
    cut = respond(server, S, long, options={"num_ctx": 512}, truncation="auto", max_output_tokens=2)
    assert "messages left out" in " ".join(cut.warnings)
    assert cut.body["truncation"] == "auto"


# --- streams ---------------------------------------------------------------------------------------------------------

TEXT = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
THINKING_TOLD = [
    "reasoning_summary_part.added",
    "reasoning_summary_text.delta",
    "reasoning_summary_text.done",
    "reasoning_summary_part.done",
]
CALLED = ["function_call_arguments.delta", "function_call_arguments.done"]


def stream_of(*items: list[str], end: str = "completed") -> list[str]:
    inner = [name for item in items for name in ("output_item.added", *item, "output_item.done")]
    return ["created", "in_progress", *inner, end]


@pytest.mark.parametrize("way", ["jinja", "go"])
def test_c75_the_events_of_a_text(server: Server, caller: str, way: str) -> None:
    """What the client makes of them is in `tests/clients`."""
    told = both(server, S if way == "jinja" else caller, max_output_tokens=200)
    assert told.names == stream_of(TEXT, end=told.status)
    added = [event for event in told.events if event["type"] == "response.content_part.added"]
    assert added[0]["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert len(told.events) > 12


@pytest.mark.parametrize("way", ["jinja", "go"])
def test_c76_the_events_of_thinking(models: Models, way: str) -> None:
    template, jinja = (GO, "") if way == "go" else ("", THINKING)
    model = models.saying(thought("Thirty and three.", "It is 33."), template, jinja=jinja)
    told = both(models.server, model)
    assert told.names == stream_of(THINKING_TOLD, TEXT)
    assert [event["output_index"] for event in told.events if event["type"].endswith("item.added")] == [0, 1]
    (summary,) = told.output[0]["summary"]
    assert summary == {"type": "summary_text", "text": summary["text"]}
    assert summary["text"].strip() == "Thirty and three."
    assert told.text == "It is 33."
    assert 0 < told.usage["output_tokens_details"]["reasoning_tokens"] < told.usage["output_tokens"]
    assert both(models.server, model, reasoning={"effort": "none"}).kinds == ["message"]


@pytest.mark.parametrize("way", ["jinja", "go"])
def test_c77_the_events_of_a_call(models: Models, way: str) -> None:
    told = both(models.server, clerk(models, way), tools=[WEATHER, TIME])
    assert told.names == stream_of(CALLED)
    added, arguments, done, item = told.events[2:6]
    (final,) = told.output
    assert (added["item"]["status"], added["item"]["arguments"]) == ("in_progress", "")
    assert (done["name"], json.loads(done["arguments"])) == ("get_weather", {"city": "Paris"})
    assert item["item"] == final
    assert final["status"] == "completed"
    assert {event["item_id"] for event in (arguments, done)} == {final["id"]}
    assert added["item"]["call_id"] == final["call_id"]


def test_c78_text_and_calls_and_thinking_in_any_order(puppet: Puppet) -> None:
    """What the client makes of it is in `tests/clients`."""
    puppet.plays(
        delta(reasoning_content="a"),
        delta(content="b"),
        engine_call(0, "{}", name="get_time", id="call_1"),
        engine_call(1, "{}", name="get_time", id="call_2"),
        end("tool_calls"),
    )
    told = both(puppet.server, ABLE, tools=[TIME])
    assert told.kinds == ["reasoning", "message", "function_call", "function_call"]
    assert told.names == stream_of(THINKING_TOLD, TEXT, CALLED, CALLED)
    thoughts, words = (delta(reasoning_content=each) for each in "ac"), (delta(content=each) for each in "bd")
    puppet.plays(next(thoughts), next(words), next(thoughts), next(words), end())
    told = both(puppet.server, ABLE, tools=[TIME])
    assert told.kinds == ["reasoning", "message"] * 2
    assert told.text == "bd"


def test_a_long_input_of_a_tool_comes_in_pieces(puppet: Puppet) -> None:
    city = "Llanfair" * 40
    puppet.plays(engine_call(0, json.dumps({"city": city}), name="get_weather", id="call_1"), end())
    told = both(puppet.server, ABLE, tools=[WEATHER])
    assert told.calls == [("get_weather", {"city": city})]
    assert sum(event["type"].endswith("arguments.delta") for event in told.events) > 2


@pytest.mark.parametrize("broken", [{"cut": True}, {"die": 3}, {"send": {"error": {"message": "no more"}}}])
def test_an_engine_that_fails_midway_ends_the_stream_with_what_there_is(puppet: Puppet, broken: dict[str, Any]) -> None:
    # what arrives in the same moment as the end of a connection is lost with it
    puppet.plays(delta(reasoning_content="a"), delta(content="b"), {"pause": 0.3}, broken)
    failed = respond(puppet.server, ABLE, stream=True)
    assert (failed.status, failed.usage) == ("failed", None)
    assert failed.body["error"]["code"] == "server_error"
    assert failed.body["error"]["message"]
    assert [item.get("status") for item in failed.output] == [None, "incomplete"]
    assert failed.text == "b"
    assert ask(puppet.server, ABLE).status == 500


def test_logprobs(server: Server) -> None:
    included = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    told = both(server, S, max_output_tokens=4, **included)
    (part,) = told.output[-1]["content"]
    assert len(part["logprobs"]) == told.usage["output_tokens"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in part["logprobs"])
    assert both(server, S, max_output_tokens=4).output[-1]["content"][0]["logprobs"] == []


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["go", "jinja"])
def test_c73_a_call_and_its_output(models: Models, way: str) -> None:
    model = clerk(models, way, behind={"1": "It rains in Paris."})
    called = respond(models.server, model, tools=[WEATHER])
    (item,) = called.output
    assert called.calls == [("get_weather", {"city": "Paris"})]
    assert item["call_id"]
    for output in ("rain", [{"type": "input_text", "text": "rain"}]):
        answer = {"type": "function_call_output", "call_id": item["call_id"], "output": output}
        for conversation, more in (
            ([{"role": "user", "content": "Say hi."}, item, answer], {}),
            ([answer], {"previous_response_id": called.id}),
        ):
            told = both(models.server, model, conversation, tools=[WEATHER], **more)
            assert (told.kinds, told.text) == (["message"], "It rains in Paris.")


def test_c74_tools_in_a_namespace(puppet: Puppet) -> None:
    crm = {"type": "namespace", "name": "crm", "description": "Customers", "tools": [{**WEATHER, "name": "find"}]}
    puppet.plays(engine_call(0, "{}", name="crm.find", id="call_1"), end())
    told = both(puppet.server, ABLE, tools=[crm])
    (item,) = told.output
    assert (item["namespace"], item["name"]) == ("crm", "find")
    sent = heard(puppet, [item, {"type": "function_call_output", "call_id": "call_1", "output": "x"}], tools=[crm])
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["crm.find"]
    assert sent["messages"][0]["tool_calls"][0]["function"]["name"] == "crm.find"


def test_custom_tools_take_a_text(puppet: Puppet) -> None:
    patch = {"type": "custom", "name": "patch", "description": "Change files"}
    puppet.plays(engine_call(0, '{"input": "*** Begin"}', name="patch", id="call_1"), end())
    told = both(puppet.server, ABLE, tools=[patch])
    (item,) = told.output
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", "*** Begin")
    output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"}
    sent = heard(puppet, [item, output], tools=[patch])["messages"]
    assert [message["role"] for message in sent] == ["assistant", "tool"]
    for kind in ("web_search", "file_search", "mcp"):
        param, _ = refused(ask(puppet.server, ABLE, tools=[{"type": kind}]))
        assert param == "tools[0].type"


def test_c82_what_is_chosen_is_applied_and_said_again(server: Server, caller: str, puppet: Puppet) -> None:
    named = {"type": "function", "name": "get_weather"}
    metadata = {"a": "b"}
    forced = both(server, caller, tools=[WEATHER, TIME], tool_choice=named, metadata=metadata)
    assert forced.calls == [("get_weather", {"city": "Paris"})]
    echoed = ("tool_choice", "parallel_tool_calls", "metadata")
    assert [forced.body[name] for name in echoed] == [named, True, metadata]
    required = respond(server, caller, tools=[WEATHER, TIME], tool_choice="required", temperature=0)
    assert required.calls
    none = respond(server, caller, tools=[WEATHER], tool_choice="none", max_output_tokens=10)
    assert (none.calls, none.body["tool_choice"]) == ([], "none")
    assert heard(puppet, tools=[WEATHER], parallel_tool_calls=False)["parallel_tool_calls"] is False
    single = respond(puppet.server, ABLE, tools=[WEATHER], parallel_tool_calls=False)
    assert single.body["parallel_tool_calls"] is False
    assert (
        refused(ask(server, caller, tools=[WEATHER], tool_choice={"type": "function", "name": "no"}))[0]
        == "tool_choice"
    )


# --- thinking that comes back ----------------------------------------------------------------------------------------


def test_c81_thinking_goes_before_what_it_led_to(puppet: Puppet) -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "I mused."}
    said = {"role": "assistant", "content": "Hi."}
    sent = heard(puppet, [{"role": "user", "content": "a"}, reasoning, said, {"role": "user", "content": "b"}])[
        "messages"
    ]
    assert sent[1] == {"role": "assistant", "content": "Hi.", "reasoning_content": "I mused."}


def test_thinking_round_trip_of_a_client_that_keeps_it_itself(puppet: Puppet) -> None:
    puppet.plays(delta(reasoning_content="I mused."), delta(content="Hi."), end())
    kept = respond(puppet.server, ABLE)
    assert "encrypted_content" not in kept.output[0]
    assert respond(puppet.server, ABLE, include=[ENCRYPTED]).output[0]["encrypted_content"] == "I mused."
    own = respond(puppet.server, ABLE, store=False)
    before = [{"role": "user", "content": "Say hi."}, *own.output, {"role": "user", "content": "b"}]
    sent = heard(puppet, before, store=False)["messages"]
    assert sent[1]["reasoning_content"] == "I mused."
    assert heard(puppet, "b", previous_response_id=kept.id)["messages"] == sent


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_c83_conversations_go_on_from_what_is_kept(puppet: Puppet) -> None:
    server = puppet.server
    first = respond(server, ABLE, "one", instructions="Be brief.")
    assert kept(server, first.id).json() == first.body
    second = respond(server, ABLE, "two", previous_response_id=first.id, stream=True)
    assert second.body["previous_response_id"] == first.id
    assert kept(server, second.id).json() == second.body
    sent = heard(puppet, "three", previous_response_id=second.id)["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("user", "one"),
        ("assistant", "Hello there"),
        ("user", "two"),
        ("assistant", "Hello there"),
        ("user", "three"),
    ]
    listed = server.get(f"/v1/responses/{second.id}/input_items?order=asc").json()
    assert [item["role"] for item in listed["data"]] == ["user", "assistant", "user"]
    assert (listed["object"], listed["has_more"], listed["first_id"]) == ("list", False, listed["data"][0]["id"])
    page = server.get(f"/v1/responses/{second.id}/input_items?limit=1").json()
    assert ([item["content"][0]["text"] for item in page["data"]], page["has_more"]) == (["two"], True)
    rest = server.get(f"/v1/responses/{second.id}/input_items?after={page['last_id']}").json()
    assert len(rest["data"]) == 2
    reference = {"type": "item_reference", "id": first.output[0]["id"]}
    sent = heard(puppet, [reference, {"role": "user", "content": "again"}])["messages"]
    assert [message["content"] for message in sent] == ["Hello there", "again"]


def test_c83_what_is_forgotten_is_gone_and_what_came_of_it_is_not(puppet: Puppet) -> None:
    server = puppet.server
    first = respond(server, ABLE, "one")
    second = respond(server, ABLE, "two", previous_response_id=first.id)
    deleted = server.call("DELETE", f"/v1/responses/{first.id}")
    assert deleted.json() == {"id": first.id, "object": "response", "deleted": True}
    for reply in (
        kept(server, first.id),
        server.get(f"/v1/responses/{first.id}/input_items"),
        server.call("DELETE", f"/v1/responses/{first.id}"),
        server.post(f"/v1/responses/{first.id}/cancel"),
    ):
        assert reply.status == 404
        assert first.id in reply.json()["error"]["message"]
    reply = ask(server, ABLE, "x", previous_response_id=first.id)
    assert refused(reply) == ("previous_response_id", f"Previous response with id '{first.id}' not found.")
    assert reply.json()["error"]["code"] == "previous_response_not_found"
    sent = heard(puppet, "three", previous_response_id=second.id)["messages"]
    assert [message["content"] for message in sent][:3] == ["one", "Hello there", "two"]


def test_c83_what_shall_not_be_kept_is_not(server: Server) -> None:
    for more in ({}, {"stream": True}):
        answer = respond(server, S, store=False, max_output_tokens=2, **more)
        assert answer.body["store"] is False
        assert kept(server, answer.id).status == 404
    assert respond(server, S, max_output_tokens=2).body["store"] is True


def test_c84_what_is_not_supported_is_refused_by_name(server: Server) -> None:
    """C-84. `background` is supported by now: `test_background.py`."""
    body = {"model": S}
    for more, param in (
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "background": True, "store": False}, "background"),
        ({"input": "x", "background": True, "stream": True}, "stream"),
    ):
        assert refused(server.post("/v1/responses", body | more))[0] == param
    compact = server.post("/v1/responses/compact", body)
    assert (compact.status, "/v1/responses/compact" in compact.json()["error"]["message"]) == (400, True)


def test_prompts_are_counted(server: Server) -> None:
    body = {"model": S, "input": "Say hi.", "instructions": "Be brief."}
    reply = server.post("/v1/responses/input_tokens", body)
    tokens = respond(server, S, instructions="Be brief.", max_output_tokens=1).usage["input_tokens"]
    assert reply.json() == {"object": "response.input_tokens", "input_tokens": tokens}


def test_a_kept_response_is_not_streamed(server: Server) -> None:
    id_ = respond(server, S, max_output_tokens=1).id
    assert refused(server.get(f"/v1/responses/{id_}?stream=true"))[0] == "stream"
    assert server.get(f"/v1/responses/{id_}?stream=false").status == 200


def test_a_server_that_keeps_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(LLAMERO_RESPONSES="off", LLAMERO_LLAMA_SERVER=str(install(tmp_path)))
    asked = respond(server, S, store=True)
    assert asked.body["store"] is False
    assert "'store'" in " ".join(asked.warnings)
    assert kept(server, asked.id).status == 404
    assert refused(ask(server, S, previous_response_id=asked.id))[0] == "previous_response_id"
    assert refused(ask(server, S, background=True))[0] == "background"
    assert not (server.home / ".ollama" / "llamero" / "responses.sqlite").exists()

"""`/v1/messages`, its `count_tokens` and Anthropic's list of models on the real server. compat-api §4.3, §9, §10."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.clients.speakers import GO, call, thought
from tests.running import Reply, Server
from tests.server.events import Event, named_events
from tests.server.go_models import OPENED, TAGGED, Models
from tests.server.jinja_templates import HERMES, THINKING
from tests.server.puppet import ABLE, SEER, Puppet, delta, end
from tests.server.puppet import call as engine_call
from tests.server.tiny_models import make, picture

S = "smollm2:135m"
HI = [{"role": "user", "content": "Say hi."}]
THINK = {"type": "enabled", "budget_tokens": 1024}
SEES = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}{{ range .Tools }}{{ . }}{{ end }}assistant:"
"""Shows everything, pictures where their texts are."""

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
PARIS = call("get_weather", city="Paris")


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("parrots"))


@pytest.fixture(scope="module")
def caller(models: Models) -> str:
    """A SmolLM2 that is told of tools: what it calls, it is made to."""
    return models.smollm(TAGGED)


@pytest.fixture(scope="module")
def thinker(models: Models) -> str:
    return models.saying(thought("Thirty and three.", "It is 33."), GO)


class Message:
    """A whole reply of `/v1/messages`, streamed or not, put together as a client does it."""

    def __init__(self, reply: Reply) -> None:
        assert reply.status == 200, reply.body
        self.warnings: list[str] = reply.headers.get_all("Llamero-Warning") or []
        is_stream = reply.content_type == "text/event-stream"
        self.events = named_events(reply.body) if is_stream else []
        body = assembled(self.events) if is_stream else reply.json()
        self.body: dict[str, Any] = body
        self.content: list[dict[str, Any]] = body["content"]
        self.stop: tuple[str, str | None] = body["stop_reason"], body["stop_sequence"]
        self.usage: dict[str, Any] = body["usage"]
        self.text = "".join(block["text"] for block in self.content if block["type"] == "text")
        self.thinking = "".join(block["thinking"] for block in self.content if block["type"] == "thinking")
        self.calls = [(block["name"], block["input"]) for block in self.content if block["type"] == "tool_use"]

    @property
    def kinds(self) -> list[str]:
        return [block["type"] for block in self.content]

    @property
    def input_tokens(self) -> int:
        """By Anthropic's rule of sums."""
        return input_tokens(self.usage)


def input_tokens(usage: dict[str, Any]) -> int:
    return sum(usage[name] for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"))


def assembled(events: Sequence[Event]) -> dict[str, Any]:
    """The message that the events tell, and that they tell it in Anthropic's order: one block open at a time."""
    start, ping, *middle, change, stop = events
    assert [start["type"], ping] == ["message_start", {"type": "ping"}]
    assert (change["type"], stop) == ("message_delta", {"type": "message_stop"})
    message: dict[str, Any] = dict(start["message"])
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)
    inputs: list[str] | None = None
    is_open = False
    for event in middle:
        blocks = message["content"]
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append(dict(event["content_block"]))
                is_open, inputs = True, []
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                match event["delta"]:
                    case {"type": "text_delta", "text": text}:
                        blocks[-1]["text"] += text
                    case {"type": "thinking_delta", "thinking": text}:
                        assert not blocks[-1]["signature"]
                        blocks[-1]["thinking"] += text
                    case {"type": "signature_delta", "signature": signature}:
                        blocks[-1]["signature"] += signature
                    case {"type": "input_json_delta", "partial_json": text}:
                        assert inputs is not None
                        inputs.append(text)
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                if inputs:
                    assert blocks[-1]["input"] == {}
                    blocks[-1]["input"] = json.loads("".join(inputs))
                is_open = False
            case "ping":
                pass
            case kind:
                raise AssertionError(f"{kind} in the middle of a stream")
    assert not is_open
    return {**message, **change["delta"], "usage": {**message["usage"], **change["usage"]}}


def ask(server: Server, model: str, messages: Any = HI, *, max_tokens: int = 400, **more: Any) -> Reply:
    return server.post("/v1/messages", {"model": model, "messages": messages, "max_tokens": max_tokens, **more})


def say(server: Server, model: str, messages: Any = HI, **more: Any) -> Message:
    return Message(ask(server, model, messages, **more))


def both(server: Server, model: str, messages: Any = HI, **more: Any) -> Message:
    """Not streamed and streamed: they say the same."""
    whole, streamed = (say(server, model, messages, stream=stream, temperature=0, **more) for stream in (False, True))
    assert [{**block, "id": ""} for block in whole.content] == [{**block, "id": ""} for block in streamed.content]
    assert whole.stop == streamed.stop
    assert whole.usage["output_tokens"] == streamed.usage["output_tokens"]
    assert whole.input_tokens == streamed.input_tokens
    assert [*whole.body] == [*streamed.body]
    return streamed


def count(server: Server, model: str, messages: Any = HI, **more: Any) -> int:
    body = {"model": model, "messages": messages, **more}
    reply = server.post("/v1/messages/count_tokens?beta=true", body)
    assert reply.status == 200, reply.body
    assert list(reply.json()) == ["input_tokens"]
    return int(reply.json()["input_tokens"])


def refused(reply: Reply) -> str:
    assert (reply.status, reply.json()["error"]["type"]) == (400, "invalid_request_error"), reply.body
    return str(reply.json()["error"]["message"])


def image(color: str = "red") -> dict[str, Any]:
    data = base64.b64encode(picture(color)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


# --- the message -----------------------------------------------------------------------------------------------------


def test_c85_a_short_answer(server: Server) -> None:
    reply = ask(server, S, temperature=0)
    message = Message(reply)
    assert re.fullmatch("msg_[0-9a-f]{24}", message.body["id"])
    body = {"type": "message", "role": "assistant", "model": S, "stop_reason": "end_turn", "stop_sequence": None}
    assert message.body.items() >= body.items()
    assert message.kinds == ["text"]
    assert message.text
    usage = message.usage
    assert usage["cache_creation_input_tokens"] == 0
    assert usage["output_tokens_details"] == {"thinking_tokens": 0}
    assert min(usage["input_tokens"], usage["output_tokens"]) > 0
    again = say(server, S, temperature=0)
    assert again.usage["cache_read_input_tokens"] > 0, "the prompt was there already"
    assert again.input_tokens == message.input_tokens
    assert again.body["id"] != message.body["id"]


def test_c86_what_must_be_there_is_looked_for_in_this_order(server: Server) -> None:
    body: dict[str, Any] = {}
    for message, added in (
        ("model is required", {"model": S}),
        ("max_tokens is required and must be positive", {"max_tokens": 0}),
        ("max_tokens is required and must be positive", {"max_tokens": -1}),
        ("max_tokens is required and must be positive", {"max_tokens": 2}),
        ("messages is required", {"messages": []}),
        ("messages is required", {"messages": HI}),
    ):
        assert refused(server.post("/v1/messages", body)) == message
        body |= added
    assert server.post("/v1/messages", body).status == 200


@pytest.mark.parametrize("template", ["jinja", "go"])
def test_c96_a_stream_is_the_message_in_pieces(server: Server, caller: str, template: str) -> None:
    """Partly C-96: of text."""
    streamed = both(server, S if template == "jinja" else caller, max_tokens=40)
    kinds = [event["type"] for event in streamed.events]
    assert kinds[2] == "content_block_start"
    assert kinds.count("content_block_delta") > 3
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert streamed.events[2]["content_block"] == {"type": "text", "text": ""}


# --- its end ---------------------------------------------------------------------------------------------------------

TALE = "Once upon a time there was a fox who lived by the river and sang."


def tellers(models: Models, way: str) -> tuple[str, dict[str, Any]]:
    """A model that tells the tale, by one of the ways that an answer can come; and how to ask it."""
    match way:
        case "plain":
            return models.saying(TALE, "", jinja=HERMES.replace("<think>", "<x>").replace("</think>", "</x>")), {}
        case "Jinja that thinks":
            return models.saying(thought("Hmm.", TALE), "", jinja=THINKING), {"thinking": THINK}
        case "Jinja with tools":
            return models.saying(TALE, "", jinja=HERMES), {"tools": [WEATHER]}
        case "Go":
            return models.saying(TALE, OPENED), {}
        case "Go that thinks":
            return models.saying(thought("Hmm.", TALE), GO), {"thinking": THINK}
        case _:
            return models.saying(TALE, TAGGED), {"tools": [WEATHER]}


@pytest.mark.parametrize("way", ["plain", "Jinja that thinks", "Jinja with tools", "Go", "Go that thinks", "Go, tools"])
def test_c87_answers_that_are_cut_off(models: Models, way: str) -> None:
    """C-87: in every way that an answer can come."""
    model, more = tellers(models, way)
    server = models.server
    short = both(server, model, **{**more, "max_tokens": 1})
    assert (short.stop, short.usage["output_tokens"]) == (("max_tokens", None), 1)
    told = both(server, model, **more)
    assert (told.text, told.stop) == (TALE, ("end_turn", None))
    stopped = both(server, model, stop_sequences=["nothing", " fox who"], **more)
    assert (stopped.text, stopped.stop) == ("Once upon a time there was a", ("stop_sequence", " fox who"))
    assert both(server, model, stop_sequences=["bear"], **more).stop == ("end_turn", None)


def test_what_the_model_itself_stops_at_is_an_end(models: Models) -> None:
    model = models.saying(TALE, OPENED, create={"parameters": {"stop": [" lived"]}})
    told = both(models.server, model)
    assert (told.text, told.stop) == (TALE.partition(" lived")[0], ("end_turn", None))


@pytest.mark.heavy
def test_a_full_context_is_told_from_a_limit(server: Server, tiny_eyes: str) -> None:
    """A model that sees never forgets the beginning to go on."""
    full = both(server, tiny_eyes, max_tokens=4000, options={"num_ctx": 256})
    assert full.stop == ("model_context_window_exceeded", None)
    assert full.input_tokens + full.usage["output_tokens"] >= 256


def test_c102_an_answer_without_a_word(models: Models) -> None:
    silent = both(models.server, models.saying("", OPENED))
    assert (silent.content, silent.stop) == ([], ("end_turn", None))


# --- what the model is told ------------------------------------------------------------------------------------------


def heard(puppet: Puppet, messages: Any = HI, **more: Any) -> dict[str, Any]:
    """What the engine is asked for a message."""
    puppet.forget()
    reply = ask(puppet.server, more.pop("model", ABLE), messages, **more)
    assert reply.status == 200, reply.body
    (body,) = puppet.heard()
    return body


@pytest.mark.parametrize(
    "system",
    ["Be brief.\nBe kind.", [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]],
    ids=["string", "blocks"],
)
def test_c88_the_words_of_the_system_come_first(puppet: Puppet, system: Any) -> None:
    first, second = heard(puppet, system=system)["messages"]
    assert first == {"role": "system", "content": "Be brief.\nBe kind."}
    assert second == {"role": "user", "content": "Say hi."}


def test_c89_sampling_is_the_clients_or_the_models(puppet: Puppet) -> None:
    given = {"temperature": 0.25, "top_p": 0.5, "top_k": 7}
    assert heard(puppet, **given).items() >= given.items()
    assert heard(puppet).items() >= {"temperature": 0.8, "top_p": 0.9, "top_k": 40}.items()
    own = make(puppet.server, "cool", from_=S, parameters={"temperature": 0.125, "top_k": 3})
    assert heard(puppet, model=own).items() >= {"temperature": 0.125, "top_p": 0.9, "top_k": 3}.items()


def test_c17_native_settings_reach_the_native_layer(server: Server) -> None:
    """Partly C-17: on messages."""
    say(server, S, max_tokens=1, options={"num_ctx": 512}, keep_alive="7m")
    (loaded,) = [each for each in server.get("/api/ps").json()["models"] if each["name"] == S]
    assert loaded["context_length"] == 512
    say(server, S, max_tokens=1, keep_alive=0)
    server.wait_until(lambda: S not in server.loaded())


def test_c90_pictures(server: Server, tiny_eyes: str) -> None:
    looks = [
        say(server, tiny_eyes, [user(image(color), text("What is it?"))], max_tokens=1) for color in ("red", "blue")
    ]
    blind = say(server, tiny_eyes, [user(text("What is it?"))], max_tokens=1)
    assert looks[0].input_tokens == looks[1].input_tokens > blind.input_tokens + 40
    for source in ({"type": "url", "url": "https://example.com/a.png"}, {"type": "file", "file_id": "f"}):
        said = refused(ask(server, tiny_eyes, [user({"type": "image", "source": source})]))
        assert said == f"invalid image source type: {source['type']}. Only base64 images are supported."
    assert refused(ask(server, tiny_eyes, [user({"type": "image"})])) == "invalid image source"
    bad = {**image()["source"], "data": "?"}
    said = refused(ask(server, tiny_eyes, [user({"type": "image", "source": bad})]))
    assert said.startswith("invalid base64 image data")


def test_a_data_url_is_a_picture(server: Server, tiny_eyes: str) -> None:
    url = "data:image/png;base64," + image()["source"]["data"]
    asked = [user({"type": "image", "source": {"type": "url", "url": url}}, text("What is it?"))]
    meant = [user(image(), text("What is it?"))]
    assert count(server, tiny_eyes, asked) == count(server, tiny_eyes, meant)


def test_c92_results_of_tools_come_before_what_the_user_says(puppet: Puppet) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
    conversation = [*HI, assistant(use), user(text("And now?"), result)]
    sent = heard(puppet, conversation, tools=[WEATHER])["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2] == {"role": "tool", "content": "rain", "name": "get_weather", "tool_call_id": "toolu_1"}
    assert sent[3]["content"] == "And now?"
    for missing in ("id", "name"):
        broken = {key: value for key, value in use.items() if key != missing}
        said = refused(ask(puppet.server, ABLE, [*HI, assistant(broken), user(result)]))
        assert said == f"tool_use block missing required '{missing}' field"


def test_what_cannot_be_read_is_refused_by_name(server: Server) -> None:
    for block, words in (
        ({"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}, "matches no tool_use"),
        ({"type": "mystery"}, "'mystery'"),
        ({"type": "document", "source": {"type": "base64", "data": ""}}, "document"),
    ):
        assert words in refused(ask(server, S, [user(block)]))
    assert "role" in refused(ask(server, S, [{"role": "tool", "content": "x"}]))


def test_documents_and_search_results_are_read_as_text(puppet: Puppet) -> None:
    document = {
        "type": "document",
        "title": "Tale",
        "source": {"type": "text", "media_type": "text/plain", "data": "Fox."},
    }
    found = {"type": "search_result", "title": "Den", "source": "x://y", "content": [text("Hole.")]}
    (message,) = heard(puppet, [user(document, found, text("What?"))])["messages"]
    assert message["content"] == "Tale\nFox.\nDen\nx://y\nHole.\nWhat?"


def test_turns_of_one_role_are_one(puppet: Puppet) -> None:
    (message,) = heard(puppet, [user(text("One.")), user(text("Two."))])["messages"]
    assert message["content"] == "One.\nTwo."


def test_an_answer_that_has_begun_is_gone_on_with(models: Models) -> None:
    model = models.saying("was a fox.", OPENED)
    begun = [*HI, assistant(text("Once there"))]
    assert both(models.server, model, begun).text == "was a fox."
    assert (
        "Once there"
        in models.server.post(
            "/api/chat",
            {
                "model": model,
                "messages": [*HI, {"role": "assistant", "content": "Once there"}],
                "_debug_render_only": True,
                "stream": False,
            },
        ).body.decode()
    )
    assert count(models.server, model, begun) == both(models.server, model, begun).input_tokens


# --- tools -----------------------------------------------------------------------------------------------------------


def result(id_: str, content: Any, **more: Any) -> dict[str, Any]:
    return user({"type": "tool_result", "tool_use_id": id_, "content": content, **more})


@pytest.mark.parametrize("way", ["go", "jinja"])
def test_c91_a_call_and_its_result(models: Models, way: str) -> None:
    """C-91: the result as a text, as blocks, and with a picture (in the next test)."""
    spoken = {"behind": {"1": "It rains in Paris."}, "specials": ("<tool_call>", "</tool_call>")}
    model = clerk(models, way, **spoken)
    called = both(models.server, model, tools=[WEATHER, TIME])
    assert called.calls == [("get_weather", {"city": "Paris"})]
    assert called.stop == ("tool_use", None)
    (use,) = called.content
    assert use["id"].startswith("toolu_")
    for content in ("rain", [text("rain"), text("and wind")], [], None):
        told = both(models.server, model, [*HI, assistant(use), result(use["id"], content)], tools=[WEATHER, TIME])
        assert (told.text, told.stop) == ("It rains in Paris.", ("end_turn", None))


def clerk(models: Models, way: str, script: str = PARIS, **parrot: Any) -> str:
    """A model that calls for the weather first, and speaks when it has heard of it."""
    from tests.clients.speakers import JINJA

    return models.saying(script, GO if way == "go" else "", jinja=JINJA if way == "jinja" else "", **parrot)


def test_c91_a_result_may_be_a_picture(server: Server, tiny_eyes: str) -> None:
    model = make(server, "tiny-eyes-tools", from_=tiny_eyes, template=SEES)
    use = {"type": "tool_use", "id": "any", "name": "get_time", "input": {}}
    words, shown = (
        say(server, model, [*HI, assistant(use), result("any", content)], tools=[TIME], max_tokens=1)
        for content in ([text("See.")], [text("See."), image()])
    )
    assert shown.input_tokens > words.input_tokens + 40
    unreadable = result("any", [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}])
    assert refused(ask(server, model, [*HI, assistant(use), unreadable])) == "invalid tool_result image source"


def test_c91_a_call_without_arguments_has_an_empty_input(models: Models, puppet: Puppet) -> None:
    assert both(models.server, clerk(models, "go", call("get_time")), tools=[TIME]).calls == [("get_time", {})]
    puppet.plays(engine_call(0, "", name="get_time", id="call_1"), end())
    assert both(puppet.server, ABLE, tools=[TIME]).calls == [("get_time", {})]


def test_c93_a_call_that_must_come_comes(server: Server, caller: str) -> None:
    """Partly C-93: `any` and `tool`, of a model that calls nothing by itself."""
    free = say(server, caller, tools=[WEATHER, TIME], tool_choice={"type": "auto"}, max_tokens=20)
    assert free.calls == []
    forced = both(server, caller, tools=[WEATHER, TIME], tool_choice={"type": "any"})
    assert forced.calls
    assert {name for name, _ in forced.calls} <= {"get_weather", "get_time"}
    assert forced.stop == ("tool_use", None)
    named = both(server, caller, tools=[WEATHER, TIME], tool_choice={"type": "tool", "name": "get_weather"})
    assert named.calls == [("get_weather", {"city": "Paris"})]
    said = refused(ask(server, caller, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_time"}))
    assert "get_time" in said
    assert refused(ask(server, caller, tool_choice={"type": "any"}))


def test_c93_no_tools_none_told(models: Models) -> None:
    """Partly C-93: `none`. What looks like a call is text, and the history of calls is still there."""
    model = clerk(models, "go")
    told = both(models.server, model, tools=[WEATHER], tool_choice={"type": "none"})
    assert (told.calls, told.text, told.stop) == ([], PARIS, ("end_turn", None))
    assert count(models.server, model, tools=[WEATHER], tool_choice={"type": "none"}) == count(models.server, model)


def test_c93_one_call_at_most(models: Models) -> None:
    """Partly C-93: `disable_parallel_tool_use`."""
    twice = PARIS + "\n" + call("get_time")
    model = clerk(models, "go", twice)
    assert [name for name, _ in both(models.server, model, tools=[WEATHER, TIME]).calls] == ["get_weather", "get_time"]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(both(models.server, model, tools=[WEATHER, TIME], tool_choice=choice).calls) == 1


def test_c93_a_failure_is_told_to_the_model(puppet: Puppet) -> None:
    """C-93, with the three above: `is_error`."""
    use = {"type": "tool_use", "id": "a", "name": "get_time", "input": {}}
    body = heard(puppet, [*HI, assistant(use), result("a", "no clock", is_error=True)], tools=[TIME])
    assert body["messages"][-1]["content"] == "Error: no clock"


def test_ids_of_calls_are_taken_back_whatever_they_are(puppet: Puppet) -> None:
    puppet.plays(engine_call(0, '{"city": "Paris"}', name="get_weather", id="call_a1"), end())
    (use,) = say(puppet.server, ABLE, tools=[WEATHER]).content
    assert use == {"type": "tool_use", "id": "toolu_a1", "name": "get_weather", "input": {"city": "Paris"}}
    own = {**use, "id": "ours 1"}
    sent = heard(puppet, [*HI, assistant(own), result("ours 1", "rain")], tools=[WEATHER])["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "ours 1"


def test_a_call_that_is_cut_off_is_left_out(models: Models) -> None:
    """§9.6: `max_tokens` is what happened, and no half of an input is shown."""
    model = clerk(models, "go", "Let me see. " + PARIS)
    cut = both(models.server, model, tools=[WEATHER], max_tokens=8)
    assert cut.stop == ("max_tokens", None)
    assert cut.calls == []


def test_anthropics_own_tools_are_explained_or_refused(puppet: Puppet) -> None:
    sent = heard(puppet, tools=[{"type": "bash_20250124", "name": "bash"}])
    assert sent["tools"][0]["function"]["parameters"]["properties"]["command"]
    for kind in ("web_search_20250305", "code_execution_20250522"):
        assert refused(ask(puppet.server, ABLE, tools=[{"type": kind, "name": "x"}]))


def test_tools_are_refused_by_models_that_know_none(models: Models) -> None:
    model = models.saying("x", "{{ .Prompt }}")
    assert refused(ask(models.server, model, tools=[WEATHER])).endswith("does not support tools")


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["go", "jinja"])
def test_c94_c95_thinking_is_shown_to_whoever_asks_for_it(models: Models, way: str) -> None:
    server, template = models.server, GO if way == "go" else ""
    model = models.saying(thought("Thirty and three.", "It is 33."), template, jinja="" if way == "go" else THINKING)
    thinking = both(server, model, thinking=THINK)
    assert thinking.kinds == ["thinking", "text"]
    assert (thinking.thinking.strip(), thinking.text) == ("Thirty and three.", "It is 33.")
    assert thinking.content[0]["signature"]
    assert 0 < thinking.usage["output_tokens_details"]["thinking_tokens"] < thinking.usage["output_tokens"]
    for more in ({"thinking": {"type": "disabled"}}, {}):
        silent = both(server, model, **more)
        assert (silent.kinds, silent.text) == (["text"], "It is 33.")
    for more in ({"thinking": {"type": "adaptive"}}, {"output_config": {"effort": "high"}}):
        assert both(server, model, **more).kinds == ["thinking", "text"]
    omitted = both(server, model, thinking={**THINK, "display": "omitted"})
    assert [block.get("thinking", "") for block in omitted.content] == ["", ""]
    assert omitted.content[0]["signature"]
    again = [*HI, assistant(*thinking.content), *HI]
    assert both(server, model, again, thinking=THINK).text == "It is 33."


def test_c94_models_that_cannot_think_do_not_mind(server: Server) -> None:
    """Partly C-94."""
    for more in ({"thinking": THINK}, {"output_config": {"effort": "max"}}):
        assert say(server, S, max_tokens=3, **more).kinds == ["text"]


def test_c94_efforts(puppet: Puppet) -> None:
    """Partly C-94: `xhigh` is `high`, and thinking that is on takes the effort."""
    puppet.server.unload_all()
    for effort, level in (("low", "low"), ("XHIGH", "high"), ("max", "max")):
        told = ask(puppet.server, "levels", output_config={"effort": effort})
        assert told.status == 200
        assert f"|true {level}|" in puppet.heard("/completion")[-1]["prompt"]


def test_thinking_by_default_where_the_operator_wants_it(start_server: Any) -> None:
    server = start_server(LLAMERO_MESSAGES_THINK="1")
    folder = server.home
    model = Models(server, folder).saying(thought("Hmm.", "Yes."), GO)
    assert say(server, model).kinds == ["thinking", "text"]


@pytest.mark.parametrize("way", ["go", "opened", "jinja"])
def test_a_budget_ends_the_thinking(models: Models, way: str) -> None:
    """§9.5: what comes behind the tag that ends it is the answer."""
    long = " ".join(f"thought{number}" for number in range(60))
    answer = {"behind": {"\n": "It is 33."}, "specials": ("<think>", "</think>")}
    if way == "go":
        model = models.saying(thought(long, "It is thirty-three."), GO, **answer)
    elif way == "opened":
        model = models.saying(f"{long}</think>It is thirty-three.", OPENED.replace("<think>\n", "<think>"), **answer)
    else:
        model = models.saying(thought(long, "It is 33."), "", jinja=THINKING, specials=answer["specials"])
    free = both(models.server, model, thinking=THINK)
    assert free.thinking.strip() == long
    short = both(models.server, model, thinking={"type": "enabled", "budget_tokens": 10})
    assert long.startswith(short.thinking.strip())
    assert 0 < len(short.thinking) < len(long) / 2
    assert (short.text, short.stop) == ("It is 33.", ("end_turn", None))
    assert short.usage["output_tokens"] < free.usage["output_tokens"]


def test_c98_thinking_and_text_and_calls_in_any_order(puppet: Puppet) -> None:
    """C-98: nothing is lost, and every kind begins a block of its own."""
    puppet.plays(
        delta(reasoning_content="a"),
        engine_call(0, "{}", name="get_time", id="call_1"),
        end(),
    )
    first = both(puppet.server, ABLE, tools=[TIME], thinking=THINK)
    assert first.kinds == ["thinking", "tool_use"]
    puppet.plays(
        delta(reasoning_content="a"),
        delta(content="b"),
        delta(reasoning_content="c"),
        delta(content="d"),
        engine_call(0, "{}", name="get_time", id="call_1"),
        end(),
    )
    told = both(puppet.server, ABLE, tools=[TIME], thinking=THINK)
    assert [block.get("thinking") or block.get("text") or block["name"] for block in told.content] == [
        *"abcd",
        "get_time",
    ]
    before = [a["delta"]["type"] for a, b in itertools.pairwise(told.events) if b["type"] == "content_block_stop"]
    assert before == ["signature_delta", "text_delta", "signature_delta", "text_delta", "input_json_delta"]
    starts = [event["content_block"] for event in told.events if event["type"] == "content_block_start"]
    assert [start.get("thinking", start.get("text", start.get("input"))) for start in starts] == ["", "", "", "", {}]


def test_c96_thinking_text_and_a_call_in_one_stream(models: Models) -> None:
    """C-96, with the one above: the order is checked where the pieces are put together.

    C-97: what Anthropic's client makes of them is in `tests/clients/test_anthropic_sdk.py`.
    """
    model = clerk(models, "go", thought("Hmm.", "Let me see. ") + PARIS)
    told = both(models.server, model, tools=[WEATHER], thinking=THINK)
    assert told.kinds == ["thinking", "text", "tool_use"]
    assert told.calls == [("get_weather", {"city": "Paris"})]


# --- counting --------------------------------------------------------------------------------------------------------

LOOK = [user(image("red"), text("What is it?")), assistant(text("Red.")), user(image("blue"), text("And this [img]?"))]
ROUND = [*HI, assistant({"type": "tool_use", "id": "a", "name": "get_time", "input": {}}), result("a", "noon")]
SHOWN = [*ROUND[:2], user({"type": "tool_result", "tool_use_id": "a", "content": [text("A clock:"), image("blue")]})]
BEGUN = "<s>{{ range .Messages }}{{ .Content }}{{ end }}:"
"""Writes the token that the engine puts before every text by itself."""


def counted(models: Models, case: str) -> tuple[str, Any, dict[str, Any]]:
    """A model, messages, and what else is said, of one kind of prompt."""
    match case:
        case "Jinja":
            return S, HI, {"system": "Be brief."}
        case "Jinja, tools":
            return models.saying(TALE, "", jinja=HERMES), ROUND, {"tools": [WEATHER, TIME]}
        case "Jinja, no tools":
            more = {"tools": [WEATHER, TIME], "tool_choice": {"type": "none"}}
            return models.saying(TALE, "", jinja=HERMES), ROUND, more
        case "Jinja, thinking":
            return models.saying(thought("Hmm.", TALE), "", jinja=THINKING), HI, {"thinking": THINK}
        case "Jinja, a call that must come":
            more = {"tools": [WEATHER], "tool_choice": {"type": "any"}, "thinking": THINK}
            return models.saying(thought("Hmm.", PARIS), "", jinja=THINKING), HI, more
        case "Go":
            return models.smollm(TAGGED), HI, {"system": "Be brief."}
        case "Go, tools":
            return models.smollm(TAGGED), ROUND, {"tools": [WEATHER, TIME]}
        case "Go, two runs":
            more = {"thinking": THINK, "output_config": {"format": {"type": "json_schema", "schema": ANIMAL}}}
            return models.saying(thought("Hmm.", TALE), GO), HI, more
        case "Go, a budget":
            return models.saying(thought(TALE, "Yes."), GO), HI, {"thinking": {"type": "enabled", "budget_tokens": 3}}
        case _:
            return models.saying(TALE, BEGUN), HI, {}


ANIMAL = {
    "type": "object",
    "properties": {"legs": {"enum": [2, 4]}},
    "required": ["legs"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "case",
    [
        "Jinja",
        "Jinja, tools",
        "Jinja, no tools",
        "Jinja, thinking",
        "Jinja, a call that must come",
        "Go",
        pytest.param("Go, tools", marks=pytest.mark.heavy),
        "Go, two runs",
        "Go, a budget",
        "Go, with the first token",
    ],
)
def test_c99_c100_the_prompt_is_counted_alike_before_and_behind_the_answer(models: Models, case: str) -> None:
    """C-99, C-100."""
    model, messages, more = counted(models, case)
    tokens = count(models.server, model, messages, **more)
    for _ in range(2):  # the second time the prompt comes from the cache
        message = say(models.server, model, messages, stream=True, max_tokens=200, **more)
        begun = message.events[0]["message"]["usage"]
        assert begun["input_tokens"] == message.usage["input_tokens"]
        assert input_tokens(begun) == message.input_tokens == tokens


@pytest.mark.parametrize("way", ["the engine's template", "Go"])
def test_c100_pictures_are_counted_as_the_engine_counts_them(server: Server, tiny_eyes: str, way: str) -> None:
    """C-99, C-100: alone, beside tools, and in what a tool gave."""
    own = {"template": SEES} if way == "Go" else {"info": {"capabilities": ["completion", "vision", "tools"]}}
    model = make(server, f"tiny-eyes-counted-{way[:2].lower()}", from_=tiny_eyes, **own)
    counts = []
    for messages, more in (
        (HI, {}),
        (LOOK[:1], {}),
        (LOOK, {}),
        (LOOK, {"tools": [WEATHER, TIME], "system": "Look."}),
        (SHOWN, {"tools": [WEATHER, TIME]}),
    ):
        counts.append(count(server, model, messages, **more))
        told = say(server, model, messages, stream=True, max_tokens=2, **more)
        assert told.input_tokens == input_tokens(told.events[0]["message"]["usage"]) == counts[-1]
    assert counts[:4] == sorted(set(counts[:4])), "pictures and tools take their room"


def test_c100_counting_generates_nothing(puppet: Puppet) -> None:
    puppet.plays(**{"v1/chat/completions/input_tokens": {"body": {"input_tokens": 77}}})
    assert count(puppet.server, ABLE, tools=[WEATHER]) == 3
    assert count(puppet.server, SEER, LOOK) == 77
    asked = {request["path"] for request in puppet.record("request")}
    assert "/v1/chat/completions/input_tokens" in asked
    assert not asked & {"/v1/chat/completions", "/completion"}


def test_a_conversation_that_fits_no_window_is_counted_all_the_same(server: Server) -> None:
    """Whoever counts wants to know that."""
    long = [user(text("word " * 3000))]
    assert count(server, S, long, options={"num_ctx": 512}) > 3000


def test_what_cannot_be_counted(server: Server) -> None:
    path = "/v1/messages/count_tokens"
    assert refused(server.post(path, {"messages": HI})) == "model is required"
    assert refused(server.post(path, {"model": S})) == "messages is required"
    missing = server.post(path, {"model": "nope", "messages": HI})
    assert (missing.status, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert refused(server.post(path, {"model": S, "messages": [user(image())]}))


# --- forms of answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"tools": [WEATHER]}], ids=["alone", "with tools"])
def test_c101_an_answer_in_the_form_of_a_schema(server: Server, caller: str, more: dict[str, Any]) -> None:
    """Partly C-101: `messages.parse` is in `tests/clients`."""
    form = {"type": "json_schema", "schema": ANIMAL}
    for place in ({"output_config": {"format": form}}, {"output_format": form}):
        assert json.loads(both(server, caller, **place, **more).text)["legs"] in (2, 4)
    said = refused(ask(server, caller, output_config={"format": {"type": "json_schema", "schema": {"type": "tree"}}}))
    assert said


# --- the list of models ----------------------------------------------------------------------------------------------

VERSION = {"anthropic-version": "2023-06-01"}


def test_c22_models_in_anthropics_form(server: Server) -> None:
    """Partly C-22: the client is in `tests/clients`."""
    native = server.get("/api/tags").json()["models"]
    whole = server.get("/v1/models?limit=1000", headers=VERSION).json()
    assert [each["id"] for each in whole["data"]] == [each["name"] for each in native]
    assert (whole["has_more"], whole["first_id"], whole["last_id"]) == (
        False,
        native[0]["name"],
        native[-1]["name"],
    )
    for each in whole["data"]:
        assert each["type"] == "model"
        assert each["display_name"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", each["created_at"])
        assert server.get(f"/v1/models/{each['id']}", headers=VERSION).json() == each
    (small,) = [each for each in whole["data"] if each["id"] == S]
    assert small["max_input_tokens"] == 8192


def test_c22_pages_of_models(server: Server) -> None:
    """Partly C-22."""
    ids = [each["name"] for each in server.get("/api/tags").json()["models"]]
    seen, after = [], ""
    while True:
        page = server.get(f"/v1/models?limit=1{after}", headers=VERSION).json()
        seen += [each["id"] for each in page["data"]]
        assert page["first_id"] == page["last_id"] == seen[-1]
        if not page["has_more"]:
            break
        after = f"&after_id={page['last_id']}"
    assert seen == ids
    before = server.get(f"/v1/models?limit=1&before_id={ids[-1]}", headers=VERSION).json()
    assert [each["id"] for each in before["data"]] == [ids[-2]]
    for query in ("limit=0", "limit=1001", "limit=x", "after_id=nope"):
        assert refused(server.get(f"/v1/models?{query}", headers=VERSION))


def test_models_that_are_not_there_in_anthropics_form(server: Server) -> None:
    reply = server.get("/v1/models/nope", headers=VERSION)
    body = reply.json()
    assert (reply.status, body["error"]["type"]) == (404, "not_found_error")
    assert body["request_id"] == reply.headers["request-id"]
    assert "nope" in body["error"]["message"]
    assert refused(server.get("/v1/models/a%2F%2Fb", headers=VERSION))

"""Chats through the engine: it renders each model's Jinja and reads what the model says, which is what a test wants.

Sources: modelfile-templates §3.4, §8.1, §8.2; native-api §2.4, §2.5, §2.7, §3.8.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.server.engine_chat import HERE
from tests.fake_llama_server import install, read_record
from tests.running import Reply, Server, running
from tests.server.go_models import Answer, Models, function
from tests.server.jinja_templates import (
    ALTERNATING,
    ASKED,
    FORMLESS,
    HARMONY,
    HERMES,
    LLAMA,
    NINE,
    OPENED,
    STRICT,
    THINKING,
    XML,
)

ADD = function("add", a={"enum": [1]}, b={"enum": [22]}, required=["a", "b"])
NAMED = {"type": "function", "function": {"name": "add"}}
ONE = ("add", {"a": 1, "b": 22})
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 22}}\n</tool_call>'
THOUGHT = "<think>\nI muse on this.\n</think>\n\n"
MUSED = "I muse on this.\n"
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
ONLY_WHY = {"type": "object", "properties": {"x": {"enum": ["why"]}}, "required": ["x"], "additionalProperties": False}
OUT_OF_FORM = "the model did not keep to the form of its chat template"
SAMPLED = {"temperature": 1, "seed": 3, "num_predict": 400}
"""A parrot whose words are forbidden knows nothing else: any letter is as good as another then."""
HI = ({"role": "user", "content": "Hi"},)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of our own: these models are for nobody else."""
    folder = tmp_path_factory.mktemp("engine-chat")
    with running(folder, folder / "models", OLLAMA_CONTEXT_LENGTH="4096") as started:
        yield started


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("parrots"))


def saying(models: Models, script: str, jinja: str, **parrot: Any) -> str:
    return models.saying(script, "", jinja=jinja, **parrot)


def chat(models: Models, model: str, messages: Any = HI, **body: Any) -> Reply:
    options = {**SAMPLED, **body.pop("options", {})}
    body = {"model": model, "messages": list(messages), "options": options, **body}
    return models.server.post("/api/chat", body)


def answered(models: Models, model: str, messages: Any = HI, **body: Any) -> Answer:
    return Answer(chat(models, model, messages, **body))


def rendered(models: Models, model: str, messages: Any = HI, **body: Any) -> str:
    reply = chat(models, model, messages, _debug_render_only=True, **body)
    assert reply.status == 200, reply.body
    return str(reply.json()["_debug_info"]["rendered_template"])


def turn(role: str, content: str = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def calling(*arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return turn(
        "assistant", tool_calls=[{"function": {"name": "add", "arguments": made}} for made in arguments], **more
    )


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jinja", "script", "behind"),
    [
        pytest.param(THINKING, "The answer.", {"t": f"{THOUGHT}The longer answer."}, id="begun by the model"),
        pytest.param(OPENED, f"{MUSED}</think>\n\nThe answer.", {}, id="begun by the prompt"),
    ],
)
def test_n93_thinking_is_on_unless_it_is_switched_off(
    models: Models, jinja: str, script: str, behind: dict[str, str]
) -> None:
    """N-93: the second template cannot be told; what its model thinks is left out."""
    model = saying(models, script, jinja, behind=behind)
    for streamed in (True, False):
        thought = answered(models, model, stream=streamed)
        assert thought.thinking == MUSED
        assert thought.content in ("The answer.", "The longer answer.")
        answer = answered(models, model, stream=streamed, think=False)
        assert not any("thinking" in message for message in answer.messages)
        assert answer.content == "The answer."


def test_n94_thinking_comes_first(models: Models) -> None:
    answer = answered(models, saying(models, f"{THOUGHT}The answer.", HERMES))
    kinds = ["thinking" if "thinking" in line["message"] else "content" for line in answer.lines]
    assert len(kinds) > 4
    assert kinds == sorted(kinds, reverse=True)
    assert all(line["message"]["content"] == "" for line in answer.lines if "thinking" in line["message"])


def test_an_answer_is_never_all_left_out(models: Models) -> None:
    """A model that does not think, under a template that cannot be told."""
    model = saying(models, "Just an answer.", OPENED)
    assert answered(models, model).parts == ("Just an answer.", "", [])
    assert answered(models, model, think=False).parts == ("", "Just an answer.", [])


def test_levels_are_thinking_where_the_template_knows_no_more(models: Models) -> None:
    model = saying(models, "The answer.", THINKING)
    for level in ("low", "medium", "high", "max"):
        assert rendered(models, model, think=level) == rendered(models, model, think=True)
    assert rendered(models, model, think=False) != rendered(models, model, think=True)


# --- form ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jinja", "script"),
    [(HERMES, f"{THOUGHT}The answer."), (OPENED, f"{MUSED}</think>\n\nThe answer.")],
    ids=["begun by the model", "begun by the prompt"],
)
def test_n95_the_form_is_for_the_answer(models: Models, jinja: str, script: str) -> None:
    model = saying(models, script, jinja)
    for think, tools in itertools.product((None, True, False), ([], [ADD])):
        answer = answered(models, model, format=ONLY_WHY, tools=tools, think=think)
        assert json.loads(answer.content) == {"x": "why"}
        assert answer.thinking == ("" if think is False else MUSED)


@pytest.mark.parametrize("jinja", [HERMES, LLAMA, FORMLESS, HARMONY])
def test_a_form_beside_tools(models: Models, jinja: str) -> None:
    """The engine forgets the form, or fails, where a template knows no calls."""
    model = saying(models, "Just an answer.", jinja)
    for form in ({"format": ONLY_WHY}, {"options": {"grammar": r'root ::= "{\"x\":\"why\"}"'}}):
        answer = answered(models, model, tools=[ADD], **form)
        assert json.loads(answer.content) == {"x": "why"}
        assert not answer.calls


def test_a_call_needs_no_form(models: Models) -> None:
    answer = answered(models, saying(models, THOUGHT + CALL, HERMES), format=ONLY_WHY, tools=[ADD])
    assert answer.parts == (MUSED, "", [ONE])


@pytest.mark.parametrize("jinja", [HERMES, OPENED])
def test_a_grammar_is_for_the_answer(models: Models, jinja: str) -> None:
    script = f"{THOUGHT}The answer." if jinja is HERMES else f"{MUSED}</think>\n\nThe answer."
    answer = answered(models, saying(models, script, jinja), options={"grammar": 'root ::= "yes" | "no"'})
    assert answer.thinking == MUSED
    assert answer.content in ("yes", "no")


def test_an_answer_that_ends_in_its_thinking_gets_its_form(models: Models) -> None:
    answer = answered(models, saying(models, MUSED, OPENED), tools=[ADD], format=ONLY_WHY)
    assert answer.thinking == MUSED
    assert json.loads(answer.content) == {"x": "why"}


# --- calls -----------------------------------------------------------------------------------------------------------

FORMS = {
    "Hermes": (HERMES, f"Let me see.\n{CALL}", "Let me see.\n"),
    "Llama": (LLAMA, '{"name": "add", "parameters": {"a": 1, "b": 22}}', ""),
    "Mistral": (NINE, '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": 22}, "id": "abcdefghi"}]', ""),
}


@pytest.mark.parametrize(("jinja", "script", "before"), FORMS.values(), ids=FORMS)
def test_n96_n97_calls_in_each_form(models: Models, jinja: str, script: str, before: str) -> None:
    """N-96, N-97, T-83: the engine's ids become ours, as on Go templates (`test_go_templates`)."""
    model = saying(models, script, jinja)
    streamed = answered(models, model, tools=[ADD])
    assert streamed.parts == ("", before, [ONE])
    assert streamed.last["done_reason"] == "stop"
    (call,) = streamed.raw_calls
    assert set(call) == {"id", "function"}
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    assert call["function"]["index"] == 0
    whole = answered(models, model, tools=[ADD], stream=False)
    assert whole.parts == streamed.parts


def test_each_call_has_a_chunk_of_its_own(models: Models) -> None:
    two = CALL + '\n<tool_call>\n{"name": "neg", "arguments": {"c": 3}}\n</tool_call>'
    tools = [ADD, function("neg", c={"enum": [3]}, required=["c"])]
    model = saying(models, two, HERMES)
    answer = answered(models, model, tools=tools)
    assert answer.calls == [ONE, ("neg", {"c": 3})]
    made = [line["message"]["tool_calls"] for line in answer.lines if "tool_calls" in line["message"]]
    assert [[call["function"]["index"] for call in calls] for calls in made] == [[0], [1]]
    assert len({call["id"] for call in answer.raw_calls}) == 2
    assert not any(tag in answer.content for tag in TAGS)


def test_without_tools_a_call_is_text(models: Models) -> None:
    model = saying(models, f"Let me see.\n{CALL}", HERMES)
    for more in ({}, {"tools": [ADD], "tool_choice": "none"}):
        assert answered(models, model, **more).parts == ("", f"Let me see.\n{CALL}", [])
    assert "Call tools so" not in rendered(models, model, tools=[ADD], tool_choice="none")


@pytest.mark.parametrize("jinja", [HERMES, OPENED, LLAMA, FORMLESS, HARMONY, NINE, XML])
def test_a_call_that_must_come_comes(models: Models, jinja: str) -> None:
    """Whatever the template knows of calls, and however little the model wants to."""
    script = f"{MUSED}</think>\n\nThe answer." if jinja in (OPENED, XML) else "Use {curly} words."
    model = saying(models, script, jinja)
    body = {"tools": [ADD, function("neg", c={"enum": [3]}, required=["c"])], "options": {"num_predict": 800}}
    for choice, think in itertools.product(("required", NAMED), (None, False)):
        answer = answered(models, model, tool_choice=choice, think=think, **body)
        assert answer.calls
        assert all(call in (ONE, ("neg", {"c": 3})) for call in answer.calls)
        assert choice == "required" or answer.calls == [ONE]
        assert answer.last["done_reason"] == "stop"


def test_words_before_a_call_that_must_come_are_told(models: Models) -> None:
    model = saying(models, f"Let me see.\n{CALL}", HERMES)
    assert answered(models, model, tools=[ADD], tool_choice="required").parts == ("", "Let me see.\n", [ONE])


# --- answers out of form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("jinja", [HARMONY, LLAMA])
def test_an_answer_out_of_form_is_text(models: Models, jinja: str, streamed: bool) -> None:
    """The engine ends it with an error: at once, or where a brace is no call."""
    rest = "{curly} and {1} here, } fine."
    model = saying(models, f"Use this{rest}", jinja, behind={"s": rest})
    answer = answered(models, model, tools=[ADD], stream=streamed)
    assert answer.content == f"Use this{rest}"
    assert OUT_OF_FORM in answer.last["warnings"][0]


def test_what_the_engine_swallows_is_told_all_the_same(models: Models) -> None:
    """A call in another form than the template's, inside the thinking: the engine drops it without an error."""
    lost = f"{CALL} and what comes behind it is a story of some length, so that nobody can overlook that it is gone."
    long = f"{lost} It goes on for quite a while, with many words that say little, and ends only here, as stories do."
    model = saying(models, f"I muse.{long}", XML, behind={".": long})
    answer = answered(models, model, tools=[ADD])
    assert answer.thinking == f"I muse.{long}"
    assert OUT_OF_FORM in answer.last["warnings"][0]


# --- conversations ---------------------------------------------------------------------------------------------------


def test_n98_calls_and_their_results_in_the_history(models: Models) -> None:
    """N-98, and what each field becomes for the template."""
    model = saying(models, "The answer.", HERMES)
    call = {"id": "call_one", "function": {"name": "add", "arguments": {"b": 22, "a": 1}}}
    asked = turn("assistant", "Let me see.", thinking="I muse.", tool_calls=[call])
    talk = [*HI, asked, turn("tool", "23", tool_name="add", tool_call_id="call_one")]
    prompt = rendered(models, model, talk, tools=[ADD])
    assert "<think>\nI muse.\n</think>\n\nLet me see." in prompt
    assert '<tool_call>\n{"name": "add", "arguments": {"b": 22, "a": 1}}\n</tool_call>' in prompt
    assert '<tool_response of="add" to="call_one">23</tool_response>' in prompt
    assert answered(models, model, talk, tools=[ADD]).content == "The answer."


@pytest.mark.parametrize("named", [{}, {"tool_name": "add"}], ids=["nameless", "named"])
def test_results_find_their_calls_without_ids(models: Models, named: dict[str, str]) -> None:
    """Mistral's templates take nothing but ids of nine characters; native clients send none."""
    model = saying(models, "The answer.", NINE)
    talk = [*HI, calling({"a": 1}, {"a": 2}), turn("tool", "one", **named), turn("tool", "two", **named)]
    prompt = rendered(models, model, talk, tools=[ADD])
    _, first, second = (part.split('"')[0] for part in prompt.split('"id": "')) if '"id": "' in prompt else ("", "", "")
    assert len(first) == len(second) == 9
    assert f'[TOOL_RESULTS]{{"content": "one", "call_id": "{first}"}}[/TOOL_RESULTS]' in prompt
    assert f'[TOOL_RESULTS]{{"content": "two", "call_id": "{second}"}}[/TOOL_RESULTS]' in prompt
    assert answered(models, model, talk, tools=[ADD]).content == "The answer."


def test_the_template_sees_the_whole_schema(models: Models) -> None:
    """N-99, the half about Jinja: the whole schema, in order. Go templates have theirs in their own file."""
    parameters = {
        "type": "object",
        "required": ["z"],
        "properties": {
            "z": {"minimum": 1, "type": "integer", "default": 3},
            "a": {"type": "string", "pattern": "^a", "description": "d"},
        },
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "add", "description": "d", "parameters": parameters}}
    assert json.dumps(parameters) in rendered(models, saying(models, "x", HERMES), tools=[tool])


@pytest.mark.parametrize("jinja", [HERMES, THINKING, OPENED, LLAMA, HARMONY])
def test_a_begun_answer_is_gone_on_with(models: Models, jinja: str) -> None:
    """Whether the model could think or not: what is begun cannot be thought about first."""
    model = saying(models, "wrong", jinja, behind={",": " and so on."})
    for think in (None, False, *([True] if jinja is not LLAMA else [])):
        answer = answered(models, model, [*HI, turn("assistant", "Well,")], think=think)
        assert answer.parts == ("", " and so on.", [])


def test_two_begun_answers_are_one(models: Models) -> None:
    model = saying(models, "wrong", HERMES, behind={",": " and so on."})
    talk = [*HI, turn("assistant", "Well."), turn("assistant", "Then,")]
    assert rendered(models, model, talk).endswith("Well.\n\nThen,")
    assert answered(models, model, talk).content == " and so on."


def test_a_call_without_its_result_cannot_be_gone_on_with(models: Models) -> None:
    reply = chat(models, saying(models, "The answer.", HERMES), [*HI, calling({"a": 1})], tools=[ADD])
    assert reply.status == 400
    assert "tool calls" in reply.error


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([turn("critic", "Hm."), *HI], "Unknown role"),
        ([*HI, turn("assistant", "Yes."), turn("system", "Be brief."), *HI], "System goes first"),
    ],
)
def test_what_a_template_refuses_is_the_clients_to_know(models: Models, messages: list[Any], error: str) -> None:
    """A template that is less strict has it in its prompt."""
    reply = chat(models, saying(models, "The answer.", STRICT), messages)
    assert reply.status == 400
    assert error in reply.error
    easy = saying(models, "The answer.", HERMES)
    assert "Hm." in rendered(models, easy, messages) or "Be brief." in rendered(models, easy, messages)
    assert answered(models, easy, messages).content == "The answer."


@pytest.mark.parametrize("talk", [[turn("user")], [*HI, turn("assistant"), *HI], [*HI, turn("assistant")]])
def test_empty_messages_are_messages(models: Models, talk: list[Any]) -> None:
    assert answered(models, saying(models, "The answer.", HERMES), talk).content == "The answer."


def test_a_result_that_is_longer_than_the_context(models: Models) -> None:
    model = saying(models, "The answer.", HERMES)
    reply = chat(models, model, [*HI, calling({"a": 1}), turn("tool", "word " * 2000)], tools=[ADD])
    assert reply.status == 400
    assert "context" in reply.error


# --- what the engine is asked ----------------------------------------------------------------------------------------


class Scripted:
    """A server whose engine answers as it is told, and writes down what it was asked."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.models = Models(server, folder)
        self._folder = folder

    def model(self, jinja: str, *steps: dict[str, Any]) -> str:
        install(self._folder, {"replies": {"/v1/chat/completions": steps}} if steps else None)
        return saying(self.models, "x", jinja)

    def asked(self, path: str = "/v1/chat/completions") -> dict[str, Any]:
        """The last request."""
        return dict([entry["body"] for entry in read_record(self._folder, "request") if entry["path"] == path][-1])

    def begun(self) -> dict[str, str]:
        """The answer that the last prompt went on with, without the mark for its end."""
        *_, last = self.asked("/apply-template")["messages"]
        return {field: text.removesuffix(HERE) for field, text in last.items()}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    folder = tmp_path_factory.mktemp("scripted")
    with running(folder, folder / "models", LLAMERO_LLAMA_SERVER=str(install(folder))) as server:
        yield Scripted(server, folder)


def delta(**fields: Any) -> dict[str, Any]:
    return {"send": {"choices": [{"delta": fields, "finish_reason": None}]}}


def call(index: int, text: str, name: str) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "id": f"id{index}", "function": {"name": name, "arguments": text}}])


UNREADABLE = {"send": {"error": {"code": 500, "message": "does not match the expected format", "type": "server_error"}}}


@pytest.mark.parametrize(
    ("jinja", "think", "told"),
    [
        ("{% if reasoning_effort == 'xhigh' %}{% endif %}<think>", "high", {"reasoning_effort": "xhigh"}),
        ("<|channel|>{{ reasoning_effort }}", "max", {"reasoning_effort": "high"}),
        ("<think>{{ reasoning_strength }}</think>", False, {"reasoning_strength": "none"}),
    ],
    ids=["qwen3.8", "gpt-oss", "glimmer"],
)
def test_t99_think_in_the_words_of_the_template(scripted: Scripted, jinja: str, think: Any, told: Any) -> None:
    """T-99: what reaches the engine."""
    model = scripted.model(jinja.replace("<think>", "<think></think>", 1) if "</think>" not in jinja else jinja)
    answered(scripted.models, model, think=think)
    assert scripted.asked()["chat_template_kwargs"] == {"enable_thinking": bool(think), **told}


def test_t99_nothing_is_said_to_a_model_that_does_not_think(scripted: Scripted) -> None:
    """T-99."""
    answered(scripted.models, scripted.model(LLAMA))
    assert "chat_template_kwargs" not in scripted.asked()


def test_t100_a_round_trip(scripted: Scripted) -> None:
    """T-100."""
    asked = {"id": "call_one", "function": {"name": "add", "arguments": {"b": 22, "a": 1}}}
    talk = [
        *HI,
        turn("assistant", thinking="I muse.", tool_calls=[asked]),
        turn("tool", "23", tool_name="add", tool_call_id="call_one"),
    ]
    answered(scripted.models, scripted.model(THINKING), talk, tools=[ADD])
    assert scripted.asked()["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "I muse.",
            "tool_calls": [
                {"id": "call_one", "type": "function", "function": {"name": "add", "arguments": '{"b":22,"a":1}'}}
            ],
        },
        {"role": "tool", "content": "23", "name": "add", "tool_call_id": "call_one"},
    ]


def test_an_answer_that_breaks_off_in_its_thinking_goes_on_there(scripted: Scripted) -> None:
    model = scripted.model(THINKING, delta(reasoning_content="I "), delta(reasoning_content="muse"), UNREADABLE)
    answer = answered(scripted.models, model, options={"num_predict": 10})
    assert scripted.begun() == {"role": "assistant", "content": "", "reasoning_content": "I muse"}
    assert answer.parts == ("I museHello there", "", []), "the thinking was not over"
    assert OUT_OF_FORM in answer.last["warnings"][0]


def test_an_answer_that_breaks_off_behind_its_thinking_goes_on_there(scripted: Scripted) -> None:
    """The call that had begun was not told: it comes again, as text."""
    model = scripted.model(
        THINKING, delta(reasoning_content="I muse"), delta(content="So: "), call(0, "{bad", "add"), UNREADABLE
    )
    answer = answered(scripted.models, model, tools=[ADD])
    assert scripted.begun() == {"role": "assistant", "content": "So: ", "reasoning_content": "I muse"}
    assert answer.parts == ("I muse", "So: Hello there", [])


def test_an_answer_that_breaks_off_behind_a_call_ends_there(scripted: Scripted) -> None:
    """Nobody knows how the model wrote the call. What is left of the next one is told."""
    model = scripted.model(HERMES, call(0, '{"a": 1, "b": 22}', "add"), call(1, '{"a": ', "add"), UNREADABLE)
    answer = answered(scripted.models, model, tools=[ADD])
    assert answer.parts == ("", 'add{"a": ', [ONE])
    assert OUT_OF_FORM in answer.last["warnings"][0]


def asks_for(number: int) -> list[dict[str, Any]]:
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 22}}}
    return [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": f"result {number:03} " + "." * 90}]


def says(number: int) -> list[dict[str, Any]]:
    content = f"turn {number:03} " + "." * 90
    return [{"role": "user", "content": content}, {"role": "assistant", "content": content}]


@pytest.mark.parametrize(
    ("jinja", "messages", "tools"),
    [
        pytest.param(ASKED, [*HI, *itertools.chain(*map(asks_for, range(60)))], [ADD], id="calls without end"),
        *(
            pytest.param(
                ALTERNATING, [*itertools.chain(*map(says, range(30 + more))), *HI], [], id=f"{30 + more} turns"
            )
            for more in (0, 1)
        ),
    ],
)
def test_a_shortened_conversation_begins_as_its_template_wants(
    models: Models, jinja: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> None:
    """§2.9: the oldest messages go. Agents whose one question went with them would get an error for ever."""
    model = saying(models, "The answer.", jinja)
    shown = chat(models, model, messages, tools=tools, _debug_render_only=True).json()["_debug_info"]
    answer = answered(models, model, messages, tools=tools)
    assert answer.content == "The answer."
    assert "oldest messages left out" in answer.last["warnings"][-1]
    newest = messages[-1]["content"]
    assert newest in shown["rendered_template"]
    assert "000 " not in shown["rendered_template"]

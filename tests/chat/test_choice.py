"""`tool_choice` and `parallel_tool_calls`, and the constraints they become. compat-api §5.3, native-api §2.7."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llamero.chat.choice import MayCall, ToolChoice, may_call, must_call, parse_choice
from llamero.chat.grammar import check_grammar
from llamero.chat.schema import check_schema
from llamero.chat.tools import ToolParser
from llamero.engines.wire import Wire
from llamero.errors import BadRequest
from llamero.messages import Done, Text, ToolCall
from tests.chat.recognizer import Grammar
from tests.engines.starting import real_engine


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
WEATHER = tool("weather", **CITY)
STOP = {"type": "function", "function": {"name": "stop"}}
TOOLS = [WEATHER, STOP]
NAMED = {"type": "function", "function": {"name": "stop"}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


# --- the fields of a request ---


@pytest.mark.parametrize(
    ("choice", "parallel", "parsed"),
    [
        (None, None, ToolChoice()),
        ("auto", True, ToolChoice()),
        ("none", None, ToolChoice("none")),
        ("required", None, ToolChoice("required")),
        ("required", False, ToolChoice("required", is_parallel=False)),
        ("any", None, ToolChoice("required")),
        ({"type": "none"}, None, ToolChoice("none")),
        (NAMED, True, ToolChoice("required", frozenset({"stop"}), is_parallel=False)),
        ({"type": "function", "name": "stop"}, None, ToolChoice("required", frozenset({"stop"}), is_parallel=False)),
        (allowed("auto", "stop"), None, ToolChoice("auto", frozenset({"stop"}))),
        (allowed("required", "stop", "weather"), None, ToolChoice("required", frozenset({"stop", "weather"}))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "stop"}]},
            None,
            ToolChoice("required", frozenset({"stop"})),
        ),
    ],
)
def test_what_the_fields_say(choice: Any, parallel: Any, parsed: ToolChoice) -> None:
    assert parse_choice(choice, parallel, TOOLS) == parsed


@pytest.mark.parametrize(
    ("choice", "parallel", "tools", "words"),
    [
        ("stop", None, TOOLS, "must be"),
        ("", None, TOOLS, "must be"),
        (True, None, TOOLS, "must be"),
        ([], None, TOOLS, "must be"),
        ({}, None, TOOLS, "must be"),
        ({"type": "function"}, None, TOOLS, "must be"),
        ({"type": "function", "function": {"name": 5}}, None, TOOLS, "must be"),
        ({"type": "function", "function": "stop"}, None, TOOLS, "must be"),
        ({"type": "allowed_tools"}, None, TOOLS, "must be"),
        (allowed("none", "stop"), None, TOOLS, "must be"),
        (allowed("auto"), None, TOOLS, "must be"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["stop"]}}, None, TOOLS, "must be"),
        ({"type": "function", "function": {"name": "go"}}, None, TOOLS, '"go" is not among the tools'),
        (allowed("auto", "stop", "go"), None, TOOLS, '"go" is not among the tools'),
        ("required", None, [], "no tools"),
        ({"type": "any"}, None, [], "no tools"),
        (NAMED, None, [], "no tools"),
        (None, "yes", TOOLS, "parallel_tool_calls"),
        (None, 1, TOOLS, "parallel_tool_calls"),
    ],
)
def test_what_the_fields_must_not_say(choice: Any, parallel: Any, tools: list[Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        parse_choice(choice, parallel, tools)
    assert caught.value.status == 400


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}])
def test_without_tools_nothing_need_be_chosen(choice: Any) -> None:
    assert parse_choice(choice, None, []).offered([]) == ()


@pytest.mark.parametrize(
    ("choice", "body"),
    [
        (ToolChoice(), {"tools": TOOLS, "parallel_tool_calls": True}),
        (ToolChoice(is_parallel=False), {"tools": TOOLS, "parallel_tool_calls": False}),
        (ToolChoice("none"), {}),
        (ToolChoice("required"), {"tools": TOOLS, "parallel_tool_calls": True, "tool_choice": "required"}),
        (
            ToolChoice("required", frozenset({"stop"}), is_parallel=False),
            {"tools": [STOP], "parallel_tool_calls": False, "tool_choice": "required"},
        ),
    ],
)
def test_what_an_engine_that_renders_is_told(choice: ToolChoice, body: dict[str, Any]) -> None:
    """The engine knows three words and takes anything else for `auto`: one tool is forced by being alone."""
    assert choice.for_chat(TOOLS) == body


# --- a call that must come ---


@pytest.mark.parametrize(
    ("tag", "prefix", "found_by"),
    [
        ("<tool_call>", "<tool_call>", "{"),
        ("[TOOL_CALLS] [", "[TOOL_CALLS]", "["),
        ("functools[", "functools", "["),
        ("Action: ```json", "Action: ```json", "{"),
        ("{", "", "{"),
        ("[", "", "["),
        ("", "", "{"),
    ],
)
def test_a_forced_call_goes_on_from_the_tag_of_the_template(tag: str, prefix: str, found_by: str) -> None:
    made = must_call(ToolChoice("required"), TOOLS, tag)
    assert (made.prefix, made.tag) == (prefix, found_by)
    assert made.schema.get("type") == ("array" if found_by == "[" else None)


def test_the_schema_of_a_forced_call_admits_the_tools_and_their_arguments_alone() -> None:
    schema = must_call(ToolChoice("required"), TOOLS, "").schema
    check_schema(schema)
    calls = {call["properties"]["name"]["const"]: call for call in schema["anyOf"]}
    assert set(calls) == {"weather", "stop"}
    assert calls["weather"]["properties"]["arguments"] == {**CITY, "additionalProperties": False}
    assert calls["stop"]["properties"]["arguments"] == {"type": "object", "additionalProperties": False}
    assert all(call["required"] == ["name", "arguments"] for call in calls.values())
    assert all(call["additionalProperties"] is False for call in calls.values())


@pytest.mark.parametrize(
    ("parameters", "takes_nothing"),
    [
        ({}, True),
        ({"type": "object", "properties": {}}, True),
        ({"type": "object", "properties": {}, "required": []}, True),
        ({"type": "object", "properties": {}, "required": None}, True),
        ({"type": "object", "additionalProperties": {}}, False),
        ({"type": "object", "required": ["a"]}, False),
    ],
)
def test_a_tool_that_names_no_parameters_takes_none(parameters: dict[str, Any], takes_nothing: bool) -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": parameters}}]
    arguments = must_call(ToolChoice("required"), tools, "").schema["properties"]["arguments"]
    assert (arguments.get("additionalProperties") is False) is takes_nothing


def test_a_named_tool_is_the_only_one() -> None:
    schema = must_call(parse_choice(NAMED, None, TOOLS), TOOLS, "[").schema
    assert schema["items"]["properties"]["name"] == {"const": "stop"}
    assert (schema["minItems"], schema["maxItems"]) == (1, 1)


def test_definitions_of_different_tools_do_not_meet() -> None:
    """Both call theirs `#/$defs/p`; a property of the name `$ref` is no reference."""
    tools = [
        tool(
            name,
            type="object",
            properties={"p": {"$ref": "#/$defs/p"}, "$ref": {"type": "null"}},
            **{"$defs": {"p": {"type": kind}}},
        )
        for name, kind in (("a", "string"), ("b", "integer"))
    ]
    schema = must_call(ToolChoice("required"), tools, "").schema
    check_schema(schema)
    for call, kind in zip(schema["anyOf"], ("string", "integer"), strict=True):
        properties = call["properties"]["arguments"]["properties"]
        assert schema["$defs"][properties["p"]["$ref"].removeprefix("#/$defs/")] == {"type": kind}
        assert properties["$ref"] == {"type": "null"}


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "/properties/a/$ref: refers to"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "/properties/a/type: is none of"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "required"),
        ({"type": "string"}, "/type: arguments are always an object"),
        ([], None),
        ("text", "must be a JSON Schema object"),
    ],
)
def test_parameters_that_nothing_satisfies_are_refused_by_the_name_of_the_tool(
    parameters: Any, fault: str | None
) -> None:
    tools = [{"type": "function", "function": {"name": "bad", "parameters": parameters}}]
    if fault is None:
        must_call(ToolChoice("required"), tools, "")
        return
    with pytest.raises(BadRequest, match='invalid parameters of tool "bad": ') as caught:
        must_call(ToolChoice("required"), tools, "")
    assert fault in str(caught.value)


def test_what_the_engine_does_not_enforce_is_told() -> None:
    tools = [tool("a", type="object", properties={"x": {"not": {"type": "string"}}})]
    assert must_call(ToolChoice("required"), tools, "").warnings == ('tool "a": /properties/x/not is not enforced',)


# --- a call that may come ---


def grammar_of(choice: ToolChoice, tools: list[Any] = TOOLS, tag: str = "<tool_call>") -> MayCall:
    made = may_call(choice, tools, tag)
    assert made is not None
    check_grammar(made.grammar)
    return made


def called(name: str, arguments: Any, key: str = "arguments") -> str:
    return json.dumps({"name": name, key: arguments})


@pytest.mark.parametrize(
    ("text", "is_admitted"),
    [
        (f"<tool_call>\n{called('weather', {'city': 'Rome', 'days': 3})}\n</tool_call>", True),
        (f"<tool_call>{called('weather', {'city': 'Rome'}, 'parameters')}", True),
        (f"<tool_call>{called('stop', {})}</tool_call>\n<tool_call>{called('stop', {})}</tool_call>", True),
        ('<tool_call>weather({"city": "Rome"})', True),
        ("<tool_call> is how I call tools", True),
        (f"<tool_call>{called('weather', {})}", False),
        (f"<tool_call>{called('weather', {'city': 1})}", False),
        (f"<tool_call>{called('weather', {'city': 'Rome', 'country': 'it'})}", False),
        (f"<tool_call>{called('stop', {'now': True})}", False),
        (f"<tool_call>{called('go', {})}", False),
        ('<tool_call>{"name": "stop"}', False),
        ("<tool_call>{", False),
        (called("stop", {}), False),
    ],
)
def test_behind_the_tag_only_calls_have_braces(text: str, is_admitted: bool) -> None:
    assert Grammar(grammar_of(ToolChoice()).grammar).admits(text) is is_admitted


def test_without_parallel_calls_there_is_one_at_most() -> None:
    one = f"<tool_call>{called('stop', {})}</tool_call>"
    grammar = Grammar(grammar_of(ToolChoice(is_parallel=False)).grammar)
    assert grammar.admits(one)
    assert not grammar.admits(one + one)


@pytest.mark.parametrize(
    ("tag", "awaited"),
    [
        ("<tool_call>", "<tool_call>"),
        ("[TOOL_CALLS] [", "[TOOL_CALLS]"),
        ("<|calls|><|call|>function", "<|calls|>"),
        ("functools[", "functools["),
        ("Action: ```json", "Action: ```json"),
    ],
)
def test_the_engine_waits_for_the_special_token_of_the_tag_or_else_for_the_tag(tag: str, awaited: str) -> None:
    body = grammar_of(ToolChoice(), tag=tag).for_completion()
    assert body.pop("grammar").startswith(f'root ::= "{tag}" '), "what belongs to the tag follows"
    assert body == {
        "grammar_lazy": True,
        "grammar_triggers": [{"type": 1, "value": awaited}],
        "preserved_tokens": [awaited],
    }


BARE = [
    ("{", called("stop", {}), True),
    ("", "  \n" + called("weather", {"city": "Rome"}, "parameters"), True),
    ("[", f"[{called('stop', {})}, {called('stop', {})}]", True),
    ("[", f"[\n    {called('stop', {})}\n]", True),
    ("{", '{"name": "Bob", "parameters": {}}', False),
    ("{", '{"name": "stops", "parameters": {}}', False),
    ("{", f"Sure: {called('stop', {})}", False),
    ("[", called("stop", {}), False),
    ("{", '{"a": {"name": "stop"}}', False),
]


@pytest.mark.parametrize(("tag", "text", "is_call"), BARE)
def test_without_a_tag_it_waits_for_an_answer_that_begins_as_a_call(tag: str, text: str, is_call: bool) -> None:
    made = grammar_of(ToolChoice(), tag=tag)
    [trigger] = made.for_completion()["grammar_triggers"]
    begun = re.fullmatch(trigger["value"], text)
    assert (trigger["type"], begun is not None) == (3, is_call)
    if begun:
        assert Grammar(made.grammar).admits(text[begun.start(1) :])


def test_names_are_no_patterns() -> None:
    odd = [tool("a.b"), tool('say "hi"'), tool("größe+")]
    pattern = grammar_of(ToolChoice(), odd, "{").trigger
    assert all(re.fullmatch(pattern, called(name, {})) for name in ("a.b", 'say "hi"'))
    assert re.fullmatch(pattern, '{"name": "größe+", "parameters": {}}')
    assert not re.fullmatch(pattern, called("a-b", {}))


@pytest.mark.parametrize(
    "call",
    [
        'add\n```json\n{"a": 1}\n```',
        '[ARGS]add[ARGS]{"a": 1}',
        '[\n    {\n        "tool_name": "add",\n        "parameters": {"a": 1}\n    }\n]',
    ],
)
def test_calls_as_families_write_them(call: str) -> None:
    add = tool("add", type="object", properties={"a": {"type": "integer"}}, required=["a"])
    grammar = Grammar(grammar_of(ToolChoice(), [add], "Action:").grammar)
    assert grammar.admits(f"Action:{call}")
    assert not grammar.admits(f"Action:{call.replace('1', 'true')}")
    parser = ToolParser(["add"], "Action:", new_id=str)
    assert parser.feed(f"Action:{call}") + parser.finish() == [ToolCall("add", {"a": 1})]


@pytest.mark.parametrize("choice", [ToolChoice("none"), ToolChoice("required"), ToolChoice(names=frozenset())])
def test_nothing_waits_for_calls_that_cannot_or_must_come(choice: ToolChoice) -> None:
    assert may_call(choice, TOOLS, "<tool_call>") is None


def test_tools_of_odd_schemas_may_still_be_called() -> None:
    """A client that Ollama serves is not refused for a schema that only constrains less: it is warned."""
    made = grammar_of(ToolChoice(), [tool("odd", type="object", properties={"a": {"type": "date"}}), STOP])
    assert Grammar(made.grammar).admits(f"<tool_call>{called('odd', {'a': 1})}")
    assert not Grammar(made.grammar).admits(f"<tool_call>{called('stop', {'a': 1})}")
    [warning] = made.warnings
    assert warning.startswith('invalid parameters of tool "odd": /properties/a/type: ')


def test_schemas_that_are_too_much_for_a_grammar_are_left_out() -> None:
    names = [f"a-rather-long-name-of-a-property-{number}" for number in range(600)]
    made = grammar_of(ToolChoice(), [tool("big", type="object", properties={name: {} for name in names})])
    assert Grammar(made.grammar).admits(f"<tool_call>{called('big', {'b': 1})}")
    assert len(made.warnings) == 1


# --- the real engine ---

SHOTS = 'User: weather?\nAssistant: Sure. <tool_call>\n{"name": "weather"}\n'
"""Teaches the model to write the tag, and a call that is none."""


@pytest.mark.heavy
@pytest.mark.engine
async def test_the_engine_keeps_to_both_constraints(smollm2_gguf: Path) -> None:
    """Partly C-43: forced, a call comes; free, what comes behind the tag is a call of the tool, with its arguments."""
    async with real_engine(smollm2_gguf, ctx_tokens=512) as engine:
        wire = engine.wire
        forced = must_call(ToolChoice("required"), TOOLS, "<tool_call>")
        prompt = f"User: How is the weather in Rome?\nAssistant: {forced.prefix}"
        [call] = await _calls(wire, prompt, forced.tag, forced.for_completion())
        assert call.name in ("weather", "stop")
        assert call.name == "stop" or isinstance(call.arguments["city"], str)

        free = grammar_of(ToolChoice(is_parallel=False))
        prompt = SHOTS * 3 + "User: weather in Rome?\nAssistant: Sure."
        assert await _calls(wire, prompt, "<tool_call>", {}) == []
        [call] = await _calls(wire, prompt, "<tool_call>", free.for_completion())
        assert (call.name, call.arguments["city"]) == ("weather", "Rome")


async def _calls(wire: Wire, prompt: str, tag: str, constraint: dict[str, Any]) -> list[ToolCall]:
    parser = ToolParser(["weather", "stop"], tag, new_id=str)
    body = {"prompt": prompt, "n_predict": 48, "temperature": 0, "stream": True, **constraint}
    events: list[Text | ToolCall] = []
    async for event in wire.complete(body):
        if isinstance(event, Text):
            events += parser.feed(event.text)
        elif isinstance(event, Done):
            events += parser.finish()
    return [event for event in events if isinstance(event, ToolCall)]

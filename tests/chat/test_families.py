"""Raw output of families as our own parsers read it: the part of a client's view that a parser shows.

modelfile-templates §8.3, §8.4.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat.families import FAMILIES, family_parser
from llamero.chat.families.harmony import harmony_names
from llamero.chat.families.literals import Literals
from llamero.chat.pipeline import Parser
from llamero.messages import Text, Think, Thinking, ToolCall
from tests.chat.splitting import Piece, joined, read, read_whole

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "f": {"type": "number"},
                "l": {"type": "array"},
                "t": {"type": "boolean"},
                "o": {"type": ["object", "null"]},
            },
            "required": ["a"],
        },
    },
}
NAMES = [*FAMILIES, "harmony"]


def make(name: str, think: Think = None, **rest: Any) -> Parser:
    parser = family_parser(name, rest.pop("tools", [ADD]), new_id=lambda: "id", think=think, **rest)
    assert parser is not None
    return parser


def answer(name: str, text: str, think: Think = None, **rest: Any) -> list[Piece]:
    return read(lambda: make(name, think, **rest), text)


def call(index: int = 0, **arguments: Any) -> ToolCall:
    return ToolCall("add", arguments, "id", index)


JSON_CALL = '<tool_call>\n{"name":"add","arguments":{"a":1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("name", "think", "text", "events"),
    [
        # partly T-91
        ("qwen3", None, f"Hi {JSON_CALL}\nbye", [Text("Hi"), call(a=1), Text("bye")]),
        ("qwen3", None, f"{JSON_CALL}\n{JSON_CALL}", [call(0, a=1), call(1, a=1)]),
        ("qwen3", None, JSON_CALL.removesuffix("</tool_call>"), [call(a=1)]),
        ("qwen3", None, "<think>hm</think>", [Text("<think>hm</think>")]),
        ("qwen3", None, "<tool_call>{nope}</tool_call> x", [Text("<tool_call>{nope}</tool_call>x")]),
        ("qwen3", None, "<tool_call>{nope}", [Text("<tool_call>{nope}")]),
        ("qwen3", None, " a \n b \n", [Text(" a \n b")]),
        ("qwen3-thinking", True, f"<think>\nhm\n</think>\n\nok {JSON_CALL}", [Thinking("hm"), Text("ok"), call(a=1)]),
        ("qwen3-thinking", True, f"hm {JSON_CALL}", [Thinking("hm"), call(a=1)]),
        ("qwen3-thinking", True, "hm", [Thinking("hm")]),
        ("qwen3-thinking", True, "a</think>b</think><think>c", [Thinking("a"), Text("b</think><think>c")]),
    ],
)
def test_json_in_tags(name: str, think: Think, text: str, events: list[Piece]) -> None:
    assert answer(name, text, think) == events


def xml_call(**parameters: str) -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<tool_call>\n<function=add>\n{inner}</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        # partly T-92
        (
            {"a": "3", "b": "x<y & z", "f": "2.0", "l": "[1,2]", "t": "True"},
            {"a": 3, "b": "x<y & z", "f": 2, "l": [1, 2], "t": True},
        ),
        ({"a": "abc", "new": "5", "b": "null"}, {"a": "abc", "new": "5", "b": None}),
        (
            {"t": "yes", "f": "2.5", "o": '{"k": null}', "l": "(1)"},
            {"t": False, "f": 2.5, "o": {"k": None}, "l": "(1)"},
        ),
        ({"b": "\ntwo\nlines\n", "a": "true"}, {"b": "\ntwo\nlines\n", "a": "true"}),
        ({"f": "1e999"}, {"f": "1e999"}),
        ({}, {}),
    ],
)
def test_types_of_arguments_that_are_written_as_text(parameters: dict[str, str], arguments: dict[str, Any]) -> None:
    [event] = answer("qwen3-coder", xml_call(**parameters))
    assert event == call(**arguments)
    assert isinstance(event, ToolCall)
    assert [type(value) for value in event.arguments.values()] == [type(value) for value in arguments.values()]


@pytest.mark.parametrize(
    "body", ["", "<function=add>", "<function=add><parameter=a>1</function>", "<function=></function>"]
)
def test_xml_that_is_no_call_comes_back(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>"
    assert answer("qwen3-coder", text) == [Text(text)]


def test_qwen35_begins_within_its_thinking() -> None:
    """Partly T-93: a thinking model thinks unless it is told not to."""
    tagged = xml_call(a="1")
    assert answer("qwen3.5", f"<think>\nhm</think>\n\nok {tagged}", True) == [Thinking("hm"), Text("ok"), call(a=1)]
    assert answer("qwen3.5", f"hm {tagged}", True) == [Thinking("hm"), call(a=1)]
    assert answer("qwen3.5", "hm", False) == [Text("hm")]
    assert answer("qwen3.5", "goes on", True, is_continued=True) == [Text("goes on")]


def deepseek_call(json_text: str) -> str:
    return f"<｜tool▁call▁begin｜>add<｜tool▁sep｜>{json_text}<｜tool▁call▁end｜>"


def test_deepseek() -> None:
    """Partly T-94"""
    calls = "<｜tool▁calls▁begin｜>" + deepseek_call('{"a":1}') + deepseek_call('{"a":2}') + "<｜tool▁calls▁end｜>"
    expected = [Thinking("thought"), Text("ans"), call(0, a=1), call(1, a=2)]
    assert answer("deepseek3", "thought</think>ans" + calls, True) == expected
    assert answer("deepseek3", "thought</think>ans") == [Text("thought</think>ans")]
    assert answer("deepseek3", deepseek_call("{")) == [Text(deepseek_call("{"))]
    cogito = '<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a":1}\n```<｜tool▁call▁end｜>'
    assert answer("cogito", cogito) == [call(a=1)]


HARMONY_ANSWER = "<|start|>assistant<|channel|>final<|message|>Hello"


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # partly T-95
        ("<|channel|>analysis<|message|>think<|end|>" + HARMONY_ANSWER, [Thinking("think"), Text("Hello")]),
        ('<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a":1}', [call(a=1)]),
        (' to=functions.add<|channel|>commentary<|message|>{"a":1}<|call|>', [call(a=1)]),
        ('<|channel|>analysis to=functions.add<|message|>{"a":1}<|end|>' + HARMONY_ANSWER, [call(a=1), Text("Hello")]),
        ("<|channel|>commentary<|message|>Let me see.<|end|>" + HARMONY_ANSWER, [Text("Let me see.Hello")]),
        ("<|channel|>commentary to=functions.add<|message|>{", [Text("{")]),
        ("<|channel|>commentary to=functions.add<|message|>", [call()]),
        ("<|channel|>final<|message|>a <|not a mark|> b<|return|>", [Text("a <|not a mark|> b")]),
        ("no harmony at all", [Text("no harmony at all")]),
        ("lost<|channel|>final<|message|>Hello", [Text("Hello")]),
    ],
)
def test_harmony(text: str, events: list[Piece]) -> None:
    assert answer("harmony", text, "medium") == events


def test_harmony_goes_on_with_an_answer() -> None:
    assert answer("harmony", "llo<|return|>", is_continued=True) == [Text("llo")]


def test_harmony_names() -> None:
    """Partly T-95: each tool has a name that TypeScript allows, and it is taken back on the way out."""
    names = ["get-weather", "get weather", "browser.search", "9lives", "ünï.x$", "!?", "??"]
    given = ["get_weather", "get_weather_2", "browser.search", "_9lives", "ünï_x$", "unnamed", "unnamed_2"]
    assert harmony_names(names) == dict(zip(names, given, strict=True))
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    for name, short in zip(names, given, strict=True):
        text = f"<|channel|>commentary to=functions.{short}<|message|>{{}}"
        assert answer("harmony", text, tools=tools) == [ToolCall(name, {}, "id")]


GEMMA = (
    "<|channel>thought\nhm<channel|>Answer"
    '<|tool_call>call:add{a:1,b:<|"|>x y<|"|>,l:[1,<|"|>q<|"|>],t:true}<tool_call|>'
)


def test_gemma() -> None:
    """Partly T-96"""
    added = call(a=1, b="x y", l=[1, "q"], t=True)
    assert answer("gemma4", GEMMA, True) == [Thinking("hm"), Text("Answer"), added]
    assert answer("gemma4", GEMMA, False) == [Text("Answer"), added]
    functions = "<start_function_call>call:add{a:1,b:<escape>x}y<escape>}<end_function_call>"
    assert answer("functiongemma", functions) == [call(a=1, b="x}y")]


@pytest.mark.parametrize("body", ["", "add{}", "call:add", "call:add{a:}", 'call:add{a:<|"|>x}', "call:add{} more"])
def test_gemma_that_is_no_call_comes_back(body: str) -> None:
    text = f"<|tool_call>{body}<tool_call|>"
    assert answer("gemma4", text) == [Text(text)]


GLM = "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>x & <y></arg_value>"


def test_glm() -> None:
    """Partly T-97: a call that is cut off counts if it is complete."""
    expected = [Thinking("hm"), Text("ok"), call(a=1, b="x & <y>")]
    assert answer("glm-4.7", f"hm</think>ok{GLM}</tool_call>", True) == expected
    assert answer("glm-4.7", f"hm</think>ok{GLM}", True) == expected
    incomplete = "<tool_call>add<arg_key>b</arg_key><arg_value>1</arg_value>"
    assert answer("glm-4.7", incomplete) == [Text(incomplete)]
    assert answer("glm-4.7", incomplete.replace("add", "nope")) == [Text(incomplete.replace("add", "nope"))]
    laguna = "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"
    assert answer("laguna", laguna) == [call(a=1)]


def test_calls_in_python() -> None:
    """Partly T-98"""
    text = "<function_calls>add(a=1, b=\"x, y\", t=True, l=[1, 'q'])\nadd(a=2)</function_calls>"
    assert answer("olmo3", text) == [call(0, a=1, b="x, y", t=True, l=[1, "q"]), call(1, a=2)]
    tagged = "Hi <|tool_call_start|>[add(a=1,b='x'), add()]<|tool_call_end|>bye"
    assert answer("lfm2", tagged) == [Text("Hi"), call(0, a=1, b="x"), call(1), Text("bye")]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # partly T-98
        ("[add(a=1)]", [call(a=1)]),
        ("[add(a=1), nope()]", [Text("[add(a=1), nope()]")]),
        ("[1, 2] it is", [Text("[1, 2] it is")]),
        ("so [add(a=1)]", [Text("so [add(a=1)]")]),
    ],
)
def test_bare_calls_are_taken_when_all_tools_are_known(text: str, events: list[Piece]) -> None:
    assert answer("lfm2", text) == events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # partly T-98
        ('Hi[TOOL_CALLS]add[ARGS]{"a":1}[TOOL_CALLS]add[ARGS]{"a":2}', [Text("Hi"), call(0, a=1), call(1, a=2)]),
        ("[TOOL_CALLS]nope[ARGS]{}", [Text("[TOOL_CALLS]nope[ARGS]{}")]),
        ('[TOOL_CALLS]nope[ARGS]{}[TOOL_CALLS]add[ARGS]{"a":1}', [Text("[TOOL_CALLS]nope[ARGS]{}"), call(a=1)]),
        ("[THINK]hm[/THINK]ok", [Text("ok")]),
    ],
)
def test_ministral(text: str, events: list[Piece]) -> None:
    assert answer("ministral", text) == events


def test_cohere() -> None:
    action = '<|START_ACTION|>[{"tool_call_id":"0","tool_name":"add","parameters":{"a":1}}]<|END_ACTION|>'
    assert answer("cohere", f"hm<|END_THINKING|>{action}", True) == [Thinking("hm"), call(a=1)]
    text = "hm<|END_THINKING|><|START_TEXT|>Hi<|END_TEXT|>"
    assert answer("cohere", text, True) == [Thinking("hm"), Text("Hi")]


# --- every family ---


@pytest.mark.parametrize(
    ("name", "said", "is_call"),
    [
        ("qwen3-thinking", JSON_CALL, True),
        ("qwen3.5", "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", True),
        ("laguna", "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", True),
        ("glm-4.7", "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", False),
        ("deepseek3", '<｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a":1}<｜tool▁call▁end｜>', False),
    ],
)
def test_a_call_in_the_midst_of_thinking(name: str, said: str, is_call: bool) -> None:
    """Some models call without closing their thoughts. The others only think about a call."""
    pieces = answer(name, f"I could {said} so</think>ok", True)
    assert pieces[0] == Thinking("I could" if is_call else f"I could {said} so")
    assert pieces[1] == (call(a=1) if is_call else Text("ok"))


def test_cogito_does_not_think_before_it_calls() -> None:
    assert answer("cogito", "ok", True) == [Text("ok")]
    assert answer("cogito", "hm</think>ok", True, tools=[]) == [Thinking("hm"), Text("ok")]


@pytest.mark.parametrize("name", NAMES)
def test_without_tools_no_call_is_looked_for(name: str) -> None:
    text = "a" + (FAMILIES[name].opens_call + "b" + FAMILIES[name].closes_call if name in FAMILIES else "<|b|>")
    assert answer(name, text, tools=[]) == [Text(text)]


def test_a_limit_ends_the_answer() -> None:
    assert answer("qwen3", JSON_CALL + JSON_CALL + "bye", max_calls=1) == [call(a=1)]
    assert answer("olmo3", "<function_calls>add(a=1)\nadd(a=2)</function_calls>", max_calls=1) == [call(a=1)]
    harmony = '<|channel|>commentary to=functions.add<|message|>{"a":1}<|call|><|start|>assistant'
    parser = make("harmony", max_calls=1)
    assert parser.feed(harmony + harmony) == [call(a=1)]
    assert parser.is_over


MARKS = sorted(
    {
        tag
        for family in FAMILIES.values()
        for tag in (family.opens_call, family.closes_call, family.opens_thinking)
        if tag
    }
    | {"<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<｜tool▁sep｜>", "[ARGS]", "<function=add>", "<arg_key>"}
)
PARTS = [*MARKS, "add", "(", ")", "{", "}", "[", '"a"', ":", "1", " ", "\n", "x", '{"name":"add","arguments":{}}']


@given(st.sampled_from(NAMES), st.lists(st.sampled_from(PARTS), max_size=12), st.booleans(), st.randoms())
def test_no_input_is_an_error_and_every_cut_gives_the_same(
    name: str, parts: list[str], think: bool, dice: random.Random
) -> None:
    text = "".join(parts)
    whole = read_whole(make(name, think), [text])
    at = dice.randint(0, len(text))
    assert read_whole(make(name, think), [text[:at], text[at:]]) == whole
    assert read_whole(make(name, think), list(text)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_takes_less_than_a_second(name: str) -> None:
    opening = FAMILIES[name].opens_call if name in FAMILIES else "<|channel|>commentary to=f<|message|>"
    for filler in ("{", opening[:-1], "(", "<parameter=", "<arg_key>", "add("):
        text = opening + filler * (250_000 // len(filler))
        parser = make(name)
        started = time.process_time()
        pieces = [piece for at in range(0, len(text), 4096) for piece in parser.feed(text[at : at + 4096])]
        pieces += parser.finish()
        assert time.process_time() - started < 0.25
        assert all(isinstance(piece, Text) for piece in joined(pieces))


def test_an_unknown_name_has_no_parser() -> None:
    assert family_parser("nope", [ADD], new_id=str) is None


# --- literals ---


def literal(text: str) -> Any:
    reader = Literals(text)
    value = reader.value()
    reader.expect(";")
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2.5e3", -2500.0),
        ("+1", 1),
        ("None", None),
        ("[]", []),
        ("[1, [2,], ]", [1, [2]]),
        ("{'a': {\"b\": true}, c: 1,}", {"a": {"b": True}, "c": 1}),
        (r"'it\'s \n \x41 é 😀 \d'", "it's \n A é 😀 \\d"),
        (r'"\ud800"', "\ufffd"),
        ('"a\nb"', "a\nb"),
    ],
)
def test_literals(text: str, value: Any) -> None:
    assert literal(f"{text} ;") == value


@pytest.mark.parametrize("text", ["", "'a", "[1", "[1 2]", "{a}", "open('x')", "007", "1e999", "[" * 100, "__import__"])
def test_what_is_no_literal(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        literal(f"{text} ;")

"""Tool calls found in raw text while it streams in. modelfile-templates §6."""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat.tools import MAX_REJECTED, ToolParser, call_id, visible_tokens
from llamero.messages import Text, ToolCall
from tests.chat.splitting import Piece, read, read_whole

TAG = "<tool_call>"
CALL = '{"name":"add","arguments":{"a":2}}'


def parser(tag: str = TAG, names: str = "add", max_calls: int | None = None) -> ToolParser:
    return ToolParser(names.split(), tag, new_id=lambda: "id", max_calls=max_calls)


def call(index: int = 0, name: str = "add", **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments, "id", index)


def steps(*chunks: str, tag: str = TAG, names: str = "add") -> list[list[Piece]]:
    """What each chunk gives, and at last what the end gives."""
    reader = parser(tag, names)
    return [[*reader.feed(chunk)] for chunk in chunks] + [[*reader.finish()]]


def test_t75_a_call_leaves_as_soon_as_it_is_complete() -> None:
    """T-75"""
    chunks = ["Hi <tool", "_call>", '{"name": "get_', 'weather", "arguments": {"city": "Paris"}}', "</tool_call>"]
    weather = call(name="get_weather", city="Paris")
    assert steps(*chunks, names="get_weather") == [[Text("Hi ")], [], [], [weather], [], []]


def test_t76_half_a_tag_is_held_until_it_is_none() -> None:
    """T-76; [+] what is held at the end is text."""
    assert steps("a<", "b<to") == [[Text("a")], [Text("<b")], [Text("<to")]]


def test_t77_a_name_is_not_taken_for_the_beginning_of_another() -> None:
    """T-77"""
    chunks = ['<tool_call>{"name": "get', '_weather", "arguments": {}}']
    assert steps(*chunks, names="get get_weather") == [[], [call(name="get_weather")], []]


@pytest.mark.parametrize(
    ("behind_the_tag", "arguments"),
    [
        # T-78: all ways to put a name and arguments together
        ('{"name":"add","parameters":{"a":2}}', {"a": 2}),
        (r'{"name":"add","arguments":"{\"a\":2}"}', {"a": 2}),
        ('{"add":{"a":2}}', {"a": 2}),
        ('add({"a": 2})', {"a": 2}),
        ('{"function":{"name":"add","arguments":{"a":2}}}', {"a": 2}),
        # and others that models have been seen to write
        (CALL, {"a": 2}),
        ('{"arguments":{"a":2},"name":"add"}', {"a": 2}),
        ('{"type":"function","id":"x1","name":"add","arguments":{"a":2}}', {"a": 2}),
        ('[{"function":[{"name":"add","arguments":{"a":2}}]}]', {"a": 2}),
        ('{"name":"functions.add","arguments":{"a":2}}', {"a": 2}),
        ('\n<function=add>\n{"a":2}\n</function>', {"a": 2}),
        ('{"a":2} add', {"a": 2}),
        ('add[ARGS]{"a":2}', {"a": 2}),
        ('{"name":"add","arguments":{}}', {}),
        (r'{"name":"add","arguments":{"a":"} \" { \\"}}', {"a": '} " { \\'}),
        ('{"name":"add","arguments":{"z":1,"a":{"y":[{}],"b":null}}}', {"z": 1, "a": {"y": [{}], "b": None}}),
        ('{"name":"add","arguments":{"a":"<tool_call>"}}', {"a": "<tool_call>"}),
        ('{"name":"add","arguments":{"add":{"a":1}}}', {"add": {"a": 1}}),
        # T-80: an object that is no JSON is skipped
        ('{"name":"add","arguments":{a:2}} {"name":"add","arguments":{"a":3}}', {"a": 3}),
        ('add({a:2}) {"a":3}', {"a": 3}),
    ],
)
def test_shapes_of_a_call(behind_the_tag: str, arguments: dict[str, Any]) -> None:
    assert read(parser, f"Hi {TAG}{behind_the_tag}") == [Text("Hi "), call(**arguments)]


def test_arguments_keep_their_order() -> None:
    [event] = read(parser, TAG + '{"name":"add","arguments":{"z":1,"a":2}}')
    assert isinstance(event, ToolCall)
    assert list(event.arguments) == ["z", "a"]


@pytest.mark.parametrize(
    "behind_the_tag",
    [
        # T-79: none of these is a call
        '{"name":"add"}',
        '{"name":"add","arguments":[1]}',
        '{"name":"nope","arguments":{"x":"y"}}',
        '{"name":"add","arguments":{"a":2}',
        # an unknown tool, although the name of one that there is occurs
        '{"name":"nope","arguments":{"x":"add"}}',
        '{"name":"add","arguments":null}',
        '{"name":"add","arguments":"[1]"}',
        '{"name":"add","arguments":"{"}',
        '{"add":5}',
        '{"name":5,"arguments":{"a":2}}',
        '{"a":2}',
        "add",
        "{" * 50,
        "}" * 50,
        '{"name":"add","arguments":{"a":1e999}}',
        "",
    ],
)
def test_what_is_no_call_comes_back_as_text(behind_the_tag: str) -> None:
    """The tag with it (native-api §2.7)."""
    text = f"Hi {TAG}{behind_the_tag}"
    assert read(parser, text) == [Text(text)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # T-81: calls are counted over the whole answer
        ("[TOOL_CALLS] [" + CALL + ", " + CALL.replace("2", "3") + "]", [call(0, a=2), call(1, a=3)]),
        ("Hi [TOOL_CALLS] [" + CALL + "]\n bye", [Text("Hi "), call(a=2)]),
        (
            "[TOOL_CALLS] [" + CALL + ', {"name":"nope","arguments":{}}]',
            [call(a=2), Text('{"name":"nope","arguments":{}}]')],
        ),
        ("[TOOL_CALLS] [" + CALL + ', {"name":"ad', [call(a=2), Text('{"name":"ad')]),
        (
            '[TOOL_CALLS] [{"name":"nope","arguments":{"x":1}}, ' + CALL + "]",
            [Text('{"name":"nope","arguments":{"x":1}}'), call(a=2)],
        ),
        ("[TOOL_CALLS]", [Text("[TOOL_CALLS]")]),
    ],
)
def test_calls_in_a_list_behind_a_tag(text: str, events: list[Piece]) -> None:
    assert read(lambda: parser("[TOOL_CALLS] ["), text) == events


def section(body: str) -> str:
    return f"{TAG}\n{body}\n</tool_call>"


NOPE = section('{"name":"nope","arguments":{}}')


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (section(CALL) + "\n" + section(CALL), [call(0, a=2), call(1, a=2)]),
        (NOPE + section(CALL), [Text(NOPE), call(a=2)]),
        (section(CALL) + NOPE, [call(a=2), Text(NOPE)]),
        (section("add") + section(CALL), [Text(section("add")), call(a=2)]),
        (TAG + section(CALL), [Text(TAG), call(a=2)]),
        (section('{"a":1}') + section(CALL), [Text(section('{"a":1}')), call(a=2)]),
        # an object never becomes the arguments of a call that another object makes
        (TAG + '{"a":1} ' + CALL, [Text('{"a":1}'), call(a=2)]),
        (TAG + '{"a":1}{"b":1} add', [Text('{"a":1}'), call(b=1)]),
        (section(CALL) + " and on", [call(a=2)]),
    ],
)
def test_a_section_without_a_call_comes_back(text: str, events: list[Piece]) -> None:
    assert read(parser, text) == events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # T-82
        ('{"foo": 1} rest', [Text('{"foo": 1} rest')]),
        (f"Sure! {CALL}", [Text(f"Sure! {CALL}")]),
        (f"  \n{CALL}", [Text("  \n"), call(a=2)]),
        ('{"foo": ', [Text('{"foo": ')]),
        (f"{CALL}; {CALL}", [call(0, a=2), call(1, a=2)]),
        (f'{CALL} {{"foo": 1}} rest', [call(a=2), Text(' {"foo": 1} rest')]),
        (f"{CALL}\n", [call(a=2)]),
        (f'{CALL} {{"foo', [call(a=2), Text(' {"foo')]),
        ('{"name":"nope","arguments":{}}', [Text('{"name":"nope","arguments":{}}')]),
        ("{foo} bar", [Text("{foo} bar")]),
        ("} {", [Text("} {")]),
        ("", []),
        ("plain", [Text("plain")]),
    ],
)
@pytest.mark.parametrize("tag", ["{", ""])
def test_without_a_tag_a_call_is_the_beginning_of_the_answer(tag: str, text: str, events: list[Piece]) -> None:
    assert read(lambda: parser(tag), text) == events


def test_without_a_tag_text_flows_as_it_comes() -> None:
    """Partly T-82: an object that is no call, then the rest."""
    assert steps('{"foo": 1}', " rest", tag="{") == [[Text('{"foo": 1}')], [Text(" rest")], []]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (f"[{CALL}, {CALL}]", [call(0, a=2), call(1, a=2)]),
        (f" [{CALL}]\n", [Text(" "), call(a=2)]),
        ('[1, "{", "]"] rest', [Text('[1, "{", "]"] rest')]),
        ("[[1], [2]] rest", [Text("[[1], [2]] rest")]),
        ('[{"foo":1}] rest', [Text('[{"foo":1}] rest')]),
        (f"x [{CALL}]", [Text(f"x [{CALL}]")]),
        ("[", [Text("[")]),
    ],
)
def test_a_list_without_a_tag(text: str, events: list[Piece]) -> None:
    assert read(lambda: parser("["), text) == events


@pytest.mark.parametrize(
    ("names", "object_", "name"),
    [
        ("get get_weather", '{"name":"get_weather","arguments":{}}', "get_weather"),
        ("get_weather get", '{"name":"get","arguments":{"q":"get_weather"}}', "get"),
        ("add mul", '{"name":"mul","arguments":{"q":"add"}}', "mul"),
        ("add mul", '{"arguments":{"q":"add"},"name":"mul"}', "mul"),
        ("add mul", 'first mul({"add":{}})', "mul"),
        ("a.b c-d e_f", '{"name":"c-d","arguments":{}}', "c-d"),
        ("名前", '{"name":"名前","arguments":{}}', "名前"),
    ],
)
def test_which_tool_is_meant(names: str, object_: str, name: str) -> None:
    [event] = read(lambda: parser(names=names), TAG + object_)
    assert isinstance(event, ToolCall)
    assert event.name == name


@pytest.mark.parametrize("tag", [TAG, "{"])
def test_a_limit_ends_the_answer(tag: str) -> None:
    """Partly C-43: `parallel_tool_calls: false` gives at most one call, and the engine can stop there."""
    text = (tag if tag == TAG else "") + CALL
    assert read(lambda: parser(tag, max_calls=1), text + text + "bye") == [call(a=2)]
    reader = parser(tag, max_calls=1)
    reader.feed(text[:-1])
    assert not reader.is_over
    reader.feed(text[-1])
    assert reader.is_over


def test_each_call_has_an_id_of_its_own() -> None:
    """Partly T-83: the form of ids."""
    dice = random.Random(1)
    ids = iter([call_id(dice.randrange) for _ in range(2)])
    reader = ToolParser(["add"], new_id=lambda: next(ids))
    calls = [event for event in reader.feed(CALL + CALL) if isinstance(event, ToolCall)]
    assert len({event.id for event in calls}) == 2
    assert all(re.fullmatch(r"call_[a-z0-9]{8}", event.id) for event in calls)


@pytest.mark.parametrize(
    ("tag", "tokens"),
    [
        ("<tool_call>", ["<tool_call>"]),
        ("[TOOL_CALLS] [", ["[TOOL_CALLS]"]),
        ("<|python_tag|>{", ["<|python_tag|>"]),
        ("<|calls|><|call|>function<|sep|>", ["<|calls|>", "<|call|>", "<|sep|>"]),
        ("functools[", []),
        ("Action: ```json", []),
        ("{", []),
        ("[", []),
        ("", []),
    ],
)
def test_which_special_tokens_the_engine_must_show(tag: str, tokens: list[str]) -> None:
    assert visible_tokens(tag) == tokens


def test_a_tag_ends_before_the_json_of_its_template() -> None:
    assert read(lambda: parser(' <call>\r\n{"name": "'), "x<call>" + CALL) == [Text("x"), call(a=2)]


PARTS = [TAG, "</tool_call>", CALL, "{", "}", "[", "]", '"', "\\", "add", ",", " ", "name", ':"', '{"a":1}', "x", "é"]


@given(st.lists(st.sampled_from(PARTS)), st.sampled_from([TAG, "{", "[", "[TOOL_CALLS] ["]))
def test_every_cut_gives_the_same_and_text_without_calls_is_kept(parts: list[str], tag: str) -> None:
    text = "".join(parts)
    events = read_whole(parser(tag), parts)
    assert events == read_whole(parser(tag), [text]) == read_whole(parser(tag), list(text))
    if not any(isinstance(event, ToolCall) for event in events):
        assert events == ([Text(text)] if text else [])


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5))))
def test_what_is_told_comes_from_the_text_in_its_order(parts: list[str]) -> None:
    text = "".join(parts)
    place = 0
    tool_parser = parser()
    for event in [*(event for part in parts for event in tool_parser.feed(part)), *tool_parser.finish()]:
        if isinstance(event, Text):
            # every piece that is given back was written, in one stretch, behind the one before
            place = text.index(event.text, place) + len(event.text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), JSON), min_size=1, max_size=3), st.booleans(), st.randoms())
def test_any_arguments_arrive_as_they_were_written(arguments: list[Any], is_ascii: bool, dice: random.Random) -> None:
    text = "".join(
        section(json.dumps({"name": "add", "arguments": each}, ensure_ascii=is_ascii, indent=dice.choice([None, 2])))
        for each in arguments
    )
    cuts = sorted(dice.choices(range(len(text) + 1), k=5))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    calls = [event for event in read_whole(parser(), chunks) if isinstance(event, ToolCall)]
    assert [event.arguments for event in calls] == arguments
    assert [event.index for event in calls] == list(range(len(arguments)))


@pytest.mark.parametrize(
    "text",
    [
        "{" * 1_000_000,
        "{}" * 500_000,
        "[{" * 500_000,
        '{"a":' * 160_000 + "1" + "}" * 160_000,
        '{"' + '\\"' * 500_000,
        "<tool_call>" * 90_000,
        "<tool_cal" * 110_000,
        "add " * 250_000,
        '{"name":"nope"}' * 66_000,
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize(("tag", "size"), [(TAG, 16), (TAG, 1_000_000), ("{", 1_000_000), ("[", 1_000_000)])
def test_a_megabyte_takes_less_than_a_second(text: str, tag: str, size: int) -> None:
    reader = parser(tag, names=" ".join(f"tool{number}" for number in range(64)))
    chunks = [tag, *(text[at : at + size] for at in range(0, len(text), size))]
    started = time.process_time()
    events = read_whole(reader, chunks)
    assert time.process_time() - started < 1
    assert events == [Text(tag + text)]


def test_an_answer_full_of_objects_is_no_call() -> None:
    """After so many objects that are no calls, text flows again instead of being held to the end."""
    reader = parser()
    held = reader.feed(TAG + '{"b":1}' * MAX_REJECTED)
    assert held == []
    assert reader.feed('{"b":1}') == [Text(TAG + '{"b":1}' * (MAX_REJECTED + 1))]
    assert reader.feed(CALL) == [Text(CALL)]

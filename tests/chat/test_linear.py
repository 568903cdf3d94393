"""Reading an answer takes time in proportion to its length, whatever a model was made to write. security §5 (ReDoS)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from llamero.chat.families import family_parser
from llamero.chat.pipeline import Parser
from llamero.chat.thinking import ThinkingSplitter
from llamero.chat.tools import ToolParser

MIB = 1 << 20
PIECE_CHARS = 64
"""Of a stream: tokens come together while we read others."""
CPU_LIMIT_S = 3.0
"""For 1 MiB: three times what it may take on a machine with nothing else to do."""
MOST_GROWTH = 6.5
"""Times the time of a text that is a quarter as long: 4 is linear, 16 is quadratic."""
MEASURABLE_S = 0.01
"""Less than this says nothing about growth."""

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]

Make = Callable[[], Parser]


def family(name: str) -> Make:
    def make() -> Parser:
        parser = family_parser(name, TOOLS, new_id=lambda: "call_1", think=True)
        assert parser is not None
        return parser

    return make


def tools(tag: str) -> Make:
    return lambda: ToolParser(["f", "get_weather"], tag, new_id=lambda: "call_1")


def thinking() -> Parser:
    return ThinkingSplitter("<think>", "</think>", is_open=True)


ANSWERS: dict[str, tuple[Make, str, str, str]] = {
    "a tag that never comes": (thinking, "", "</thin", ""),
    "blanks that think": (thinking, "", "\n ", ""),
    "objects that are no calls": (tools("<tool_call>"), "<tool_call>", "{}", ""),
    "braces that open": (tools("{"), "", "{", ""),
    "brackets that open": (tools("["), "", "[", ""),
    "quotes and backslashes": (tools("["), '[{"', '\\"\\\\', ""),
    "names of tools": (tools("<tool_call>"), "<tool_call>", "f ", ""),
    "tags within tags": (tools("<tool_call>"), "", "<tool_call>", ""),
    "calls and calls": (tools("<tool_call>"), "<tool_call>", '{"name":"f","arguments":{}}', ""),
    "members of an object": (tools("<tool_call>"), '<tool_call>{"name":"x"', ',"f":{"f":"f"}', "}"),
    "parameters": (
        family("qwen3-coder"),
        "<tool_call><function=f>",
        "<parameter=a>1</parameter>",
        "</function></tool_call>",
    ),
    "parameters that are not closed": (
        family("qwen3-coder"),
        "<tool_call><function=f>",
        "<parameter=a>",
        "</tool_call>",
    ),
    "pairs": (
        family("glm-4.7"),
        "</think><tool_call>f",
        "<arg_key>a</arg_key><arg_value>1</arg_value>",
        "</tool_call>",
    ),
    "calls of JSON": (family("qwen3"), "", '<tool_call>{"name":"f"}</tool_call>', ""),
    "tags that begin": (family("deepseek3"), "</think>", "<｜tool▁call", ""),
    "noise": (family("deepseek3"), "</think>", "<｜tool▁calls▁begin｜>", ""),
    "Python's calls": (family("olmo3"), "<function_calls>", "f(a=1)\n", "</function_calls>"),
    "a bare list": (family("lfm2"), "[", "f(a=1),", "]"),
    "a string of escapes": (family("lfm2"), '<|tool_call_start|>[f(a="', "\\x", '")]<|tool_call_end|>'),
    "lists within lists": (family("lfm2"), "<|tool_call_start|>[f(a=", "[", "<|tool_call_end|>"),
    "Gemma's quotes": (family("gemma4"), "<|tool_call>call:f{a:[", '<|"|>x<|"|>,', "]}<tool_call|>"),
    "arguments in brackets": (family("ministral"), "", "[TOOL_CALLS]f[ARGS]{}", ""),
    "a list of objects": (
        family("cohere"),
        "<|END_THINKING|><|START_ACTION|>[",
        '{"tool_name":"f"},',
        "<|END_ACTION|>",
    ),
    "headers": (family("harmony"), "", "<|channel|>", ""),
    "messages": (family("harmony"), "", "<|start|>assistant<|channel|>x to=f<|message|>{}<|call|>", ""),
    "a long header": (family("harmony"), "", " to=", "<|message|>"),
}


def seconds(make: Make, begin: str, again: str, end: str, length: int) -> float:
    """Of the processor."""
    text = begin + again * (length // len(again)) + end
    parser = make()
    started = time.process_time()
    for at in range(0, len(text), PIECE_CHARS):
        parser.feed(text[at : at + PIECE_CHARS])
    parser.finish()
    return time.process_time() - started


def is_linear(answer: tuple[Make, str, str, str], length: int) -> bool:
    return seconds(*answer, length) < max(MEASURABLE_S, seconds(*answer, length // 4)) * MOST_GROWTH


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_time_grows_with_the_length_and_no_faster(answer: tuple[Make, str, str, str]) -> None:
    """X-76, with the next."""
    assert any(is_linear(answer, MIB // 4) for _ in range(3)), "once of three times: the machine has other things to do"


@pytest.mark.heavy
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_mebibyte_is_read_soon(answer: tuple[Make, str, str, str]) -> None:
    """X-76"""
    assert any(is_linear(answer, MIB) for _ in range(3))
    assert min(seconds(*answer, MIB) for _ in range(3)) < CPU_LIMIT_S

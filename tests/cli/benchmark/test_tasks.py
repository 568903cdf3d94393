"""What models are asked and how answers are judged."""

from __future__ import annotations

import pytest

from llamero.cli.benchmark.records import Verdict
from llamero.cli.benchmark.tasks import (
    BY_NAME,
    SECRET,
    TASKS,
    TOKENS_PER_LINE,
    Answer,
    long_text,
    long_tokens,
    marked,
    prompt_task,
)
from llamero.messages import ToolCall

CODE = "def is_palindrome(text):\n    return text == text[::-1]\n"


def test_all_kinds_of_work_are_there() -> None:
    assert [task.name for task in TASKS] == [
        *("greeting", "coding", "reasoning", "summarising", "translation", "long-context", "json", "tool-call")
    ]


@pytest.mark.parametrize(
    ("task", "text", "verdict"),
    [
        ("greeting", "Hi", "right"),
        ("greeting", " \n", "wrong"),
        ("coding", CODE, "right"),
        ("coding", f"Sure:\n```python\n{CODE}```\nDone.", "right"),
        ("coding", "```\ndef is_palindrome(text):\n```", "wrong"),
        ("coding", "def other(text):\n    pass\n", "wrong"),
        ("coding", "(" * 5000, "wrong"),
        ("coding", "is_palindrome\0", "wrong"),
        ("reasoning", "She had 12 apples and has 10.", "right"),
        ("reasoning", "10 or 12", "wrong"),
        ("reasoning", "ten", "wrong"),
        ("summarising", "The library is repaired.", "right"),
        ("summarising", "", "wrong"),
        ("summarising", "very " * 200, "wrong"),
        ("translation", "La Bibliothèque ouvre à neuf heures.", "right"),
        ("translation", "The library opens at nine.", "wrong"),
        ("long-context", f"It is {SECRET}.", "right"),
        ("long-context", "It is 4711.", "wrong"),
        ("json", '{"name": "Ada", "age": 36}', "right"),
        ("json", '{"name": "Ada", "age": true}', "wrong"),
        ("json", '["name", "age"]', "wrong"),
        ("json", '{"name": "Ada", "ag', "wrong"),
        ("tool-call", "Paris is sunny.", "wrong"),
    ],
)
def test_judgements(task: str, text: str, verdict: Verdict) -> None:
    assert BY_NAME[task].judge(Answer(text)) == verdict


@pytest.mark.parametrize(
    ("call", "verdict"),
    [
        (ToolCall("get_weather", {"city": "Paris, France"}), "right"),
        (ToolCall("get_weather", {"city": 5}), "wrong"),
        (ToolCall("get_weather", {}), "wrong"),
        (ToolCall("weather", {"city": "Paris"}), "wrong"),
    ],
)
def test_tool_calls_are_judged(call: ToolCall, verdict: Verdict) -> None:
    assert BY_NAME["tool-call"].judge(Answer(tool_calls=(call,))) == verdict


def test_only_the_task_of_tools_needs_them() -> None:
    assert [task.name for task in TASKS if task.tools] == [task.name for task in TASKS if task.needs] == ["tool-call"]


@pytest.mark.parametrize("tokens", [1, 100, 2000, 20_000])
def test_a_long_text_hides_one_number_in_its_middle(tokens: int) -> None:
    text = long_text(tokens)
    assert text.count(SECRET) == 1
    lines = text.splitlines()
    assert abs(len(lines) - tokens / TOKENS_PER_LINE) <= 3
    place = next(index for index, line in enumerate(lines) if SECRET in line)
    assert abs(place - len(lines) / 2) <= 1


@pytest.mark.parametrize(
    ("wanted", "window", "tokens"), [(2000, 0, 2000), (2000, 4096, 2000), (2000, 2048, 1024), (100, 512, 100)]
)
def test_a_long_text_leaves_room_in_a_small_window(wanted: int, window: int, tokens: int) -> None:
    assert long_tokens(wanted, window) == tokens


def test_no_question_begins_like_another() -> None:
    assert marked("Hello", "1a2b") == "[1a2b] Hello"


def test_a_prompt_of_ones_own() -> None:
    assert prompt_task("Why?", is_long=False).question(500) == "Why?"
    assert prompt_task("Why?", is_long=True).question(500) == f"{long_text(500)}\n\nWhy?"
    assert "story" in prompt_task("", is_long=False).question(500)
    assert prompt_task("Why?", is_long=False).judge(Answer("")) == "unchecked"
    assert prompt_task("What?", is_long=False, images=[b"png"]).needs == "vision"

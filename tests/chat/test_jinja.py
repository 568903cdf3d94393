"""What the text of a Jinja tells. modelfile-templates §3.4, §8.2."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.chat import jinja
from llamero.chat.pipeline import Tags
from llamero.messages import Think

QWEN38 = "{% if reasoning_effort == 'xhigh' %}…{% elif reasoning_effort == 'low' %}{% endif %}{{ enable_thinking }}"
GPT_OSS = "{{ reasoning_effort }} <|channel|>analysis"
DEEPSEEK4 = "{% if reasoning_effort == 'max' %}…{% endif %}"
PICKY = "{% if reasoning_effort not in ['high', 'low', 'no_think'] %}{{ raise_exception('error') }}{% endif %}"
GLIMMER = "Reasoning strength: {{ reasoning_strength }}."
NEMOTRON = "{% if medium_effort %}{% endif %}{{ enable_thinking }}"
DEEPSEEK = "{% if thinking %}<think>{% else %}</think>{% endif %}"
PLAIN = "{{ enable_thinking }} message['thinking'] message.thinking"


@pytest.mark.parametrize(
    ("text", "think", "arguments"),
    [
        pytest.param(QWEN38, "high", {"enable_thinking": True, "reasoning_effort": "xhigh"}, id="T-99 qwen3.8"),
        (QWEN38, "max", {"enable_thinking": True, "reasoning_effort": "xhigh"}),
        (QWEN38, "low", {"enable_thinking": True, "reasoning_effort": "low"}),
        (QWEN38, True, {"enable_thinking": True, "reasoning_effort": "medium"}),
        (QWEN38, False, {"enable_thinking": False}),
        pytest.param(GPT_OSS, "max", {"enable_thinking": True, "reasoning_effort": "high"}, id="T-99 gpt-oss"),
        (GPT_OSS, True, {"enable_thinking": True, "reasoning_effort": "medium"}),
        (GPT_OSS, False, {"enable_thinking": False, "reasoning_effort": "low"}),
        pytest.param(GLIMMER, False, {"enable_thinking": False, "reasoning_strength": "none"}, id="T-99 glimmer"),
        (DEEPSEEK4, "max", {"enable_thinking": True, "reasoning_effort": "max"}),
        (PICKY, True, {"enable_thinking": True, "reasoning_effort": "high"}),
        (PICKY, "low", {"enable_thinking": True, "reasoning_effort": "low"}),
        (PICKY, "max", {"enable_thinking": True, "reasoning_effort": "high"}),
        (PICKY, False, {"enable_thinking": False, "reasoning_effort": "no_think"}),
        (GLIMMER, True, {"enable_thinking": True, "reasoning_strength": "high"}),
        (GLIMMER, "low", {"enable_thinking": True, "reasoning_strength": "low"}),
        (NEMOTRON, "medium", {"enable_thinking": True, "medium_effort": True}),
        (NEMOTRON, "high", {"enable_thinking": True}),
        (DEEPSEEK, True, {"enable_thinking": True, "thinking": True}),
        (DEEPSEEK, False, {"enable_thinking": False, "thinking": False}),
        (PLAIN, "high", {"enable_thinking": True}),
        pytest.param(PLAIN, None, {}, id="T-99 unset"),
        (QWEN38, None, {}),
    ],
)
def test_think_values_in_the_words_of_each_template(text: str, think: Think, arguments: dict[str, Any]) -> None:
    assert jinja.thinking_arguments(think, text) == arguments


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<think>{{ x }}</think>", Tags("<think>", "</think>")),
        ("content.split('</think>')", Tags("<think>", "</think>")),
        ("[THINK]", Tags("[THINK]", "[/THINK]")),
        ("no tags", Tags()),
        ("", Tags()),
    ],
)
def test_tags_for_answers_that_the_engine_does_not_read(text: str, tags: Tags) -> None:
    assert jinja.tags(text) == tags

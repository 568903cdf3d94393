"""Templates parsed once (modelfile-templates §6.1, §7.2 for their tags)."""

from __future__ import annotations

import time

import pytest

from llamero.chat.pipeline import Tags
from llamero.errors import TemplateError
from llamero.template.cache import MAX_KEPT, MAX_KEPT_CHARS, parsed, tags_of
from llamero.template.render import render
from tests.template.conversations import CONV, TODAY


def test_a_text_is_parsed_once() -> None:
    text = "{{ range .Messages }}{{ .Content }},{{ end }}"
    template = parsed(text)
    assert parsed(text) is template
    assert render(template, CONV, today=TODAY) == "Be kind,hi,yo,bye,"


def test_what_is_kept_is_bounded() -> None:
    first = parsed("first {{ .Prompt }}")
    for number in range(MAX_KEPT):
        parsed(f"{number} {{{{ .Prompt }}}}")
    assert parsed("first {{ .Prompt }}") is not first
    long = "x" * MAX_KEPT_CHARS + "{{ .Prompt }}"
    assert parsed(long) is not parsed(long)


def test_an_error_is_an_error_each_time() -> None:
    for _ in range(2):
        with pytest.raises(TemplateError, match=r"^template: :1: unclosed action$"):
            parsed("{{ .Prompt")


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("{{ .Prompt }}", Tags("", "", "{")),
        (
            "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
            "{{ if .ToolCalls }}<tool_call>{{ .ToolCalls }}{{ end }}{{ end }}",
            Tags("<think>", "</think>", "<tool_call>"),
        ),
    ],
)
def test_the_tags_of_a_template(text: str, tags: Tags) -> None:
    assert Tags(*tags_of(parsed(text))) == tags


def test_a_kept_template_costs_nothing() -> None:
    text = "{{ range .Messages }}{{ if .Content }}{{ .Content }}{{ end }}{{ end }}" * 20
    parsed(text)
    started = time.thread_time()
    for _ in range(1000):
        parsed(text)
    assert time.thread_time() - started < 0.05

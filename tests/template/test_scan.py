"""What a template says about its model (modelfile-templates §2.7, §6.1, §7.2)."""

from __future__ import annotations

import pytest

from llamero.template.functions import NAMES
from llamero.template.parse import parse
from llamero.template.render import Template
from llamero.template.scan import NO_TAG, identifiers, thinking_tags, tool_call_tag


def test_t59_every_name_is_seen_once_in_lower_case() -> None:
    template = Template.parse("{{ if .Tools }}{{ end }}{{ .prompt }}{{ $.Suffix }}")
    assert template.identifiers == {"$", "prompt", "response", "suffix", "tools"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ .A.B }}", {"a", "b"}),
        ("{{ range $i, $m := .Messages }}{{ $m.Content }}{{ end }}", {"messages", "$m", "content"}),
        ("{{ with .A }}{{ else }}{{ .B }}{{ end }}", {"a", "b"}),
        ('{{ define "x" }}{{ .Hidden }}{{ end }}{{ template "x" .Given }}', {"hidden", "given"}),
        ("{{ print (len .Inner) | printf .Fmt }}", {"inner", "fmt"}),
        ("{{ (index .Messages 0).Content }}", {"messages"}),
        ("{{ . }}{{ 1 }}text", set()),
    ],
)
def test_names_in_all_places(text: str, names: set[str]) -> None:
    assert identifiers(parse(text, NAMES)) == names


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [("Q: {{ .Prompt }}", True), ("{{ .Response }}", True), ("{{ range .Messages }}{{ end }}", False)],
)
def test_response_is_added_where_nothing_says_where_the_answer_goes(text: str, mentioned: bool) -> None:
    assert ("response" in Template.parse(text).identifiers) is mentioned


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{{ . }}{{ end }}{{ end }}", "<tool_call>"),
        ('{{ if and (eq .Role "assistant") .ToolCalls }}<call>{{ end }}', "<call>"),
        ("{{ if (and .ToolCalls true) }}<call>{{ end }}", NO_TAG),
        ("{{ if .X }}{{ else if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{{ end }}{{ end }}", "[TOOL_CALLS] ["),
        ("{{ if .ToolCalls }}{{ .Content }}<x>{{ end }}", NO_TAG),
    ],
)
def test_t74_tag_of_tool_calls(text: str, tag: str) -> None:
    assert tool_call_tag(parse(text, NAMES)) == tag


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        pytest.param("{{ range .Messages }}{{ if .ToolCalls }} a {{ end }}{{ end }}", "a", id="inside a loop"),
        pytest.param("{{ if .ToolCalls }}\n{{ range .ToolCalls }}<c>{{ . }}{{ end }}{{ end }}", "<c>", id="descends"),
        pytest.param("{{ if .ToolCalls }}{{ if .X }} {{ end }}<c>{{ end }}", NO_TAG, id="a block without text ends it"),
        pytest.param("{{ if .ToolCalls }}{{ $x := 1 }}<c>{{ end }}", NO_TAG, id="an assignment ends it"),
        pytest.param(
            '{{ if .ToolCalls }}Action: ```json\r\n[{"a"{{ end }}', "Action: ```json\n[", id="cut at the brace"
        ),
        pytest.param('{{ if .ToolCalls }}{"name"{{ end }}', NO_TAG, id="only JSON"),
        pytest.param("{{ if $.ToolCalls }}<a>{{ end }}{{ if .ToolCalls }}<b>{{ end }}", "<b>", id="not of a variable"),
        pytest.param("{{ with .ToolCalls }}<a>{{ end }}{{ range .ToolCalls }}<b>{{ end }}", NO_TAG, id="only `if`"),
        pytest.param("no calls", NO_TAG, id="not mentioned"),
    ],
)
def test_tag_of_tool_calls(text: str, tag: str) -> None:
    assert tool_call_tag(parse(text, NAMES)) == tag


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        ("{{ if .Thinking }}\n<think>\n{{ .Thinking }}\n</think>\n{{ end }}", ("<think>", "</think>")),
        ("A{{ .Thinking }}B{{ .Content }}C", ("A", "C")),
        ("<a>{{ $m.Thinking }}</a>", ("", "")),
        ("{{ range .Others }}<a>{{ .Thinking }}</a>{{ end }}", ("", "")),
    ],
)
def test_t84_tags_of_thinking(body: str, tags: tuple[str, str]) -> None:
    assert thinking_tags(parse(f"{{{{ range $i, $m := .Messages }}}}{body}{{{{ end }}}}", NAMES)) == tags


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        pytest.param("<a>{{ .Thinking }}</a>", ("", ""), id="outside of the loop"),
        pytest.param("{{ range $.Messages }}<a>{{ .Thinking }}</a>{{ end }}", ("", ""), id="not of a variable"),
        pytest.param("{{ range (slice .Messages 1) }}<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>"), id="a part"),
        pytest.param(
            "{{ range .Messages }}{{ with .Thinking }}<a>{{ . }}</a>{{ end }}{{ end }}", ("", ""), id="by `with`"
        ),
        pytest.param(
            "{{ range .Messages }}<a>{{ .Thinking }}{{ if .X }}{{ .Thinking }}</b>{{ end }}{{ end }}",
            ("<a>", "</b>"),
            id="later ones count, tag by tag",
        ),
        pytest.param(
            '{{ define "m" }}{{ range .Messages }}<a>{{ .Thinking }}</a>{{ end }}{{ end }}{{ template "m" . }}',
            ("", ""),
            id="not in a named template",
        ),
    ],
)
def test_tags_of_thinking(text: str, tags: tuple[str, str]) -> None:
    assert thinking_tags(parse(text, NAMES)) == tags

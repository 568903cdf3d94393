"""Hostile templates end soon, with an error that says which limit they met (security §5)."""

from __future__ import annotations

import time

import pytest

from llamero.errors import TemplateError
from llamero.messages import Message, ToolCall
from llamero.template import meter, parse
from llamero.template.render import Template, render
from tests.template.conversations import CONV, TODAY

LONG = "x" * 100_000
CONVERSATION = (
    Message("user", LONG),
    Message("assistant", "é" * 100_000),
    Message("user", "y"),
    Message("assistant", tool_calls=(ToolCall("a", {f"k{i}": [i] * 10 for i in range(300)}),)),
)
PROPERTIES = {f"p{i}": {"anyOf": [{"type": "string"}] * 20} for i in range(30)}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": PROPERTIES}}}]

FOREVER = "{{ range 1000000000 }}%s{{ end }}{{ .Messages | len }}"
FIRST, SECOND = "(index $.Messages 0).Content", "(index $.Messages 1).Content"
ARGUMENTS = "(index (index $.Messages 3).ToolCalls 0).Function.Arguments"

BOMBS = {
    "recursion": '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" .Messages }}',
    "recursion that doubles": (
        '{{ define "a" }}{{ if . }}{{ template "a" (slice . 1) }}{{ template "a" (slice . 1) }}{{ end }}{{ end }}'
        '{{ template "a" "%s" }}{{ .Messages | len }}' % ("x" * 60)
    ),
    "recursion through blocks": (
        '{{ define "a" }}' + "{{ if true }}" * 60 + '{{ template "a" . }}' + "{{ end }}" * 61
        + '{{ template "a" .Messages }}'
    ),
    "an empty loop": FOREVER % "",
    "loops in loops": "{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}{{ .Messages | len }}",
    "text": FOREVER % LONG,
    "a text that doubles": '{{ $x := "12345678" }}' + FOREVER % "{{ $x = print $x $x }}",
    "a text that doubles through a pipe": '{{ $x := "12345678" }}' + FOREVER % "{{ $x = $x | print $x | html }}",
    "width": FOREVER % '{{ printf "%1000000d" 1 }}',
    "precision": FOREVER % '{{ $x := printf "%.999999f" 1.5 }}',
    "many verbs": FOREVER % ('{{ $x := printf "' + "%v" * 50 + '"' + " 1.5" * 50 + " }}"),
    "many operands": FOREVER % ("{{ $x := print" + " 1.5" * 100 + " }}"),
    "many conditions": FOREVER % ("{{ if and" + " 1" * 1000 + " }}{{ end }}"),
    "many parentheses": FOREVER % ("{{ if " + "(not " * 50 + "1" + ")" * 50 + " }}{{ end }}"),
    "json of tools": FOREVER % "{{ $x := json $.Tools }}",
    "json of tools as a method": FOREVER % "{{ $x := $.Tools.String }}",
    "json of special characters": FOREVER % ('{{ $x := json "' + "<" * 5000 + '" }}'),
    "printed arguments": FOREVER % ('{{ $x := printf "%d" ' + ARGUMENTS + " }}"),
    "sorted arguments": FOREVER % ("{{ range " + ARGUMENTS + " }}{{ end }}"),
    "types of properties": (
        FOREVER % "{{ range (index $.Tools 0).Function.Parameters.Properties }}{{ toTypeScriptType . }}{{ end }}"
    ),
    "long texts compared": FOREVER % ("{{ $x := eq " + FIRST + " (print " + FIRST + ") }}"),
    "long texts ordered": FOREVER % ("{{ $x := lt " + SECOND + " " + SECOND + " }}"),
    "length in bytes": FOREVER % ("{{ $x := len " + SECOND + " }}"),
    "slices in bytes": FOREVER % ("{{ $x := slice " + SECOND + " 0 2 }}"),
    "quoting": FOREVER % ('{{ $x := printf "%q" ' + SECOND + " }}"),
    "escaping for scripts": FOREVER % ("{{ $x := js " + SECOND + " }}"),
    "escaping for URLs": FOREVER % ("{{ $x := urlquery " + SECOND + " }}"),
}  # fmt: skip


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_x75_bombs_end_soon(text: str) -> None:
    template = Template.parse(text)
    started = time.process_time()
    with pytest.raises(TemplateError, match=r"stopped after|maximum template depth|nested too deeply"):
        render(template, CONVERSATION, today=TODAY, tools=TOOLS)
    assert time.process_time() - started < 3, "some tenths of a second, on a machine with nothing else to do"


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        pytest.param("x" * (parse.MAX_SOURCE_CHARS + 1), "too long", id="a long source"),
        pytest.param("{{.}}" * parse.MAX_TOKENS, "too many tokens", id="actions"),
        pytest.param("{{ print" + " 1" * parse.MAX_TOKENS, "too many tokens", id="operands"),
        pytest.param("{{ " + "(" * 100_000, "nested too deeply", id="parentheses"),
        pytest.param("{{ if . }}" * 10_000, "nested too deeply", id="blocks"),
        pytest.param("{{ if . }}" + "{{ else if . }}" * 1000, "nested too deeply", id="else if"),
        pytest.param("{{ $x := 1 }}" * 1000, "too many variables", id="variables"),
        pytest.param("{{" * 500_000, "unexpected", id="openings"),
        pytest.param("{{/*" * 200_000, "unclosed comment", id="comments"),
        pytest.param("{{ " + "1" * 500_000 + " }}", "number syntax", id="a long number"),
        pytest.param("{{ '" * 100_000, "malformed character", id="quotes"),
    ],
)
def test_hostile_sources_are_refused_soon(text: str, limit: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError, match=limit):
        Template.parse(text)
    assert time.process_time() - started < 1


def test_recursion_may_be_as_deep_as_the_limit() -> None:
    text = '{{ define "a" }}{{ if . }}x{{ template "a" (slice . 1) }}{{ end }}{{ end }}{{ template "a" "%s" }}'
    deepest = meter.MAX_DEPTH - 2  # the main template, and the last call, which finds nothing left
    assert render(Template.parse(text % ("y" * deepest)), (), today=TODAY) == "x" * deepest
    with pytest.raises(TemplateError, match=r'at <\{\{template "a" .*exceeded maximum template depth \(64\)'):
        render(Template.parse(text % ("y" * (deepest + 1))), (), today=TODAY)


def test_long_conversations_are_far_from_the_limits() -> None:
    """A usual template takes some 60 steps per message: ten thousand messages are less than the limit."""
    text = (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}<{{ .Role }}>{{ .Content }}"
        '{{ if and $last (ne .Role "assistant") }}<assistant>{{ end }}{{ end }}'
    )
    messages = [Message("tool", "x" * 1000)] * 10_000
    assert len(render(Template.parse(text), messages, today=TODAY)) > 10_000_000


def test_the_exchanges_of_a_conversation_share_one_limit() -> None:
    """Else each of them could take as long as one bomb."""
    text = "{{ range 5000 }}{{ end }}{{ .Prompt }}{{ .Response }}"
    conversation = [Message(role, "x") for _ in range(300) for role in ("user", "assistant")]
    assert render(Template.parse(text), conversation[:2], today=TODAY)
    with pytest.raises(TemplateError, match="stopped after"):
        render(Template.parse(text), conversation, today=TODAY)


def test_errors_show_nothing_of_this_program() -> None:
    """Partly X-73: the texts that templates can cause."""
    for text in ("{{ .A.B }}", "{{ index 3 }}{{ index 3 3 }}", "{{ nil }}", BOMBS["recursion"]):
        with pytest.raises(TemplateError) as caught:
            render(Template.parse(text), CONV, today=TODAY)
        assert ".py" not in str(caught.value)
        assert "Traceback" not in str(caught.value)

"""TEMPLATEs rendered with conversations: the checks of modelfile-templates §9, from T-31 on."""

from __future__ import annotations

from datetime import date

import pytest

from llamero.errors import TemplateError
from llamero.messages import Message, ToolCall
from llamero.template.render import Template, merged, render
from tests.template.conversations import CONV, TODAY, in_message_mode, rendered


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        pytest.param(
            "{{ range .Messages }}<{{ .Role }}>{{ .Content }};{{ end }}<assistant>",
            "<system>Be kind;<user>hi;<assistant>yo;<user>bye;<assistant>",
            id="T-31",
        ),
        pytest.param("{{- range .Messages -}}  {{ .Role }};  {{- end }}", "system;user;assistant;user;", id="T-32"),
        pytest.param(
            "{{ range $i, $m := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}LAST:{{ $m.Content }}{{ end }}"
            "{{ end }}",
            "LAST:bye",
            id="T-33",
        ),
        pytest.param(
            '{{ range .Messages }}{{ if eq .Role "user" "system" }}{{ .Content }},{{ end }}{{ end }}',
            "Be kind,hi,bye,",
            id="T-34",
        ),
        pytest.param(
            '{{ $s := "" }}{{ range .Messages }}{{ if eq .Role "system" }}{{ $s = .Content }}{{ continue }}{{ end }}'
            '{{ if $s }}({{ $s }}) {{ $s = "" }}{{ end }}{{ .Content }}|{{ end }}',
            "(Be kind) hi|yo|bye|",
            id="T-35",
        ),
        pytest.param(
            "{{ with .Nope }}a{{ else with .System }}b{{ . }}{{ else }}c{{ end }}", "bBe kind", id="T-38"
        ),
        pytest.param(
            '{{ define "m" }}<{{ .Role }}>{{ end }}{{ range .Messages }}{{ template "m" . }}{{ end }}',
            "<system><user><assistant><user>",
            id="T-46, with an argument",
        ),
    ],
)  # fmt: skip
def test_a_conversation(text: str, prompt: str) -> None:
    assert in_message_mode(text) == prompt


def test_t36_scope_of_variables() -> None:
    assert in_message_mode("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}") == "1"
    assert in_message_mode("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}") == "2"


def refused(text: str) -> str:
    with pytest.raises(TemplateError) as caught:
        in_message_mode(text)
    return str(caught.value)


def test_t39_missing_values() -> None:
    assert in_message_mode("{{ .Nope }}") == "<no value>"
    assert "nil pointer evaluating interface {}.X" in refused("{{ .Nope.X }}")
    assert in_message_mode("{{ range .Nope }}a{{ else }}e{{ end }}") == "e"


def test_t40_unknown_field_of_a_message() -> None:
    text = refused("{{ range .Messages }}{{ .Bad }}{{ end }}")
    assert text.endswith('executing "" at <.Bad>: can\'t evaluate field Bad in type *template.templateMessage')


def test_t41_and_or_not() -> None:
    assert in_message_mode('{{ or .Nope "dflt" }}{{ and 1 "" }}|{{ not 0 }}') == "dflt|true"
    assert in_message_mode("{{ or .System (eq .Nope.X 1) }}") == "Be kind"


def test_t42_eq() -> None:
    assert "incompatible types for comparison" in refused('{{ eq "a" 1 }}')
    assert in_message_mode('{{ eq .Nope "a" }}') == "false"
    assert in_message_mode("{{ eq 1 2 1 }}") == "true"


def test_t43_len_slice_index() -> None:
    assert in_message_mode('{{ len "héé" }}') == "5"
    assert in_message_mode('{{ slice "abc" 1 2 }}') == "b"
    assert "index out of range: 99" in refused("{{ index .Messages 99 }}")


def test_t45_json() -> None:
    assert in_message_mode('{{ json "<é&" }}') == '"\\u003cé\\u0026"'
    assert in_message_mode("{{ json .Nope }}") == "null"


ROLL = {
    "type": "function",
    "function": {
        "name": "roll",
        "parameters": {
            "type": "object",
            "properties": {"sides": {"type": "integer"}, "n": {"type": ["integer", "null"]}},
        },
    },
}


def test_t47_properties_of_tools_in_typescript() -> None:
    text = (
        "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ .Function.Name }}("
        "{{ range $k, $v := .Function.Parameters.Properties }}{{ $k }}: {{ toTypeScriptType $v }}, {{ end }}){{ end }}"
    )
    assert rendered(text, tools=[ROLL]) == "roll(n: number | null, sides: number, )"


CALLS = "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}{{ .Function.Arguments }}{{ end }}{{ end }}"


def test_t48_arguments_print_as_sorted_json() -> None:
    call = ToolCall("roll", {"z": 1, "a": ["q", True]})
    assert rendered(CALLS, [Message("assistant", tool_calls=(call,))]) == 'roll{"a":["q",true],"z":1}'
    assert rendered(CALLS, [Message("assistant", tool_calls=(ToolCall("roll", {}),))]) == "roll{}"


def test_t49_no_tools() -> None:
    assert in_message_mode("{{ .Tools }}{{ len .Tools }}") == "null0"
    assert in_message_mode("{{ if .Tools }}yes{{ end }}") == ""


def test_t50_neighbours_of_one_role_are_one_message() -> None:
    conversation = [Message("tool", "1"), Message("tool", "2"), Message("user", "x"), Message("user", "y")]
    assert rendered("{{ range .Messages }}{{ .Role }} {{ end }}", conversation) == "tool tool user "
    last = "{{ (index .Messages 2).Content }}{{ range .Messages }}{{ end }}"
    assert rendered(last, conversation) == "x\n\ny"


def test_nothing_of_a_joined_message_is_lost() -> None:
    calls = ToolCall("a", {}), ToolCall("b", {})
    first = Message("assistant", "x", "t1", (b"1",), calls[:1])
    second = Message("assistant", "y", "t2", (b"2",), calls[1:])
    assert merged([first, second]) == [Message("assistant", "x\n\ny", "t1\n\nt2", (b"1", b"2"), calls)]
    assert merged([Message("assistant", "x"), second])[0].thinking == "t2"


def test_t51_system_messages_together() -> None:
    conversation = [Message("system", "A"), Message("user", "x"), Message("system", "B")]
    assert in_message_mode("{{ .System }}", conversation) == "A\n\nB"


SUM = [Message("user", "1+1?"), Message("assistant", "2"), Message("user", "2+2?")]
LATE = [Message("user", "a"), Message("assistant", "b"), Message("system", "c"), Message("user", "d")]


@pytest.mark.parametrize(
    ("text", "conversation", "prompt"),
    [
        pytest.param(
            "Q:{{ .Prompt }}\nA:{{ .Response }}\n--\n", SUM, "Q:1+1?\nA:2\n--\nQ:2+2?\nA:", id="T-52"
        ),
        pytest.param("Q:{{ .Prompt }}\nA:", SUM, "Q:1+1?\nA:2Q:2+2?\nA:", id="T-53"),
        pytest.param(
            "{{ if .Prompt }}U:{{ .Prompt }}\n{{ end }}A:{{ .Response }}<e>",
            [Message("user", "a"), Message("assistant", "partial")],
            "U:a\nA:partial",
            id="T-54",
        ),
        pytest.param(
            "{{ if .System }}S:{{ .System }}\n{{ end }}{{ if .Prompt }}U:{{ .Prompt }}\n{{ end }}A:{{ .Response }}",
            LATE,
            "U:a\nA:bS:c\nU:d\nA:",
            id="T-55",
        ),
        pytest.param("[{{ .System }}|{{ .Prompt }}]", LATE[:3], "[|a]b[c|]", id="a system text at the end"),
        pytest.param("[{{ .Prompt }}]", [Message("tool", "t"), Message("user", "a")], "[a]", id="tools are ignored"),
        pytest.param("[{{ .Prompt }}{{ .Tools }}]", [], "[<no value>]", id="nothing said"),
    ],
)  # fmt: skip
def test_templates_without_messages_run_once_per_exchange(text: str, conversation: list[Message], prompt: str) -> None:
    assert rendered(text, conversation) == prompt


PREFILL = [Message("user", "a"), Message("assistant", "b")]


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        pytest.param("{{ .Prompt }}>{{ .Response }}<e>", "a>b", id="text behind goes"),
        pytest.param('>{{ printf "%s!" .Response }}<e>', ">b!", id="in a call it counts, and the call stays"),
        pytest.param('>{{ .Response | printf "%s!" }}<e>', ">b", id="later stages go"),
        pytest.param("{{ if .Response }}x{{ end }}>{{ .Response }}<e>", "x>b", id="conditions do not count"),
        pytest.param("{{ $.Response }}>{{ .Response }}<e>", "b>b", id="the variable's field does not count"),
        pytest.param(
            "{{ if .Prompt }}>{{ .Response }}<e>{{ else }}never{{ end }}<f>", ">b", id="in a block, its else goes"
        ),
        pytest.param("{{ if .Nope }}x{{ else }}>{{ .Response }}<e>{{ end }}<f>", ">b", id="inside an else"),
        pytest.param("{{ range .Nope }}x{{ else }}>{{ .Response }}{{ end }}<f>", ">b", id="inside a loop's else"),
        pytest.param("{{ json .Prompt }}{{ currentDate }}>{{ .Response }}", '"a"2026-03-01>b', id="functions go on"),
    ],
)  # fmt: skip
def test_the_last_exchange_ends_where_the_answer_begins(text: str, prompt: str) -> None:
    assert rendered(text, PREFILL) == prompt


def test_t56_filling_in_the_middle() -> None:
    text = "{{ .Prompt }}<HOLE>{{ .Suffix }}"
    assert rendered(text, (), prompt="def f(", suffix="return") == "def f(<HOLE>return"


def test_filling_in_knows_no_conversation() -> None:
    text = (
        "{{ range .Messages }}{{ .Role }}{{ end }}{{ .Prompt }}|{{ .Suffix }}|{{ .Response }}|{{ .System }}{{ .Tools }}"
    )
    assert rendered(text, CONV, prompt="a", suffix="b", tools=[ROLL]) == "a|b||<no value><no value>"


def test_a_prompt_without_suffix_is_a_conversation() -> None:
    text = "{{ range .Messages }}{{ .Role }}{{ end }}{{ .Prompt }}{{ .Suffix }}"
    assert rendered(text, CONV[:2], prompt="a") == "systemuser<no value><no value>"


def test_t57_thinking() -> None:
    text = "{{ if and .IsThinkSet (not .Think) }}/no_think{{ else }}{{ .ThinkLevel }}{{ end }}"
    for in_mode in (in_message_mode, rendered):
        assert in_mode(text, (), think=False) == "/no_think"
        assert in_mode(text, (), think=True) == "medium"
        assert in_mode(text, (), think="high") == "high"
        assert in_mode(text + "{{ .IsThinkSet }}", (), think=None) == "false"


def test_t58_dates() -> None:
    assert in_message_mode("{{ currentDate }}") == "2026-03-01"
    assert in_message_mode('{{ yesterdayDate "x" }}') == "2026-02-28"
    first = render(Template.parse("{{ .Prompt }}{{ yesterdayDate }}"), (), today=date(2026, 1, 1))
    assert first == "2025-12-31"


def test_fields_of_a_message() -> None:
    message = Message("tool", "c", "t", (b"\x01",), (ToolCall("f", {}, "id", 2),), "name", "call_1")
    text = (
        "{{ range .Messages }}{{ .Role }} {{ .Content }} {{ .Thinking }} {{ len .Images }} {{ .ToolName }} "
        "{{ .ToolCallID }} {{ range .ToolCalls }}{{ .ID }} {{ .Function.Index }} {{ .Function.Name }}{{ end }}{{ end }}"
    )
    assert rendered(text, [message]) == "tool c t 1 name call_1 id 2 f"


def test_what_a_template_cannot_see_of_a_tool_is_left_out() -> None:
    """Partly N-99: top-level properties are sorted, nested ones keep their order, other keywords are gone."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["b"],
        "properties": {
            "b": {"type": "integer", "default": 3, "minimum": 1, "description": "<b>"},
            "a": {"type": "object", "properties": {"z": {"type": "string"}, "y": {"enum": ["u", 1]}}},
        },
    }
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}}
    assert in_message_mode("{{ .Tools }}", tools=[tool]) == (
        '[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","required":["b"],'
        '"properties":{"a":{"type":"object","properties":{"z":{"type":"string"},"y":{"enum":["u",1]}}},'
        '"b":{"type":"integer","description":"\\u003cb\\u003e"}}}}}]'
    )


@pytest.mark.parametrize(
    "tool",
    [
        {},
        {"type": 3, "items": [1], "function": None},
        {"function": {"name": None, "description": 1, "parameters": []}},
        {
            "function": {
                "parameters": {"properties": {"a": True, "b": None, "c": {"type": 3, "anyOf": [1], "enum": {}}}}
            }
        },
        {
            "function": {
                "parameters": {"required": [1, None], "$defs": {"x": {}}, "items": {"a": None}, "properties": []}
            }
        },
    ],
)
def test_odd_tools_are_seen_as_far_as_they_make_sense(tool: dict[str, object]) -> None:
    text = (
        "{{ .Tools }}{{ range .Tools }}{{ .Function.Name }}{{ range .Function.Parameters.Properties }}"
        "{{ toTypeScriptType . }}{{ json . }}{{ end }}{{ .String }}{{ end }}"
    )
    assert in_message_mode(text, tools=[tool]).startswith('[{"type":"')


def test_big_arguments_print_in_full() -> None:
    """§2.6 [+]: in the reference this is 1e+06."""
    call = ToolCall("f", {"n": 1000000, "x": 0.5})
    text = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ range .Function.Arguments }}{{ . }} {{ end }}{{ end }}{{ end }}"
    )
    assert rendered(text, [Message("assistant", tool_calls=(call,))]) == "1000000 0.5 "


def test_half_a_character_is_no_text_unless_its_other_half_follows() -> None:
    assert in_message_mode('{{ slice "é" 0 1 }}{{ slice "é" 1 }}') == "é"
    assert in_message_mode('{{ slice "é" 0 1 }}|') == "\ufffd|"


def test_any_content_comes_through_unchanged() -> None:
    content = '{{ .Evil }} <|im_end|> \u0000 é\u2028 😀 %s \\ "'
    assert rendered("{{ range .Messages }}{{ .Content }}{{ end }}", [Message("user", content)]) == content
    assert rendered("{{ .Prompt }}", [Message("user", content)]) == content


def test_a_template_can_be_rendered_again() -> None:
    template = Template.parse('{{ $s := "" }}{{ range .Messages }}{{ $s = .Content }}{{ end }}{{ $s }}')
    assert [render(template, CONV[:n], today=TODAY) for n in (1, 2, 3)] == ["Be kind", "hi", "yo"]

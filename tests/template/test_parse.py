"""Templates to nodes (modelfile-templates §2.2, §2.3). The texts of parse errors: see test_execute's table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import TemplateError
from llamero.template.functions import NAMES
from llamero.template.nodes import Action, Branch, Call, Chain, Field, Pipe, Text, Tree, Variable
from llamero.template.parse import parse as parse_with
from llamero.template.render import Template


def parse(source: str) -> Tree:
    return parse_with(source, NAMES)


def test_else_if_is_a_branch_alone_in_the_other() -> None:
    (outer,) = parse("{{ if .A }}a{{ else if .B }}b{{ else }}c{{ end }}").nodes
    assert isinstance(outer, Branch)
    (inner,) = outer.otherwise
    assert isinstance(inner, Branch)
    assert (str(inner.pipe), str(inner.body[0]), str(inner.otherwise[0])) == (".B", "b", "c")


def test_operands() -> None:
    (node,) = parse("{{ print .A.B $.C (index .D 0).E (1) }}").nodes
    assert isinstance(node, Action)
    _, field, variable, chain, pipe = node.pipe.commands[0].args
    assert isinstance(field, Field)
    assert field.names == ("A", "B")
    assert isinstance(variable, Variable)
    assert (variable.name, variable.names) == ("$", ("C",))
    assert isinstance(chain, Chain)
    assert (str(chain.base), chain.names) == ("index .D 0", ("E",))
    assert isinstance(pipe, Pipe)


def test_variables_of_a_pipeline() -> None:
    (branch,) = parse("{{ range $i, $x := .L }}{{ $i = 3 }}{{ end }}").nodes
    assert isinstance(branch, Branch)
    assert (branch.pipe.variables, branch.pipe.assigns) == (("$i", "$x"), False)
    (action,) = branch.body
    assert isinstance(action, Action)
    assert (action.pipe.variables, action.pipe.assigns) == (("$i",), True)


def test_definitions_and_blocks_leave_the_main_template() -> None:
    tree = parse('{{ define "a" }}x{{ end }}y{{ block "b" . }}z{{ end }}')
    assert tree.defined == {"a": (Text(16, "x"),), "b": (Text(44, "z"),)}
    text, call = tree.nodes
    assert str(text) == "y"
    assert isinstance(call, Call)
    assert (call.name, str(call.pipe)) == ("b", ".")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("12", 12), ("0x10", 16), ("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000), ("-5", -5), ("'a'", 97),
        ("'\\n'", 10), ("1.5", 1.5), ("1e6", 1e6), ("0x1p4", 16.0), (".5", 0.5), ("true", True),
        (r'"\n\t\"\\\u00e9\x41\101"', "\n\t\"\\éAA"), (r"`\n`", r"\n"), ("`a\r\nb`", "a\nb"), ('"\\xc3\\xa9"', "é"),
    ],
)  # fmt: skip
def test_literals(source: str, value: object) -> None:
    (node,) = parse(f"{{{{ {source} }}}}").nodes
    assert isinstance(node, Action)
    (literal,) = node.pipe.commands[0].args
    assert literal.value == value  # type: ignore[union-attr]
    assert type(literal.value) is type(value)  # type: ignore[union-attr]
    assert str(literal) == source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ .Prompt", "template: :1: unclosed action"),
        ("{{ if .Prompt }}", "template: :1: unexpected EOF"),
        ("{{ Prompt }}", 'template: :1: function "Prompt" not defined'),
    ],
)
def test_refused_templates_are_named_as_go_names_them(text: str, message: str) -> None:
    """Partly T-29 and N-116: the texts behind `template error: `."""
    with pytest.raises(TemplateError) as caught:
        Template.parse(text)
    assert str(caught.value) == message


def test_t46_a_template_needs_an_argument() -> None:
    for text in ('{{ define "m" }}{{ end }}{{ template "m" }}', '{{ if .X }}{{ template "m" }}{{ end }}'):
        with pytest.raises(TemplateError, match=r"^undefined template specified$"):
            Template.parse(text)


def test_the_line_of_an_error_is_that_of_its_token() -> None:
    for text, message in (
        ("a\n{{ .B }}\n{{ foo }}", 'template: :3: function "foo" not defined'),
        ("{{ .A\n", "template: :2: unclosed action started at :1"),
        ('\n{{ .A\n "x }}', "template: :3: unterminated quoted string in action started at :2"),
        ("{{ if .A }}\n{{/* x", "template: :2: unclosed comment in action started at :1"),
    ):
        with pytest.raises(TemplateError) as caught:
            parse(text)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "source",
    [
        "a{{ .A }}b",
        "{{- if and .A (not .B) -}} x {{- else if .C }}y{{ else }}z{{ end }}",
        '{{ range $i, $x := .L }}{{ $y := printf "%d" $i | len }}{{ break }}{{ else }}x{{ end }}',
        '{{ range .L }}{{ with $x := (index . 0).A.B }}{{ $x.C }}{{ else with $.D }}{{ . }}{{ end }}{{ end }}',
        '{{ define "a b" }}{{ template "c" .D }}{{ end }}{{ block `c` . }}{{ 1.5 }}{{ nil | print }}{{ end }}',
        "a { {{- 1 -}} } {{ `x` }}{{- /* c */ -}}{",
    ],
)  # fmt: skip
def test_written_nodes_are_read_as_the_same_nodes(source: str) -> None:
    tree = parse(source)
    assert str(parse(str(tree))) == str(tree)


def test_a_brace_before_an_action_stays_text() -> None:
    tree = parse("{ {{- .A }}")
    assert str(tree) == '{{"{"}}{{.A}}'
    assert str(parse(str(tree))) == str(tree)


FRAGMENTS = (
    "{{ {{- }} -}} if else end range with define template block break continue nil true $ $x := = | ( ) . .A .Messages "
    ".Content \"a\" `r` 'c' 1 -2.5 , len eq index slice printf json and or /* */ \\ é { }"
).split()


@given(st.lists(st.sampled_from([*FRAGMENTS, " ", "\n", "text"]), max_size=25).map("".join))
def test_any_text_is_refused_or_read_and_written(source: str) -> None:
    assert_stable_or_refused(source)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_in_an_action_is_refused_or_read_and_written(before: str, inside: str) -> None:
    assert_stable_or_refused(f"{before}{{{{ {inside} }}}}")


def assert_stable_or_refused(source: str) -> None:
    try:
        tree = parse(source)
    except TemplateError:
        return
    assert str(parse(str(tree))) == str(tree)

"""What is text, what is an action, and where space goes (modelfile-templates §2.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.template.lex import Token, tokens
from tests.template.conversations import in_message_mode


def kinds(source: str) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens(source)]


def inside(source: str) -> list[tuple[str, str]]:
    """The tokens of an action, without its braces, its spaces and the end."""
    return [pair for pair in kinds(f"{{{{{source}}}}}")[1:-2] if pair[0] != "space"]


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("a b", ["a b"], id="text alone"),
        pytest.param(" {{.}} ", [" ", " "], id="space is kept"),
        pytest.param("a \t\r\n{{- . -}}\n\r\t b", ["a", "b"], id="trimmed on both sides"),
        pytest.param("a {{-3}} b", ["a ", " b"], id="a number, no trimming"),
        pytest.param("a {{- 3}} b", ["a", " b"], id="trimmed before"),
        pytest.param("a {{3 -}} b", ["a ", "b"], id="trimmed behind"),
        pytest.param("a {{/* gone */}} b", ["a ", " b"], id="a comment"),
        pytest.param("a {{- /* gone */ -}} b", ["a", "b"], id="a comment that trims"),
        pytest.param("a {{/* }} {{ */}}b", ["a ", "b"], id="braces in a comment"),
        pytest.param("{{/*/*/}}b", ["b"], id="a comment that seems to end where it begins"),
        pytest.param("\xa0{{- . -}}\u3000", ["\xa0", "\u3000"], id="only the four ASCII blanks are space"),
        pytest.param("}} { } {", ["}} { } {"], id="braces that open nothing"),
    ],
)
def test_text(source: str, texts: list[str]) -> None:
    assert [text for kind, text in kinds(source) if kind == "text"] == texts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (".", [("dot", ".")]),
        (".A.B", [("field", ".A"), ("field", ".B")]),
        ("$", [("variable", "$")]),
        ("$x.A", [("variable", "$x"), ("field", ".A")]),
        ("$.A", [("variable", "$"), ("field", ".A")]),
        (".été", [("field", ".été")]),
        ("if x", [("keyword", "if"), ("identifier", "x")]),
        ("nil true falsey", [("nil", "nil"), ("bool", "true"), ("identifier", "falsey")]),
        ("-3 +4 .5 1. 1.e3 0x1F 1_000", [("number", n) for n in "-3 +4 .5 1. 1.e3 0x1F 1_000".split()]),
        (r"""'a' '\'' "a\"b" `a"\`""", [("character", "'a'"), ("character", r"'\''"), ("string", r'"a\"b"'),
                                       ("raw string", '`a"\\`')]),
        ('"}}"', [("string", '"}}"')]),
        ("$x := .A | f (1)", [("variable", "$x"), (":=", ":="), ("field", ".A"), ("|", "|"), ("identifier", "f"),
                              ("(", "("), ("number", "1"), (")", ")")]),
        ("$x = ,", [("variable", "$x"), ("=", "="), ("other", ",")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_tokens(source: str, expected: list[tuple[str, str]]) -> None:
    assert inside(source) == expected


def test_an_action_may_span_lines() -> None:
    assert kinds("{{\n.A\n}}")[1:4] == [("space", "\n"), ("field", ".A"), ("space", "\n")]


def test_tokens_know_where_they_are() -> None:
    assert list(tokens("é{{ .A -}} b")) == [
        Token("text", "é", 0),
        Token("{{", "{{", 1),
        Token("space", " ", 3),
        Token("field", ".A", 4),
        Token("}}", " -}}", 6),
        Token("text", "b", 11),
        Token("eof", "", 12),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ .A", "unclosed action"),
        ("{{", "unclosed action"),
        ("{{/* x }}", "unclosed comment"),
        ("{{/* x */ }}", "comment ends before closing delimiter"),
        ('{{ "a }}', "unterminated quoted string"),
        ('{{ "a\nb" }}', "unterminated quoted string"),
        ("{{ `a }}", "unterminated raw quoted string"),
        ("{{ 'a }}", "unterminated character constant"),
        ("{{ (1 }}", "unclosed left paren"),
        ("{{ 1) }}", "unexpected right paren"),
        ("{{ 3x }}", 'bad number syntax: "3x"'),
        ("{{ 1+2i }}", 'bad number syntax: "1+2"'),
        ("{{ .A² }}", "bad character U+00B2 '²'"),
        ("{{$x=1}}", "bad character U+003D '='"),
        ("{{ € }}", "unrecognized character in action: U+20AC '€'"),
        ("{{ \x01 }}", "unrecognized character in action: U+0001"),
        ("{{ : }}", "expected :="),
    ],
)
def test_the_first_error_is_the_last_token(source: str, message: str) -> None:
    last = list(tokens(source))[-1]
    assert (last.kind, last.text) == ("error", message)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [('a  {{- " b " -}}  c', "a b c"), ("a {{-3}}", "a -3"), ("a {{- /* gone */ -}} b", "ab")],
)
def test_t37_trimming(text: str, prompt: str) -> None:
    assert in_message_mode(text) == prompt


BLANKS = st.text(" \t\r\n", max_size=5)
PLAIN = st.text(st.characters(exclude_characters="{} \t\r\n", exclude_categories=["Cs"]), max_size=5)


@given(PLAIN, BLANKS, BLANKS, PLAIN, st.booleans(), st.booleans())
def test_trimming_takes_exactly_the_blanks_beside_the_action(
    before: str, left: str, right: str, after: str, trims_left: bool, trims_right: bool
) -> None:
    opening, closing = "{{- " if trims_left else "{{ ", " -}}" if trims_right else " }}"
    expected = before + (left * (not trims_left)) + "x" + (right * (not trims_right)) + after
    assert in_message_mode(f'{before}{left}{opening}"x"{closing}{right}{after}') == expected

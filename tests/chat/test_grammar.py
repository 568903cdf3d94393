"""Grammars of our option `grammar`: what the engine can use, and what would hang or mislead it. security §3."""

from __future__ import annotations

import contextlib
import time

import pytest

from llamero.chat.grammar import check_grammar
from llamero.errors import BadRequest

JSON = r"""
# an object, as the engine's own examples write it
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param('root ::= "yes" | "no"', id="plain"),
        pytest.param(JSON, id="JSON"),
        pytest.param('root::="a"', id="no blanks"),
        pytest.param('root ::=\t"a" # comment\r\n\r\n# another\r\nx-1 ::= "b"\r\n', id="comments and line ends"),
        pytest.param('root ::= ("a"\n | "b")', id="lines within a group"),
        pytest.param('root ::= "a" |\n "b"', id="a line after a bar"),
        pytest.param('root ::= "a" root | "b"', id="right recursion"),
        pytest.param('root ::= "(" root ")" root | ""', id="recursion in the middle"),
        pytest.param('root ::= | "a"', id="an empty alternative"),
        pytest.param('ws ::= [ ]*\nroot ::= ws* (ws "a")+', id="repeating what may be empty"),
        pytest.param('root ::= "a"{2} "b"{2,} "c"{ 0 , 1000 }', id="counts"),
        pytest.param(r'root ::= "\x41\u00e9\U0001F600\t\r\n\\\"\[\]" [\]\\a-] [^\n]', id="escapes"),
        pytest.param("root ::= <[5]> !<[7]> <think> .", id="tokens"),
        pytest.param('root ::= "日本" [あ-ん]', id="any script"),
        pytest.param("root ::= " + "(" * 32 + '"a"' + ")" * 32, id="32 groups"),
    ],
)
def test_grammars_that_pass(grammar: str) -> None:
    check_grammar(grammar)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        pytest.param("", "has no rule named root", id="empty"),
        pytest.param('start ::= "a"', "has no rule named root", id="no root"),
        pytest.param('root ::= "a" b\n\nb ::= c', "line 3: the rule c is not defined", id="undefined"),
        pytest.param('root ::= "a"\nroot ::= "b"', "line 2: the rule root is defined twice", id="twice"),
        pytest.param('%llguidance {}\nstart: "a"', "line 1: expected a rule: name ::= ...", id="another notation"),
        pytest.param("root = 1", "line 1: expected a rule: name ::= ...", id="no rule"),
        pytest.param('root ::= "a" @', "line 1: unexpected '@'", id="stray character"),
        pytest.param('root ::= "a")', "line 1: unexpected ')'", id="stray bracket"),
        pytest.param('root ::= ("a"', "line 1: a group that is not closed", id="open group"),
        pytest.param('root ::= "a', "line 1: a string that is not closed, or a faulty escape in it", id="open string"),
        pytest.param(r'root ::= "\q"', "line 1: a string that is not closed, or a faulty escape in it", id="escape"),
        pytest.param(
            r'root ::= "\U00110000"', "line 1: a string that is not closed, or a faulty escape in it", id="code"
        ),
        pytest.param("root ::= []", "line 1: a character class that is empty or not closed", id="empty class"),
        pytest.param("root ::= [^]", "line 1: a character class that is empty or not closed", id="empty negation"),
        pytest.param("root ::= [z-a]", "line 1: the range z-a ends before it starts", id="range"),
        pytest.param(r"root ::= [b-\x61]", r"line 1: the range b-\x61 ends before it starts", id="escaped range"),
        pytest.param('root ::= "a"{5,2}', "line 1: the repetition {5,2} ends before it starts", id="hangs the engine"),
        pytest.param('root ::= "a"{1001}', "line 1: a repetition of more than 1000", id="{n}"),
        pytest.param('root ::= "a"{0,1001}', "line 1: a repetition of more than 1000", id="{n,m}"),
        pytest.param('root ::= "a"{,3}', "line 1: expected a repetition: {n}, {n,} or {n,m}", id="no minimum"),
        pytest.param('root ::= "a"**', "line 1: unexpected '*'", id="repetition repeated"),
        pytest.param('root ::= ""*', "line 1: an empty string cannot be repeated", id="nothing repeated"),
        pytest.param('root ::= "a" # \0\nx', "holds the character U+0000", id="what the engine would not read"),
        pytest.param('root ::= "\ud800"', "holds the character U+D800", id="half a character"),
        pytest.param("root ::= " + "(" * 33 + '"a"' + ")" * 33, "line 1: groups nested deeper than 32", id="33 groups"),
        pytest.param('root ::= "a"' + " " * 64 * 1024, "larger than 64 KiB", id="64 KiB"),
        pytest.param(
            'root ::= "' + "a" * 1_000 + '"{1000}', "line 1: too large with all repetitions written out", id="expansion"
        ),
    ],
)
def test_grammars_that_are_refused(grammar: str, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_grammar(grammar)
    assert caught.value.status == 400
    assert str(caught.value).startswith(f"invalid grammar: {reason}")


@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param('root ::= root "a" | "b"', id="itself"),
        pytest.param('root ::= a "z"\na ::= b\nb ::= a "c"', id="through others"),
        pytest.param('root ::= (("x" | root) "a")', id="within groups"),
        pytest.param('root ::= x root "b"\nx ::= "c"?', id="behind what may be empty: hangs the engine"),
        pytest.param('root ::= ("x"* | "y") root "b"', id="behind a group that may be empty"),
        pytest.param('root ::= "x"{0,3} ""  (y y) root\ny ::= | "a"', id="behind much that may be empty"),
        pytest.param('root ::= (root "a")* "b"', id="repeated"),
    ],
)
def test_left_recursion_is_found(grammar: str) -> None:
    with pytest.raises(BadRequest, match=r"invalid grammar: the rule \w+ is left-recursive"):
        check_grammar(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= a0\n" + "".join(f"a{i}::=a{i + 1}\n" for i in range(4_000)) + "a4000::=",
        "root ::= "
        + " ".join(f"a{i}" for i in range(3_000))
        + "\n"
        + "".join(f"a{i}::=a{i + 1}\n" for i in range(3_000))
        + "a3000::=",
        "root ::= " + "(" * 60_000,
        "root ::= " + "[a-z]" * 13_000,
        "root ::= " + "a |" * 20_000,
    ],
)
def test_hostile_grammars_take_no_time(grammar: str) -> None:
    started = time.process_time()
    with contextlib.suppress(BadRequest):
        check_grammar(grammar)
    assert time.process_time() - started < 1.5

"""A template's source to tokens: what is text, what is an action, where space was trimmed. It knows no grammar.

Source: modelfile-templates §2.1; every error text was compared with Go's (tests/data/go_templates.json).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Generator, Iterator
from typing import Literal, NamedTuple

from .quoting import quote

Kind = Literal[
    "text", "{{", "}}", "space", "(", ")", "|", ":=", "=",
    "dot", "field", "variable", "identifier", "keyword",
    "bool", "nil", "number", "character", "string", "raw string",
    "other", "error", "eof",
]  # fmt: skip


class Token(NamedTuple):
    kind: Kind
    text: str
    """As it stands in the source; for errors the message."""
    at: int
    """Offset in the source, in characters."""


SPACES = " \t\r\n"
KEYWORDS = frozenset("block break continue define else end if nil range template with".split())

_DIGITS = "[0-9_]*"
_HEX = "[0-9a-fA-F_]*"
_NUMBER = (
    rf"[+-]?(?:0[xX]{_HEX}(?:\.{_HEX})?(?:[pP][+-]?{_DIGITS})?|0[oO][0-7_]*|0[bB][01_]*"
    rf"|{_DIGITS}(?:\.{_DIGITS})?(?:[eE][+-]?{_DIGITS})?)"
)
_NEXT = re.compile(
    rf"""
      (?P<space>[ \t\r\n]+)
    | (?P<number>(?=[+-]|\.?[0-9]){_NUMBER})
    | (?P<field>\.\w*)
    | (?P<variable>\$\w*)
    | (?P<identifier>\w+)
    | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
    | (?P<raw>`[^`]*`)
    | (?P<character>'(?:[^'\\\n]|\\[^\n])*')
    | (?P<sign>:=|[=|()])
    """,
    re.VERBOSE,
)
_SECOND_NUMBER = re.compile(_NUMBER)
_UNTERMINATED = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}
_CLOSING = re.compile(r"}}|[ \t\r\n]-}}")
_SPACE = re.compile(r"[ \t\r\n]*")


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a template, made as they are asked for. The last is `eof`, or the `error` that ends the reading."""
    at = 0
    while (opening := source.find("{{", at)) >= 0:
        inside = opening + 2
        text = source[at:opening]
        if source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(SPACES):
            text, inside = text.rstrip(SPACES), inside + 2
        if text:
            yield Token("text", text, at)
        if source.startswith("/*", inside):
            token = _comment(source, inside)
        else:
            yield Token("{{", "{{", opening)
            token = yield from _action(source, inside)
        if token.kind == "error":
            yield token
            return
        at = token.at + len(token.text)
        if len(token.text) > 2:
            at = _end(_SPACE, source, at)
    if at < len(source):
        yield Token("text", source[at:], at)
    yield Token("eof", "", len(source))


def _comment(source: str, at: int) -> Token:
    """What ends a comment: `}}`, perhaps with the sign that trims, or an error."""
    end = source.find("*/", at + 2)
    if end < 0:
        return Token("error", "unclosed comment", at)
    closing = _CLOSING.match(source, end + 2)
    if closing is None:
        return Token("error", "comment ends before closing delimiter", at)
    return Token("}}", closing.group(), closing.start())


def _action(source: str, at: int) -> Generator[Token, None, Token]:
    """The tokens of one action. Returns what ended it: its `}}`, which has been given out too, or an error."""
    parens = 0
    while True:
        if closing := _CLOSING.match(source, at):
            if parens:
                return Token("error", "unclosed left paren", at)
            token = Token("}}", closing.group(), at)
            yield token
            return token
        token = _next(source, at)
        if token.kind == "space" and _CLOSING.match(source, at + len(token.text) - 1):
            token = token._replace(text=token.text[:-1])  # the last blank belongs to ` -}}`
        parens += (token.kind == "(") - (token.kind == ")")
        if parens < 0:
            token = Token("error", "unexpected right paren", at)
        if token.kind == "error":
            return token
        yield token
        at += len(token.text)


def _next(source: str, at: int) -> Token:
    found = _NEXT.match(source, at)
    if found is None:
        return _odd(source, at)
    text = found.group()
    match found.lastgroup:
        case "space":
            return Token("space", text, at)
        case "sign":
            return Token(text, text, at)  # type: ignore[arg-type]  # each of the signs is a kind
        case "string":
            return Token("string", text, at)
        case "raw":
            return Token("raw string", text, at)
        case "character":
            return Token("character", text, at)
        case "number":
            return _number(source, at, text)
        case _:
            return _word(source, at, text)


def _word(source: str, at: int, text: str) -> Token:
    """A field, variable, identifier or keyword, if what comes next may follow it."""
    if not text.isascii():
        text = text[:1] + "".join(_leading_letters(text[1:])) if text[0] in ".$" else "".join(_leading_letters(text))
    end = at + len(text)
    following = source[end : end + 1]
    if following not in ("", *" \t\r\n.,|:()") and not source.startswith("}}", end):
        return Token("error", f"bad character {_code_point(following)}", at)
    if text == ".":
        return Token("dot", text, at)
    if text[0] == ".":
        return Token("field", text, at)
    if text[0] == "$":
        return Token("variable", text, at)
    if text in KEYWORDS:
        return Token("nil" if text == "nil" else "keyword", text, at)
    return Token("bool" if text in ("true", "false") else "identifier", text, at)


def _leading_letters(word: str) -> Iterator[str]:
    """Python's `\\w` knows more characters than Go's identifiers, such as `²`."""
    for character in word:
        if character != "_" and unicodedata.category(character)[0] != "L" and unicodedata.category(character) != "Nd":
            return
        yield character


def _number(source: str, at: int, text: str) -> Token:
    end = at + len(text)
    following = source[end : end + 1]
    if following in ("+", "-") and following:  # Go tries a complex number here, which no template needs
        return Token("error", f"bad number syntax: {quote(source[at : _end(_SECOND_NUMBER, source, end)])}", at)
    if following == "_" or following.isalnum():
        return Token("error", f"bad number syntax: {quote(text + following)}", at)
    return Token("number", text, at)


def _odd(source: str, at: int) -> Token:
    """What begins no token: an error, or an ASCII sign that the grammar will refuse."""
    character = source[at : at + 1]
    if not character:
        return Token("error", "unclosed action", at)
    if character in _UNTERMINATED:
        return Token("error", f"unterminated {_UNTERMINATED[character]}", at)
    if character == ":":
        return Token("error", "expected :=", at)
    if " " < character <= "~":
        return Token("other", character, at)
    return Token("error", f"unrecognized character in action: {_code_point(character)}", at)


def _code_point(character: str) -> str:
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"


def _end(pattern: re.Pattern[str], source: str, at: int) -> int:
    found = pattern.match(source, at)
    return found.end() if found else at

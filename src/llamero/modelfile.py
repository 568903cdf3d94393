"""Modelfiles: the text format that says what a model is made of, read and printed. No files, no paths, no hashes.

Source: modelfile-templates §1. A Modelfile is a list of instructions, one per line; only a value that begins with a
quote may go on over more lines. What an instruction is worth is asked of `Modelfile`; what a path means is the CLI's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest
from .messages import Message
from .options import DEPRECATED_PARAMETERS, parse_parameter

INSTRUCTIONS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction: `SYSTEM hi` is ("system", "hi"), `PARAMETER top_k 1` is ("parameter", "1", key="top_k")."""

    name: str
    value: str
    key: str = ""
    """The parameter's name or the message's role."""


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The instructions in their order, and what they amount to: of most the last one counts, some add up."""

    commands: tuple[Command, ...]

    @property
    def froms(self) -> tuple[str, ...]:
        return self._all("from")

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._all("adapter")

    @property
    def drafts(self) -> tuple[str, ...]:
        return self._all("draft")

    @property
    def licenses(self) -> tuple[str, ...]:
        return self._all("license")

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(each.key, each.value) for each in self.commands if each.name == "message")

    @property
    def template(self) -> str:
        """Empty: not set, like the other texts."""
        return self._last("template")

    @property
    def system(self) -> str:
        return self._last("system")

    @property
    def renderer(self) -> str:
        return self._last("renderer")

    @property
    def parser(self) -> str:
        return self._last("parser")

    @property
    def requires(self) -> str:
        """The last version, without its `v`; raises BadRequest (E8) when one of them is none."""
        given = [version.removeprefix("v") for version in self._all("requires")]
        if not all(_VERSION.fullmatch(version) for version in given):
            raise BadRequest("requires must be a valid semver (e.g. 0.14.0)")
        return given[-1] if given else ""

    def parameters(self) -> tuple[dict[str, Any], list[str]]:
        """The options in their own types, and warnings about retired names. Raises BadRequest (E6, E7)."""
        values: dict[str, Any] = {}
        warnings: list[str] = []
        for each in self.commands:
            if each.name != "parameter":
                continue
            if each.key in DEPRECATED_PARAMETERS:
                warnings.append(f"parameter {each.key} is deprecated")
                continue
            value = parse_parameter(each.key, [each.value])
            values[each.key] = [*values.get(each.key, []), *value] if isinstance(value, list) else value
        return values, warnings

    def _all(self, name: str) -> tuple[str, ...]:
        return tuple(each.value for each in self.commands if each.name == name)

    def _last(self, name: str) -> str:
        return next((each.value for each in reversed(self.commands) if each.name == name), "")


# As Go's semver package has it: minor and patch may be left out, a suffix needs all three.
_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?)?"
)


# --- reading -------------------------------------------------------------------------------------------------------

_BLANKS = " \t"
# Blank lines, comments, and what pasted text has before a word without showing it: no-break and zero-width spaces.
_LINE_START = re.compile(r"(?:[\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060\ufeff]++|#[^\n\r]*+)*+")
_WORD = re.compile(r"[A-Za-z]*")
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_]*")
_SKIP_BLANKS = re.compile(r"[ \t]*")
_REST_OF_LINE = re.compile(r"[^\n\r]*")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n"), ord("\r")})


def parse(data: bytes) -> Modelfile:
    """Read a Modelfile: UTF-8, or UTF-16 with a byte-order mark. Raises BadRequest with the texts E1 to E5."""
    text = _decode(data)
    commands = []
    at = _after(_LINE_START, text, 0)
    while at < len(text):
        command, at = _command(text, at)
        commands.append(command)
        at = _after(_LINE_START, text, at)
    if not any(command.name == "from" for command in commands):
        raise BadRequest("no FROM line")
    return Modelfile(tuple(commands))


def _decode(data: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return _SURROGATE.sub("\ufffd", text)  # one for each invalid byte


def _command(text: str, start: int) -> tuple[Command, int]:
    """One instruction and the offset after it. Line numbers in errors are those of the bad word."""
    at = _after(_WORD, text, start)
    if at == len(text):
        raise BadRequest("unexpected EOF")
    name = text[start:at].lower()
    if name not in INSTRUCTIONS or text[at] not in _BLANKS:
        raise _located(text, start, f"command must be one of {_choice(INSTRUCTIONS)}")
    at += 1
    key = ""
    if name in ("parameter", "message"):
        at = _after(_SKIP_BLANKS, text, at)
        key, at = _key(text, at, name)
    value, at = _value(text, at)
    return Command(name, value, key), at


def _key(text: str, start: int, name: str) -> tuple[str, int]:
    at = _after(_PARAMETER_NAME if name == "parameter" else _WORD, text, start)
    key = text[start:at]
    if at == len(text):
        raise BadRequest("unexpected EOF")
    if text[at] not in _BLANKS:
        raise BadRequest(f"unexpected EOF: {key}")
    if name == "message" and key not in ROLES:
        raise _located(text, start, f"message role must be one of {_choice(ROLES)}")
    return key, at + 1


def _value(text: str, start: int) -> tuple[str, int]:
    """The value that begins here. It ends at the first line end at which its quote, if any, is closed."""
    at = _after(_REST_OF_LINE, text, start)
    line = _clean(text[start:at])
    quote = next((quote for quote in ('"""', '"') if line.startswith(quote)), "")
    closed = len(line) >= 2 * len(quote) and line.endswith(quote)
    while not closed:
        if at == len(text):
            raise BadRequest("unexpected EOF")
        line_start = at + 1
        at = _after(_REST_OF_LINE, text, line_start)
        closed = _clean(text[line_start:at]).endswith(quote)
    value = _clean(text[start:at])
    return value[len(quote) : len(value) - len(quote)], at


def _clean(text: str) -> str:
    """Without control characters, and without the whitespace around it."""
    return text.translate(_CONTROLS).strip()


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _located(text: str, at: int, message: str) -> BadRequest:
    line = len(_LINE_BREAK.findall(text, 0, at)) + 1
    return BadRequest(f"(line {line}): {message}")


def _choice(words: tuple[str, ...]) -> str:
    *others, last = (f'"{word}"' for word in words)
    return f"{', '.join(others)}, or {last}"


# --- printing ------------------------------------------------------------------------------------------------------


def format(modelfile: Modelfile) -> str:
    """The Modelfile as text again, an instruction per line. What cannot be written is named in a comment."""
    return _text(_line(each.name, each.value, each.key) for each in modelfile.commands)


def quote(value: str) -> str:
    """A value as it is written behind an instruction: bare where that reads back the same, else in quotes."""
    if not _needs_quotes(value):
        return value
    mark = '"""' if '"' in value else '"'
    return f"{mark}{value}{mark}"


def show_modelfile(
    short_name: str,
    *,
    weights: str | None,
    adapters: Iterable[str] = (),
    drafts: Iterable[str] = (),
    projectors: Iterable[str] = (),
    template: str | None = None,
    system: str = "",
    renderer: str = "",
    parser: str = "",
    parameters: Mapping[str, Any] | None = None,
    licenses: Iterable[str] = (),
    messages: Iterable[Message] = (),
) -> str:
    """The text of `show --modelfile`; `weights`, adapters, drafts and projectors are paths.

    A model stored as safetensors has no single file of weights (None), and is named instead.
    """

    def lines() -> Iterator[str]:
        yield '# Modelfile generated by "ollama show"'
        if weights is None:
            yield _line("from", short_name)
        else:
            yield "# To build a new Modelfile based on this, replace FROM with:"
            yield f"# FROM {short_name}"
            yield ""
            yield _line("from", weights)
        for name, values in (("adapter", adapters), ("draft", drafts), ("from", projectors)):
            yield from (_line(name, value) for value in values)
        for name, value in (("template", template), ("system", system), ("renderer", renderer), ("parser", parser)):
            if value:
                yield _line(name, value)
        yield from (_line("parameter", _plain(value), name) for name, value in _flat(parameters or {}))
        yield from (_line("license", value) for value in licenses)
        yield from (_line("message", message.content, message.role) for message in messages)

    return _text(lines())


def parameter_lines(parameters: Mapping[str, Any]) -> str:
    """The `parameters` text of a model: a line for each value, by name, with strings quoted as Go's %q does."""
    return "\n".join(
        f"{name:<30} {_go_quote(value) if isinstance(value, str) else _plain(value)}"
        for name, value in _flat(parameters)
    )


def _line(name: str, value: str, key: str = "") -> str:
    reason = _unwritable(name, value, key)
    if reason:
        return f"# {name.upper()} {json.dumps(key) + ' ' if key else ''}cannot be written here: {reason}"
    # Quoting FROM is not usual; but a line break in a path must not become an instruction.
    written = value if name == "from" and not _LINE_BREAK.search(value) else quote(value)
    return " ".join((name.upper(), key, written) if key else (name.upper(), written))


def _unwritable(name: str, value: str, key: str) -> str:
    if name == "message" and key not in ROLES:
        return "no such role in a Modelfile"
    if name == "parameter" and not re.fullmatch(r"[A-Za-z0-9_]+", key):
        return "no name of a parameter"
    inner_lines = _LINE_BREAK.split(value)[:-1]
    if any(_clean(line).endswith('"""') for line in inner_lines):
        return 'one of its lines ends with """'
    return ""


def _needs_quotes(value: str) -> bool:
    return value.startswith('"') or value != value.strip() or _LINE_BREAK.search(value) is not None


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _flat(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(parameters.items()):
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is not None:
                yield name, each


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    return json.dumps(value)


_GO_ESCAPES = {
    **{ord(c): f"\\{e}" for c, e in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)},
    0x22: '\\"',
    0x5C: "\\\\",
}


def _go_quote(text: str) -> str:
    return f'"{"".join(_go_character(ord(each), each) for each in text)}"'


def _go_character(code: int, character: str) -> str:
    if code in _GO_ESCAPES:
        return _GO_ESCAPES[code]
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

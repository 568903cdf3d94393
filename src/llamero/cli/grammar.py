"""click's commands with the grammar, the errors and the help of the reference's parser. No command is declared here.

Source: cli §2. The reference reads flags as Go's pflag does, which differs from click in what a bare flag means, in
`--flag=false` and in every error text. So `canonical` first rewrites the words into `--name=value`, which both
understand alike, and click does the rest: types, defaults, dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import BadRequest
from ..options import parse_bool

if TYPE_CHECKING:
    from .app import App


# --- how many words ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arity:
    """How many positional words a command takes; `most` of None is any number."""

    least: int
    most: int | None

    def check(self, count: int) -> None:
        if self.least == self.most and count != self.least:
            raise BadRequest(f"accepts {self.least} arg(s), received {count}")
        if count < self.least:
            raise BadRequest(f"requires at least {self.least} arg(s), only received {count}")


def exactly(count: int) -> Arity:
    return Arity(count, count)


def at_least(count: int) -> Arity:
    return Arity(count, None)


# --- flags ---------------------------------------------------------------------------------------------------------


class _GoType(click.ParamType[Any]):
    """One of Go's value types, with pflag's error for a text that is none."""

    def __init__(self, name: str, parse: Callable[[str], Any], parser: str) -> None:
        self.name = name
        self._parse = parse
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            flag = ", ".join(param.opts) if param else ""
            what = "value out of range" if isinstance(error, _OutOfRange) else "invalid syntax"
            reason = f'strconv.{self._parser}: parsing "{value}": {what}'
            raise BadRequest(f'invalid argument "{value}" for "{flag}" flag: {reason}') from None


class _OutOfRange(ValueError):
    """A number, and more of it than the type holds."""


def _parse_int(text: str) -> int:
    """An integer as it stands in source code, Go's or ours: `10`, `0xff`, `1_000`."""
    if not text.isascii() or text != text.strip():
        raise ValueError(text)
    number = int(text, 0)
    if not -(2**63) <= number < 2**63:
        raise _OutOfRange(text)
    return number


_TYPES: Mapping[str, click.ParamType[Any]] = {
    "bool": _GoType("bool", parse_bool, "ParseBool"),
    "int": _GoType("int", _parse_int, "ParseInt"),
    "string": click.STRING,
}
_DEFAULTS = {"bool": False, "int": 0, "string": ""}


class Flag(click.Option):
    """An option that always has a value; `bare` is the one it gets when it stands alone, None if it may not."""

    def __init__(self, names: Sequence[str], *, kind: str = "string", bare: str | None = None, **attrs: Any) -> None:
        attrs.setdefault("default", None if attrs.get("multiple") else _DEFAULTS[kind])
        super().__init__(list(names), type=_TYPES[kind], **attrs)
        self.kind = kind
        self.bare = "true" if kind == "bool" else bare

    @property
    def long(self) -> str:
        return next(name for name in self.opts if name.startswith("--"))

    @property
    def short(self) -> str:
        return next((name for name in self.opts if not name.startswith("--")), "")

    @property
    def value_hint(self) -> str:
        """What help shows after the name."""
        if self.kind == "bool":
            return ""
        return f" {self.kind}" if self.bare is None else f' {self.kind}[="{self.bare}"]'


def flag(*names: str, kind: str = "string", **attrs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a flag of the command below, as `click.option` does."""
    return click.option(*names, cls=Flag, kind=kind, **attrs)


def canonical(flags: Mapping[str, Flag], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Read a command's words by pflag's rules: the flags as `--name=value`, and the positional words.

    `flags` knows every flag under each of its spellings. Raises BadRequest in pflag's words.
    """
    given: list[str] = []
    positional: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positional += rest
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if name == "--" or name.startswith("---"):
                raise BadRequest(f"bad flag syntax: {word}")
            if name not in flags:
                raise BadRequest(f"unknown flag: {name}")
            if not equals:
                value = _bare(flags[name], rest, name)
            given.append(f"{flags[name].long}={value}")
        elif word.startswith("-") and word != "-":
            given += _shorthands(flags, word, rest)
        else:
            positional.append(word)
    return given, positional


def _shorthands(flags: Mapping[str, Flag], word: str, rest: list[str]) -> list[str]:
    """One word of one-letter flags: `-v`, `-vf name`, `-fname`, `-f=name`."""
    given = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        known = flags.get(f"-{letter}")
        if known is None:
            raise BadRequest(f"unknown shorthand flag: '{letter}' in -{letter}{letters}")
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif known.bare is None and letters:
            value, letters = letters, ""
        else:
            value = _bare(known, rest, f"'{letter}' in -{letter}{letters}")
        given.append(f"{known.long}={value}")
    return given


def _bare(known: Flag, rest: list[str], spelling: str) -> str:
    """The value of a flag without `=`: its own, or the next word."""
    if known.bare is not None:
        return known.bare
    if not rest:
        raise BadRequest(f"flag needs an argument: {spelling}")
    return rest.pop(0)


# --- commands ------------------------------------------------------------------------------------------------------


def app_of(ctx: click.Context) -> App:
    """What this run of the program was started with."""
    app: App = ctx.obj
    return app


def _add_common_flags(command: click.Command, path: str) -> None:
    def show_help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        if wanted:
            app_of(ctx).terminal.out(ctx.get_help())
            ctx.exit()

    def set_debug(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        if wanted:
            app_of(ctx).debug = True

    common: dict[str, Any] = {"kind": "bool", "expose_value": False, "is_eager": True}
    command.params.append(Flag(["-h", "--help"], help=f"help for {path}", callback=show_help, **common))
    command.params.append(Flag(["--debug"], hidden=True, callback=set_debug, **common))


def flags_of(command: click.Command) -> dict[str, Flag]:
    """Every flag under each of its spellings."""
    return {name: param for param in command.params if isinstance(param, Flag) for name in param.opts}


class Command(click.Command):
    """A command with positional words, handed to its function as `words`."""

    def __init__(
        self,
        name: str,
        *,
        usage: str,
        summary: str,
        arity: Arity,
        aliases: Sequence[str] = (),
        variables: Sequence[str] = ("OLLAMA_HOST",),
        additional: bool = False,
        details: str = "",
        **attrs: Any,
    ) -> None:
        super().__init__(name, add_help_option=False, **attrs)
        self.additional = additional
        """Not the reference's: it stands in a block of its own in the help."""
        self.usage = usage
        self.summary = summary
        self.details = details
        """More than a line about it, for its own help."""
        self.arity = arity
        self.aliases = tuple(aliases)
        self.variables = tuple(variables)
        self.params.append(click.Argument(["words"], nargs=-1, type=click.UNPROCESSED))
        _add_common_flags(self, name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, words = canonical(flags_of(self), args)
        rest = super().parse_args(ctx, [*given, "--", *words])
        self.arity.check(len(words))
        return rest

    def get_help(self, ctx: click.Context) -> str:
        from .help import command_help

        return command_help(self)


class Passing(Command):
    """A command that hands what stands behind `--` to another program, as `extra`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["extra"] = tuple(args[end + 1 :])
        return rest


class Root(click.Group):
    """The program: a command is its first positional word, wherever the flags stand."""

    def __init__(self, name: str, *, summary: str, **attrs: Any) -> None:
        super().__init__(name, add_help_option=False, invoke_without_command=True, **attrs)
        self.summary = summary
        _add_common_flags(self, name)

    def visible(self) -> list[Command]:
        """The commands that help lists, in the order of their declaration."""
        return [command for command in self.commands.values() if isinstance(command, Command) and not command.hidden]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for index, word in enumerate(args):
            if word and not word.startswith("-"):  # an empty one is nobody's command
                return super().parse_args(ctx, ["--", word, *args[:index], *args[index + 1 :]])
        return super().parse_args(ctx, canonical(flags_of(self), args)[0])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for command in self.commands.values():
            if cmd_name == command.name or cmd_name in getattr(command, "aliases", ()):
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            self._refuse(args[0])
        return command.name, command, args[1:]

    def _refuse(self, word: str) -> NoReturn:
        message = f'unknown command "{word}" for "{self.name}"'
        alike = [command for command in self.visible() if _is_alike(word.lower(), command.name or "")]
        # our own names, short as some are, would stand in every suggestion of the reference
        alike = [command for command in alike if not command.additional] or alike
        if alike:
            message += "\n\nDid you mean this?\n" + "".join(f"\t{command.name}\n" for command in alike)
        raise BadRequest(message)

    def get_help(self, ctx: click.Context) -> str:
        from .help import root_help

        return root_help(self)


MAX_TYPING_ERRORS = 2


def _is_alike(word: str, name: str) -> bool:
    return name.startswith(word) or edit_distance(word, name) <= MAX_TYPING_ERRORS


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: letters to insert, delete or replace."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]

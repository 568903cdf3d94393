"""The layout of help texts, as the reference's command library prints them (cli §2.2).

The words are in `commands`, the examples in `examples`.
"""

from __future__ import annotations

import click

from ..config import BY_NAME
from .examples import EXAMPLES
from .grammar import Command, Flag, Root

_NAME_COLUMNS = 12
_VARIABLE_COLUMNS = 27


def root_help(root: Root) -> str:
    return f"{root.summary}\n\n{root_usage(root)}"


def root_usage(root: Root) -> str:
    """The help without its first line: what `help <unknown>` prints."""
    name = root.name
    lines = ["Usage:", f"  {name} [flags]", f"  {name} [command]", "", "Available Commands:"]
    lines += [_command_line(command) for command in root.visible() if not command.additional]
    lines += ["", "Additional Commands:"]
    additional = [command for command in root.visible() if command.additional]
    lines += [_command_line(command) for command in sorted(additional, key=lambda command: command.name or "")]
    lines += ["", *_flag_lines(root), "", f'Use "{name} [command] --help" for more information about a command.']
    return "\n".join(lines) + "\n"


def _command_line(command: Command) -> str:
    return f"  {command.name:<{_NAME_COLUMNS}} {command.summary}"


def command_help(command: Command) -> str:
    lines = [command.summary, "", *([command.details] if command.details else [])]
    lines += ["Usage:", f"  {command.usage} [flags]", ""]
    if command.aliases:
        lines += ["Aliases:", "  " + ", ".join((command.name or "", *command.aliases)), ""]
    lines += _flag_lines(command)
    if command.variables:
        lines += ["", "Environment Variables:"]
        lines += [f"      {name:<{_VARIABLE_COLUMNS}}   {BY_NAME[name].meaning}" for name in command.variables]
    if examples := EXAMPLES.get(command.name or ""):
        lines += ["", "Examples:", *(f"  {example}" for example in examples)]  # last: scripts know what stands before
    return "\n".join(lines) + "\n"


def _flag_lines(command: click.Command) -> list[str]:
    flags = [param for param in command.params if isinstance(param, Flag) and not param.hidden]
    flags.sort(key=lambda flag: flag.long)
    names = [f"{flag.short + ',' if flag.short else '   '} {flag.long}{flag.value_hint}" for flag in flags]
    width = max(map(len, names)) + 3
    return ["Flags:", *(f"  {name:<{width}}{flag.help}" for name, flag in zip(names, flags, strict=True))]

"""A config.toml with every setting, its meaning and its default, all commented out."""

from __future__ import annotations

import json

from .table import TABLE, Variable

_ABOUT = """\
# Settings of Llamero. The lines below are the defaults: copy this to where `ollama config path` says and take the #
# away from what you change, or say `ollama config set NAME VALUE`. The environment wins over this file, and a server
# reads it when it starts. With a key or a password in it, it must be yours alone: chmod 600.
"""
_HEADINGS = {
    "server": "the server",
    "both": "the server and the command line",
    "engine": "the engine",
    "vendor": "libraries and drivers",
    "client": "the command line",
}


def example() -> str:
    """A file that changes nothing, with every setting in it."""
    blocks = [_ABOUT]
    for where, heading in _HEADINGS.items():
        blocks.append(f"# --- {heading} ---\n")
        blocks += [_entry(variable) for variable in TABLE if variable.where == where and variable.key]
    return "\n".join(blocks)


def _entry(variable: Variable) -> str:
    note = "" if variable.honoured_by else "; no effect in this version"
    return f"# {variable.meaning} ({variable.name}{note})\n# {variable.key} = {_literal(variable)}\n"


def _literal(variable: Variable) -> str:
    default = variable.default
    if variable.kind == "list":
        return json.dumps([default] if default else [])
    if variable.kind == "bool":
        return "true" if default == "1" else "false"
    if variable.kind == "debug":
        return "0"
    return default if variable.kind == "uint" and default else json.dumps(default, ensure_ascii=False)

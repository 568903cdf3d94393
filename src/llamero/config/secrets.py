"""Which settings hold secrets, and what of a value may be shown. Source: security §9.5."""

from __future__ import annotations

import re

from .table import BY_NAME, Variable

_WORDS = ("API", "KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH")

_LOGIN = re.compile(r"(//)[^\s/]*@|((?:^|[\s,|]))[^\s,|/]+@(?!sha256[:-])")
"""The login in a URL, or before a host, behind whatever separates it; a model's name may have a digest behind its @."""


def is_secret(name: str) -> bool:
    """Whether a variable's value must never be printed, whosever it is.

    Of ours, texts alone: how many requests a key may make is no secret, nor is the place of a file that holds one.
    """
    known = BY_NAME.get(name)
    return (known is None or known.kind == "text") and any(word in name.upper() for word in _WORDS)


def without_logins(text: str, mark: str = "") -> str:
    """An address, or a list of them, with a mark where a login was."""
    return _LOGIN.sub(rf"\1\2{mark}", text)


def shown(variable: Variable, text: str) -> str:
    """A value as a person may see it who looks over the owner's shoulder."""
    if is_secret(variable.name) and text:
        return "[set]"
    return text if variable.kind == "path" else without_logins(text, "[redacted]@")


def holds_secret(variable: Variable, text: str) -> bool:
    """Whether a file with this value must be its owner's alone."""
    return shown(variable, text) != text

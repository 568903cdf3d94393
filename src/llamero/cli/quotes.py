"""Three quotes around a message of several lines, and how a command differs from a message (cli §6.2). Pure."""

from __future__ import annotations

import re

QUOTES = '"""'
_BEGUN = re.compile(rf"(?:/set[ \t]+system[ \t]+)?{QUOTES}")


def is_open(text: str) -> bool:
    """Whether the text began with three quotes, as a message or a system text, and has not ended with three yet."""
    begun = _BEGUN.match(text)
    return begun is not None and not text.endswith(QUOTES, begun.end())


def quoted_text(text: str) -> str:
    """What stands between the quotes, or the text itself when it has none."""
    return text.removeprefix(QUOTES).removesuffix(QUOTES) if text.startswith(QUOTES) else text


def is_command(text: str) -> bool:
    """A line of its own that begins with a slash; one among pasted lines is text."""
    return text.startswith("/") and ("\n" not in text or bool(_BEGUN.match(text)))

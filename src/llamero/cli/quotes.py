"""Three quotes around a message of several lines, and how a command differs from a message (cli §6.2). Pure."""

from __future__ import annotations

QUOTES = '"""'
_SET_SYSTEM = "/set system "


def is_open(text: str) -> bool:
    """Whether the text began with three quotes, as a message or a system text, and has not ended with three yet."""
    text = text.removeprefix(_SET_SYSTEM).lstrip(" ")
    return text.startswith(QUOTES) and not (len(text) >= 2 * len(QUOTES) and text.endswith(QUOTES))


def quoted_text(text: str) -> str:
    """What stands between the quotes, or the text itself when it has none."""
    return text.removeprefix(QUOTES).removesuffix(QUOTES) if text.startswith(QUOTES) else text


def is_command(text: str) -> bool:
    """A line of its own that begins with a slash; one among pasted lines is text."""
    return text.startswith("/") and ("\n" not in text or text.startswith(_SET_SYSTEM + QUOTES))

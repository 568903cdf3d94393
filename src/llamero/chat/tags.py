"""Tags in a stream of text: where one begins, and how much of the end may be the beginning of one."""

from __future__ import annotations


def begun(text: str, tag: str) -> int:
    """How many characters at the end of `text` are a beginning of `tag` that is not yet all of it."""
    at = text.find(tag[0], max(0, len(text) - len(tag) + 1))
    while at >= 0:
        if tag.startswith(text[at:]):
            return len(text) - at
        at = text.find(tag[0], at + 1)
    return 0

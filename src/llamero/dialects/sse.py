"""Frames of server-sent events. Source: compat-api §1.4, and "Server-sent events" of the HTML standard."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
"""How the streams of chat and completions end."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment; decoders skip it."""


def frame(data: bytes, event: str = "") -> bytes:
    """One event. `data` is JSON in one line; a name is for the dialects whose events have names."""
    assert b"\n" not in data
    name = f"event: {event}\n".encode() if event else b""
    return b"%sdata: %s\n\n" % (name, data)

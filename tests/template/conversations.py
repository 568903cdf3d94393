"""The conversation that the specification's checks are about, and the way from a template's text to its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from llamero.messages import Message
from llamero.template.render import Template, render

TODAY = date(2026, 3, 1)

CONV = (
    Message("system", "Be kind"),
    Message("user", "hi"),
    Message("assistant", "yo"),
    Message("user", "bye"),
)


def rendered(text: str, conversation: Sequence[Message] = CONV, **more: Any) -> str:
    return render(Template.parse(text), conversation, today=TODAY, **more)


def in_message_mode(text: str, conversation: Sequence[Message] = CONV, **more: Any) -> str:
    """The same for a text that need not mention `.Messages`."""
    return rendered("{{ range .Messages }}{{ end }}" + text, conversation, **more)

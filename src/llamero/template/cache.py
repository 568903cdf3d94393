"""Templates that have been parsed, kept by their text: few texts serve many models and every request.

A kept template never changes, so any thread may render with it.
"""

from __future__ import annotations

from functools import lru_cache

from . import scan
from .render import Template

MAX_KEPT = 32
"""Templates. A common one takes some 300 KB parsed, the longest that is kept ten times as much."""

MAX_KEPT_CHARS = 1 << 16
"""Of a text. Published templates have up to 20 thousand; longer ones are parsed each time."""


def parsed(text: str) -> Template:
    """`Template.parse`, done once for a text. Raises TemplateError with Go's text."""
    return _kept(text) if len(text) <= MAX_KEPT_CHARS else Template.parse(text)


@lru_cache(MAX_KEPT)
def _kept(text: str) -> Template:
    return Template.parse(text)


def tags_of(template: Template) -> tuple[str, str, str]:
    """The texts that begin thinking, end it, and begin tool calls; in the order of `chat.pipeline.Tags`.

    A template that shows no thinking has an empty one of the first two. Source: modelfile-templates §6.1, §7.2.
    """
    return (*scan.thinking_tags(template.tree), scan.tool_call_tag(template.tree))

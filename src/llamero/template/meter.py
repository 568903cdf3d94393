"""What one rendering may still cost, so that a hostile template ends soon, whatever it does.

Source: security §5 (`Go-style TEMPLATE interpreter`).
"""

from __future__ import annotations

from ..errors import TemplateError

MAX_STEPS = 1_000_000
"""Nodes executed, commands evaluated, elements visited. A common template takes some 20 per message."""

STEPS_PER_VALUE = 8
"""What it costs to write one value of a list or map: with it, a million steps of any kind take about a second."""

MAX_CHARS = 1 << 26
"""Characters written, and made, compared or searched by functions. A request has at most so many bytes."""

MAX_DEPTH = 64
"""Templates that call each other, innermost last."""


class Meter:
    __slots__ = ("chars", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        """Left to be taken."""
        self.chars = MAX_CHARS
        """Left to be handled."""

    def spend(self, steps: int, chars: int = 0) -> None:
        """Raises TemplateError when a limit is reached."""
        self.steps -= steps
        self.chars -= chars
        if self.steps < 0:
            raise TemplateError(f"template: stopped after {MAX_STEPS} steps")
        if self.chars < 0:
            raise TemplateError(f"template: stopped after {MAX_CHARS} characters")

    def read_closely(self, text: str) -> None:
        """A text is about to be read character by character, in Python."""
        self.spend(len(text))

    def write_values(self, count: int) -> None:
        """So many values out of a container are about to be written."""
        self.spend(count * STEPS_PER_VALUE)

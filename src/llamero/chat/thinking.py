"""What a model thinks, told apart from what it answers, while both stream in. It knows two tags and no model.

Source: modelfile-templates §7.3. Only a tag at the very beginning opens the thinking; tags after its end are text.
Text that may be half a tag is held back until it is clear, and nothing is lost at the end.
"""

from __future__ import annotations

from enum import Enum, auto

from ..messages import Text, Thinking
from .tags import begun


class _State(Enum):
    LOOKING = auto()
    """For the opening tag, behind white space at most."""
    OPENED = auto()
    """White space after the opening tag."""
    THINKING = auto()
    CLOSED = auto()
    """White space after the closing tag."""
    ANSWERING = auto()


class ThinkingSplitter:
    """Feed it pieces of text as they come, and `finish` when no more will come.

    `is_open`: the prompt ended with the opening tag, so the model begins inside. After `limit` pieces of thinking
    (tokens, if an engine sends them one by one) enough has been thought.
    """

    def __init__(self, opening: str, closing: str, *, is_open: bool = False, limit: int | None = None) -> None:
        if not opening or not closing:
            raise ValueError("thinking needs both tags")
        self._opening = opening
        self._closing = closing
        self._state = _State.OPENED if is_open else _State.LOOKING
        self._space: list[str] = []
        """White space before whatever comes first."""
        self._held = ""
        """What may be the beginning of a tag."""
        self._limit = limit
        self._pieces = 0
        """That came while the model was thinking."""

    @property
    def is_over(self) -> bool:
        """Whether the model is to be made to answer."""
        is_thinking = self._state in (_State.OPENED, _State.THINKING)
        return self._limit is not None and is_thinking and self._pieces >= self._limit

    @property
    def may_end_early(self) -> bool:
        return self._limit is not None

    def feed(self, text: str) -> list[Text | Thinking]:
        self._pieces += self._state in (_State.OPENED, _State.THINKING)
        events: list[Text | Thinking] = []
        while text:
            match self._state:
                case _State.ANSWERING:
                    events.append(Text(text))
                    break
                case _State.OPENED | _State.CLOSED:
                    text = text.lstrip()
                    if text:
                        self._state = _State.THINKING if self._state is _State.OPENED else _State.ANSWERING
                case _State.LOOKING:
                    text = self._look(text)
                case _State.THINKING:
                    thought, text = self._think(text)
                    if thought:
                        events.append(Thinking(thought))
        return events

    def finish(self) -> list[Text | Thinking]:
        """What was held back: there is no more to come that could make a tag of it."""
        held = "".join(self._space) + self._held
        self._space.clear()
        self._held = ""
        if not held:
            return []
        return [Thinking(held) if self._state is _State.THINKING else Text(held)]

    def _look(self, text: str) -> str:
        """What is left to be read in the next state; nothing while it is not clear which that is."""
        if not self._held:
            stripped = text.lstrip()
            self._space.append(text[: len(text) - len(stripped)])
            text = stripped
        text = self._held + text
        if text.startswith(self._opening):
            self._space.clear()
            self._held = ""
            self._state = _State.OPENED
            return text[len(self._opening) :]
        if self._opening.startswith(text):
            self._held = text
            return ""
        self._state = _State.ANSWERING
        text = "".join(self._space) + text
        self._space.clear()
        self._held = ""
        return text

    def _think(self, text: str) -> tuple[str, str]:
        """What is surely thought, and what is left to be read after the closing tag."""
        text = self._held + text
        thought, closed, rest = text.partition(self._closing)
        if closed:
            self._held = ""
            self._state = _State.CLOSED
            return thought, rest
        keep = begun(text, self._closing)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

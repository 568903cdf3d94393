"""A prompt that came as token ids: the engine is given exactly these. Source: compat-api §6.1."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from ..chat import prompt
from ..chat.pipeline import Reader
from ..engines.wire import Wire
from ..errors import ContextTooLong
from ..messages import Message
from .dialogue import Asked, Dialogue, Events, Talk, Window

CHARS_PER_TOKEN = 4
"""About, in English."""


class TokenPrompt(Dialogue):
    """No template, no thinking and no calls: what the model writes behind the tokens is text."""

    def __init__(self, wire: Wire, window: Window, tokens: Sequence[int]) -> None:
        super().__init__(wire, window, Talk(()))
        self._tokens = list(tokens)
        self._is_cut = False

    async def shown(self) -> str:
        return await self._wire.detokenize(self._tokens)

    async def count(self) -> int:
        return len(self._tokens)

    @property
    def chars(self) -> int:
        return CHARS_PER_TOKEN * len(self._tokens)

    async def tokens(self) -> list[int]:
        return self._tokens

    async def fit(self) -> bool:
        return False  # there are no messages to leave out

    async def cut(self) -> bool:
        if self._is_cut:
            return False
        if not self._window.shifts:
            raise ContextTooLong
        window, given = self._window, len(self._tokens)
        self._tokens = prompt.cut_tokens(self._tokens, window.ctx_tokens, window.keep_tokens, adds_bos=False)
        self._is_cut = True
        lost = given - len(self._tokens)
        self.warnings.append(f"the prompt is longer than the context: {lost} of {given} tokens left out")
        return True

    async def answer(self, asked: Asked) -> Events:
        constraint = asked.constraint.for_completion()
        async with aclosing(self._complete(self._tokens, asked, constraint, Reader())) as events:
            async for event in events:
                yield event

    async def _render(self, messages: Sequence[Message]) -> str:
        return await self.shown()

"""A conversation on a leased engine: rendered, counted, shortened until it fits. It generates nothing.

Source: modelfile-templates §3.4, §4.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..chat import prompt
from ..chat.media import Media, check_media
from ..engines.wire import Wire
from ..messages import Message, Think

_ONE_PICTURE = asyncio.Semaphore(1)
"""Pictures are decoded one at a time: the largest that we take needs a gigabyte while it is checked."""


class Dialogue:
    def __init__(
        self,
        wire: Wire,
        ctx_tokens: int,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        think: Think = None,
    ) -> None:
        self._wire = wire
        self._limit = ctx_tokens - 1
        """One token at least must be left for an answer; the engine refuses a prompt that fills its window."""
        self._messages = messages
        self._tools = tools
        self._think = think
        self._media: dict[bytes, Media] = {}
        self.dropped = 0
        """Messages left out at the front."""

    @property
    def kept(self) -> tuple[Message, ...]:
        return prompt.kept(self._messages, self.dropped)

    @property
    def dropped_count(self) -> int:
        """Messages that are really gone: system messages among the dropped ones are moved, not lost."""
        return len(self._messages) - len(self.kept)

    @property
    def image_count(self) -> int:
        return sum(len(message.images) for message in self.kept)

    async def read_media(self) -> None:
        """Check and decode every picture and sound; BadRequest for what is damaged, unknown or too large."""
        for message in self._messages:
            for data in message.images:
                if data not in self._media:
                    async with _ONE_PICTURE:
                        self._media[data] = await asyncio.to_thread(check_media, data)

    def body(self) -> dict[str, Any]:
        """The engine's request for this conversation, without sampling."""
        return prompt.template_body(self.kept, self._media, self._tools, self._think)

    async def render(self, *, mark_images: bool = False) -> str:
        """The prompt text. With `mark_images`, pictures show as the numbered markers that debug replies use."""
        messages = self.kept
        if mark_images or any(message.images for message in messages):
            messages = prompt.mark_images(messages)
        return await self._wire.apply_template(prompt.template_body(messages, {}, self._tools, self._think))

    async def fit(self) -> bool:
        """Drop the oldest messages until the rest fits the window. False when that changes nothing."""
        before = self.dropped

        async def count(start: int) -> int:
            messages = prompt.mark_images(prompt.kept(self._messages, start))
            text = await self._wire.apply_template(prompt.template_body(messages, {}, self._tools, self._think))
            images = sum(len(message.images) for message in prompt.kept(self._messages, start))
            return len(await self._wire.tokenize(text, add_special=True)) + prompt.IMAGE_TOKENS * images

        self.dropped = await prompt.fit(self._messages, self._limit, count)
        return self.dropped > before

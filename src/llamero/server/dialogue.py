"""A conversation on a leased engine: rendered, counted, shortened until it fits, and answered.

There are two kinds: `engine_chat.py` lets the engine render the model's Jinja and read the answer, `rendered_chat.py`
has the prompt's text made here and reads the answer's text. Source: modelfile-templates §3.4, §3.5, §4.1.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from ..chat import pictures, prompt
from ..chat.choice import Tool, ToolChoice
from ..chat.media import Media, check_media
from ..chat.pipeline import Reader
from ..chat.tools import call_id
from ..engines.wire import Wire
from ..errors import EngineError
from ..messages import Event, Message, Text, Think, ToolCall, Usage
from .checks import Constraint
from .pace import Pace

Events = AsyncGenerator[Event, None]

_ONE_PICTURE = asyncio.Semaphore(1)
"""Pictures are decoded one at a time: the largest that we take needs a gigabyte while it is checked."""

new_id = partial(call_id, secrets.randbelow)
"""An id for a call."""

_MADE_UP = re.compile(r"[A-Za-z0-9]{32}")
"""What the engine calls a call that has no id of the model's."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What is to be answered."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    think: Think = None
    meant: Mapping[str, str] = field(default_factory=dict)
    """The client's names of tools, by those that the model was told."""
    hides_thinking: bool = False
    """A model that thinks although `think` is False is not heard doing it."""

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        return self.choice.offered(self.tools)


@dataclass(frozen=True, slots=True)
class Window:
    """The engine's context as far as a dialogue must know it."""

    ctx_tokens: int
    keep_tokens: int = 0
    """The option `num_keep`: prompt tokens that survive a cut; negative: all that fit."""
    shifts: bool = True
    """Whether a prompt may be cut in its middle."""
    has_projector: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """How it is to be answered."""

    sampling: Mapping[str, Any]
    constraint: Constraint = field(default_factory=Constraint)
    logprobs: bool = False
    top_logprobs: int = 0
    max_thinking_tokens: int | None = None

    def body(self, written: int) -> dict[str, Any]:
        """The part of an engine's request that the conversation does not change, behind `written` tokens."""
        left = max(1, self.sampling["n_predict"] - written)
        logprobs = prompt.logprob_fields(wanted=self.logprobs, top=self.top_logprobs)
        # with its figures at every token: those of a run that we break off are the last that came
        return {**self.sampling, "n_predict": left, "timings_per_token": True, **logprobs}


class Bill:
    """What an answer costs in all its runs: its prompt once, and every token that the model wrote."""

    def __init__(self) -> None:
        self._before = Usage()
        self._run = Usage()
        self.pace = Pace()
        self.is_closed = False
        """Whether the answer came to its end."""

    def begin(self) -> None:
        """Another run, behind what those before it wrote."""
        self._before, self._run = self.total, Usage()

    def hear(self, usage: Usage) -> None:
        """What the present run costs so far."""
        self._run = usage
        self.pace.hear(self._before.predicted_tokens + usage.predicted_tokens)

    def close(self) -> None:
        """The answer is complete."""
        self.is_closed = True

    @property
    def has_several(self) -> bool:
        return self._before.prompt_tokens > 0

    @property
    def total(self) -> Usage:
        before, run = self._before, self._run
        if not self.has_several:
            return run
        return dataclasses.replace(
            before,
            prompt_ns=before.prompt_ns + run.prompt_ns,
            predicted_tokens=before.predicted_tokens + run.predicted_tokens,
            predicted_ns=before.predicted_ns + run.predicted_ns,
            draft_tokens=before.draft_tokens + run.draft_tokens,
            accepted_tokens=before.accepted_tokens + run.accepted_tokens,
        )


class Dialogue(ABC):
    def __init__(self, wire: Wire, window: Window, talk: Talk) -> None:
        self._wire = wire
        self._window = window
        self._talk = talk
        self._media: dict[bytes, Media] = {}
        self._dropped = 0
        """Messages left out at the front."""
        self._is_from_user = False
        """Whether what is left of them must begin with words of the user."""
        self.bill = Bill()
        self.warnings: list[str] = []
        """What must be said about the prompt; complete when the first event of an answer is there."""

    @property
    def kept(self) -> tuple[Message, ...]:
        return self._without(self._dropped)

    def _without(self, start: int) -> tuple[Message, ...]:
        return prompt.kept(self._talk.messages, start, from_user=self._is_from_user)

    @property
    def image_count(self) -> int:
        return sum(len(message.images) for message in self.kept)

    def as_meant(self, call: ToolCall) -> ToolCall:
        """A call by the client's name of the tool, with an id: the model's own, or one of ours."""
        named = self._talk.meant.get(call.name, call.name)
        is_own = call.id and not _MADE_UP.fullmatch(call.id)
        return dataclasses.replace(call, name=named, id=call.id if is_own else new_id())

    async def read_media(self) -> None:
        """Check and decode every picture and sound; BadRequest for what is damaged, unknown or too large."""
        for message in self._talk.messages:
            for data in message.images:
                if data not in self._media:
                    async with _ONE_PICTURE:
                        self._media[data] = await asyncio.to_thread(check_media, data)

    async def fit(self) -> bool:
        """Drop the oldest messages until the rest fits the window. False when that changes nothing."""
        messages, before = self._talk.messages, self._dropped
        try:
            self._dropped = await self._fitting()
        except EngineError as error:
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            # some templates refuse a conversation without a question, or one that begins with an answer
            self._is_from_user = True
            self._dropped = await self._fitting()
        # system messages among the dropped ones are moved, not lost
        lost = len(messages) - len(self.kept)
        if lost:
            self.warnings.append(f"the conversation is longer than the context: {lost} oldest messages left out")
        return self._dropped > before

    async def _fitting(self) -> int:
        """How many messages must go. One token at least must be left for an answer; the engine refuses a prompt that
        fills its window."""
        return await prompt.fit(self._talk.messages, self._window.ctx_tokens - 1, self._count)

    @abstractmethod
    async def count(self) -> int:
        """Tokens of the prompt as the engine counts them, pictures too, whether or not they fit the window."""

    @property
    def chars(self) -> int:
        """About how long the prompt is; nothing is rendered for it."""
        told = sum(len(message.content) + len(message.thinking) for message in self.kept)
        return told + sum(len(msgspec.json.encode(tool)) for tool in self._talk.offered)

    async def tokens(self) -> list[int]:
        """The prompt as the engine reads it. Only for one without pictures."""
        return await self._wire.tokenize(await self.shown(), add_special=True)

    async def _count(self, start: int) -> int:
        """Of the conversation without its first `start` messages."""
        kept = self._without(start)
        tokens = await self._wire.tokenize(await self._render(_without_images(kept)), add_special=True)
        counted = self._counted(kept, start)
        return len(tokens) + pictures.image_tokens(counted, has_projector=self._window.has_projector)

    async def cut(self) -> bool:
        """Take tokens out of the middle of a prompt that is too long even so. False where that cannot be done."""
        return False

    async def _complete(
        self, prompt: Any, asked: Asked, constraint: Mapping[str, Any], reader: Reader, heard: list[str] | None = None
    ) -> Events:
        """One run on a prompt that is text, told apart by `reader`. `heard` collects the text as the model wrote it."""
        body = {"prompt": prompt, **self._next_run(asked), **constraint}
        if stops := asked.sampling.get("stop"):  # one that is a special token ends the answer only if it is shown
            body["preserved_tokens"] = [*constraint.get("preserved_tokens", ()), *stops]
        events = self._wire.complete(
            body, top_logprobs=asked.top_logprobs, is_over=lambda: reader.is_over, on_usage=self.bill.hear
        )
        async with aclosing(events):
            async for event in events:
                if heard is not None and isinstance(event, Text):
                    heard.append(event.text)
                for piece in reader.feed(event):
                    yield piece

    def _next_run(self, asked: Asked) -> dict[str, Any]:
        """What every run asks of the engine, behind the runs before it."""
        self.bill.begin()
        return asked.body(self.bill.total.predicted_tokens)

    @abstractmethod
    async def shown(self) -> str:
        """The prompt for people to read: pictures show as `[img-0]`, `[img-1]`, ..."""

    @abstractmethod
    def answer(self, asked: Asked) -> Events:
        """The engine's answer, told apart into events. It may be asked for again after `fit` or `cut`."""

    @abstractmethod
    async def _render(self, messages: Sequence[Message]) -> str:
        """The prompt of messages without pictures."""

    def _counted(self, kept: Sequence[Message], start: int) -> Sequence[Message]:
        """The messages whose pictures count when the conversation is shortened."""
        return kept


def _without_images(messages: Sequence[Message]) -> tuple[Message, ...]:
    return pictures.Marked(tuple(messages)).texts

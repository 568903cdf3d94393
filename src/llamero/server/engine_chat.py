"""A dialogue through the engine's chat endpoint: it renders the model's Jinja and reads the answer.

What the engine cannot do in one run takes two here: an answer in a form where a tool may be called instead, a call that
must come from a template that knows none, a model that does not keep to its template's form.
Source: modelfile-templates §3.4, §8.2; native-api §2.5, §2.7.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from ..chat import jinja, pictures, prompt
from ..chat.choice import must_call
from ..chat.parsers import call_parser, choose_parsers, visible_tokens
from ..chat.pipeline import Parser, Reader, Tidy, Unthinking
from ..chat.thinking import ThinkingSplitter
from ..engines.wire import Wire
from ..errors import AnswerUnreadable, EngineError, LlameroError, TemplateStuck
from ..messages import Done, Event, Message, Text, Thinking, ToolCall, Usage
from .dialogue import Asked, Dialogue, Events, Talk, Window, new_id

log = logging.getLogger(__name__)

AS_TEXT = "the model did not keep to the form of its chat template: what it wrote is given as text"
BROKEN_OFF = "the model did not keep to the form of its chat template: the rest of its answer could not be read"

MAX_UNSEEN = 16
"""Tokens of an answer that nobody is shown: the marks of its parts, and its end."""
NOT_AGAIN = 64
"""One token in so many may be gone when an answer's text is cut into tokens again."""

HERE = "\x1a"
"""Where the model goes on, in a prompt with an answer that has begun: the engine knows how its template writes that."""

QUIET_S = 5.0
"""Without the first event of an answer; then it is asked whether the template is what takes so long. Most prompts are
read sooner, and for the others one more rendering is nothing."""

MAX_PREAMBLE = 256
"""Pieces of text before a call that must come; after so many, the template is one that knows no calls."""


class EngineChat(Dialogue):
    """`template` is the Jinja that the engine was loaded with, or empty for its own ChatML.

    `rest` is where people are shown the pictures that no text gives a place.
    """

    def __init__(self, wire: Wire, window: Window, talk: Talk, template: str, rest: pictures.Rest = "front") -> None:
        messages = prompt.continued(prompt.matched(talk.messages))
        super().__init__(wire, window, dataclasses.replace(talk, messages=messages))
        self._template = template
        self._rest = rest
        self._tags = jinja.tags(template)
        self._is_plain = jinja.is_plain(template) and not talk.think
        last = messages[-1]
        # an answer that is gone on with cannot be thought about first
        is_begun = last.role == "assistant" and not last.thinking
        self._arguments = jinja.thinking_arguments(False if is_begun and talk.think else talk.think, template)

    async def shown(self) -> str:
        marked = self._marked(self._rest)
        return marked.shown(await self._render(marked.texts))

    async def _render(self, messages: Sequence[Message]) -> str:
        tools = self._talk.choice.for_chat(self._talk.tools)
        return await self._wire.apply_template(prompt.template_body(messages, {}, tools, self._arguments))

    def _marked(self, rest: pictures.Rest) -> pictures.Marked:
        tools = (msgspec.json.encode(tool).decode() for tool in self._talk.offered)
        return pictures.marked(self.kept, tools, rest=rest)

    async def answer(self, asked: Asked) -> Events:
        told = Unthinking() if self._talk.think is False else Reader()
        async with aclosing(self._runs(asked)) as events:
            async for event in events:
                for piece in told.feed(event):
                    yield piece

    def _runs(self, asked: Asked) -> Events:
        if self._talk.offered and self._talk.choice.mode == "required":
            return self._call(asked)
        if asked.constraint.is_set:
            # the engine's chat holds thinking to a grammar too, and forgets a format, or fails, under some templates
            may_wait = self._talk.offered or self._talk.think
            return self._call_or_answer(asked) if may_wait else self._answer_only(asked, "")
        if self._is_plain and not self._talk.offered and (asked.logprobs or asked.sampling.get("stop")):
            # the engine's chat tells no token without text, and loses what a stop string might have begun with
            return self._write(None, asked, {}, Reader())
        return self._chat(asked)

    # --- one run -----------------------------------------------------------------------------------------------------

    async def _chat(self, asked: Asked) -> Events:
        """One run of the engine's chat. From where it cannot read the answer on, that is text."""
        thoughts: list[str] = []
        said: list[str] = []
        is_called = False
        try:
            async with aclosing(self._read(asked)) as events:
                async for event in events:
                    match event:
                        case Thinking():
                            thoughts.append(event.text)
                        case Text():
                            said.append(event.text)
                        case ToolCall():
                            is_called = True
                        case Done("stop") if not is_called and await self._lacks([*thoughts, *said], asked, event):
                            raise AnswerUnreadable("the engine told only a part of it")
                    yield event
        except EngineError as error:
            # some templates lead to a grammar that the engine refuses itself, before anything is told
            if not (isinstance(error, AnswerUnreadable) or (error.status == 400 and not (thoughts or said))):
                raise
            log.info("an answer is given as text: %s", error)
            if is_called:  # nobody knows how the model wrote that
                if isinstance(error, AnswerUnreadable) and error.begun:
                    yield Text(error.begun)
                yield Done("stop", Usage(), (BROKEN_OFF,))
                return
            async with aclosing(self._as_text("".join(thoughts), "".join(said), asked)) as events:
                async for event in events:
                    yield event

    async def _lacks(self, told: Sequence[str], asked: Asked, done: Done) -> bool:
        """Whether the engine swallowed a part of an answer: what it cannot read may be gone without an error."""
        predicted = done.usage.predicted_tokens
        unseen = MAX_UNSEEN + predicted // NOT_AGAIN + max(map(len, asked.sampling.get("stop", ())), default=0)
        if predicted <= len(told) + unseen:
            return False
        return predicted > len(await self._wire.tokenize("".join(told))) + unseen

    async def count(self) -> int:
        if self.image_count:
            await self.read_media()
            body = await self._body()
            await self._wire.apply_template(body)  # nothing bounds the template in what comes next
            return await self._wire.count_chat(body)
        return len(await self.tokens())

    async def _body(self) -> dict[str, Any]:
        """The conversation as the engine's chat takes it."""
        messages = self.kept
        if self._window.has_projector:
            messages = pictures.without_marker(messages, await self._wire.media_marker())
        return prompt.template_body(
            messages, self._media, self._talk.choice.for_chat(self._talk.tools), self._arguments
        )

    async def _read(self, asked: Asked) -> Events:
        """The engine's own events, without what a template leaves around its tags."""
        limit = prompt.thinking_limit(asked.max_thinking_tokens, self._tags.opening, self._tags.closing)
        conversation = await self._body()
        body = {**conversation, **self._next_run(asked), **limit}
        if body.get("stop"):
            body["verbose"] = True  # only so does the engine tell which of them ended the answer
        tidy = Tidy(self._tags.opening)
        reader = Reader(*self._splitter(is_open=False))  # some thinking is nothing to the engine

        def told(event: Event) -> list[Event]:
            return [piece for tidied in tidy.feed(event) for piece in reader.feed(tidied)]

        async with aclosing(self._wire.chat(body, top_logprobs=asked.top_logprobs, on_usage=self.bill.hear)) as events:
            for piece in told(await self._first(events, conversation)):
                yield piece
            async for event in events:
                for piece in told(event):
                    yield piece

    async def _first(self, events: Events, conversation: dict[str, Any]) -> Event:
        """The first event of an answer, before which the engine renders, and may be stuck in the template for ever."""
        first = asyncio.ensure_future(anext(events))
        try:
            if not (await asyncio.wait([first], timeout=QUIET_S))[0]:
                await self._try_template(conversation)
            return await first
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                self._wire.rendering(conversation)  # who asked has gone, and would never find out
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            raise

    async def _try_template(self, conversation: dict[str, Any]) -> None:
        try:
            await self._wire.apply_template(conversation)
        except TemplateStuck:
            raise
        except LlameroError as error:  # the chat meets with it too, and says what comes of it
            log.debug("a template could not be tried: %s", error)

    def _splitter(self, *, is_open: bool) -> list[Parser]:
        tags, talk = self._tags, self._talk
        reads = (talk.think or talk.hides_thinking) and tags.opening
        return [ThinkingSplitter(tags.opening, tags.closing, is_open=is_open)] if reads else []

    async def _as_text(self, thoughts: str, said: str, asked: Asked) -> Events:
        """Go on behind what was told, without the engine's reading. What comes behind text is text."""
        talk, named = self._talk, jinja.parser(self._template)
        begun: Message | None = None
        parsers: Sequence[Parser] = ()
        if said:
            begun = _answering(thoughts, said)
        elif thoughts:
            begun = _thinking(thoughts)
            parsers = self._splitter(is_open=True)
        else:
            parsers = choose_parsers(
                self._tags,
                await self.shown(),
                new_id=new_id,
                named=named,
                tools=talk.tools,
                choice=talk.choice,
                think=talk.think is not None,
                is_continued=talk.messages[-1].role == "assistant",
            )
        visible = visible_tokens(self._tags, named=named, thinks=talk.think is not None, calls=False)
        async with aclosing(self._write(begun, asked, {"preserved_tokens": visible}, Reader(*parsers))) as events:
            async for event in events:
                yield dataclasses.replace(event, warnings=(AS_TEXT,)) if isinstance(event, Done) else event

    async def _write(
        self, begun: Message | None, asked: Asked, constraint: Mapping[str, Any], reader: Reader
    ) -> Events:
        """A run past the engine's chat: on the prompt as it renders it, behind the answer that has begun."""
        marked = self._marked("behind")
        text = await self._render(marked.texts if begun is None else _with(marked.texts, begun))
        if begun is not None:
            before, found, _ = text.rpartition(HERE)
            text = before if found else text + (begun.thinking + begun.content).removesuffix(HERE)
        marker = await self._wire.media_marker() if marked.pictures else ""
        made = marked.engine_prompt(text, self._media, marker)
        async with aclosing(self._complete(made.prompt, asked, constraint, reader)) as events:
            async for event in events:
                yield event

    # --- two runs ----------------------------------------------------------------------------------------------------

    async def _call(self, asked: Asked) -> Events:
        """A call, whatever the template knows of calls."""
        preamble: list[Text] = []
        thoughts: list[str] = []
        is_called = False
        async with aclosing(self._chat(asked)) as events:
            async for event in events:
                if isinstance(event, Text) and not is_called:
                    preamble.append(event)
                    if len(preamble) > MAX_PREAMBLE:
                        break
                    continue
                if isinstance(event, ToolCall) or (isinstance(event, Done) and event.reason == "length"):
                    is_called = True
                    for text in preamble:
                        yield text
                    preamble.clear()
                if isinstance(event, Done) and not is_called:
                    break
                if isinstance(event, Thinking):
                    thoughts.append(event.text)
                yield event
        if not is_called:
            async with aclosing(self._forced(asked, "".join(thoughts))) as events:
                async for event in events:
                    yield event

    async def _forced(self, asked: Asked, thoughts: str) -> Events:
        call = must_call(self._talk.choice, self._talk.tools, self._tags.call)
        self.warnings += call.warnings
        begun = _answering(thoughts, call.prefix)
        reader = Reader(*call_parser(call, self._talk.tools, self._talk.choice, new_id=new_id))
        async with aclosing(self._write(begun, asked, call.for_completion(), reader)) as events:
            async for event in events:
                yield event

    async def _call_or_answer(self, asked: Asked) -> Events:
        """Thinking and calls as they come, or else an answer under the constraint."""
        thoughts: list[str] = []
        is_called = False
        async with aclosing(self._chat(asked)) as events:
            async for event in events:
                if isinstance(event, Text):
                    if is_called or not event.text.strip():
                        continue
                    break
                if isinstance(event, Done) and not is_called and event.reason != "length":
                    break
                is_called = is_called or isinstance(event, ToolCall)
                if isinstance(event, Thinking):
                    thoughts.append(event.text)
                yield event
                if isinstance(event, Done):
                    return
        async with aclosing(self._answer_only(asked, "".join(thoughts))) as events:
            async for event in events:
                yield event

    async def _answer_only(self, asked: Asked, thoughts: str) -> Events:
        """The answer under the constraint, behind what was thought."""
        begun = _answering(thoughts)
        async with aclosing(self._write(begun, asked, asked.constraint.for_completion(), Reader())) as events:
            async for event in events:
                yield event


def _answering(thoughts: str, said: str = "") -> Message:
    return Message("assistant", said + HERE, thoughts.rstrip())


def _thinking(thoughts: str) -> Message:
    return Message("assistant", "", thoughts + HERE)


def _with(messages: Sequence[Message], begun: Message) -> tuple[Message, ...]:
    """The conversation with the answer that has begun, which may be one that the client began."""
    *before, last = messages
    if last.role != "assistant":
        return (*messages, begun)
    content, thinking = last.content + begun.content, last.thinking + begun.thinking
    return (*before, dataclasses.replace(last, content=content, thinking=thinking))

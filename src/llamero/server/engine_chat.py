"""A dialogue through the engine's chat endpoint: it renders the model's Jinja and reads the answer.

What the engine cannot do in one run takes two here: an answer in a form where a tool may be called instead, a call that
must come from a template that knows none, a model that does not keep to its template's form.
Source: modelfile-templates §3.4, §8.2; native-api §2.5, §2.7.
"""

from __future__ import annotations

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
from ..errors import AnswerUnreadable
from ..messages import Done, Message, Text, Thinking, ToolCall, Usage
from .checks import Constraint
from .dialogue import Asked, Dialogue, Events, Talk, Window, new_id

log = logging.getLogger(__name__)

AS_TEXT = "the model did not keep to the form of its chat template: what it wrote is given as text"
BROKEN_OFF = "the model did not keep to the form of its chat template: the rest of its answer could not be read"

MAX_UNSEEN = 16
"""Tokens of an answer that nobody is shown: the marks of its parts, and its end."""
NOT_AGAIN = 64
"""One token in so many may be gone when an answer's text is cut into tokens again."""

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
        if self._talk.offered:
            if self._talk.choice.mode == "required":
                return self._call(asked)
            if asked.constraint.is_set:
                return self._call_or_answer(asked)
        elif asked.constraint.grammar and (self._tags.opening or self._talk.think):
            return self._call_or_answer(asked)  # the engine's chat would apply it to the thinking as well
        elif self._is_plain and (asked.constraint.is_set or asked.logprobs or asked.sampling.get("stop")):
            # the engine's chat tells no token without text, and loses what a stop string might have begun with
            return self._write("", asked, asked.constraint.for_completion(), Reader())
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
                        case Done() if not is_called and await self._lacks([*thoughts, *said], asked, event):
                            raise AnswerUnreadable("the engine told only a part of it")
                    yield event
        except AnswerUnreadable as error:
            log.info("an answer is given as text: %s", error)
            text = "".join(said)
            # nobody knows how the model wrote the call, or how far it came with a form that is for a whole answer
            if is_called or (asked.constraint.is_set and text.strip()):
                if error.begun:
                    yield Text(error.begun)
                yield Done("stop", Usage(), (BROKEN_OFF,))
                return
            rest = asked.after(len(thoughts) + len(said))
            async with aclosing(self._as_text("".join(thoughts), text, rest)) as events:
                async for event in events:
                    yield event

    async def _lacks(self, told: Sequence[str], asked: Asked, done: Done) -> bool:
        """Whether the engine swallowed a part of an answer: what it cannot read may be gone without an error."""
        predicted = done.usage.predicted_tokens
        unseen = MAX_UNSEEN + predicted // NOT_AGAIN + max(map(len, asked.sampling.get("stop", ())), default=0)
        if predicted <= len(told) + unseen:
            return False
        return predicted > len(await self._wire.tokenize("".join(told))) + unseen

    async def _read(self, asked: Asked) -> Events:
        """The engine's own events, without what a template leaves around its tags."""
        offered = self._talk.choice.for_chat(self._talk.tools)
        messages = self.kept
        if self._window.has_projector:
            messages = pictures.without_marker(messages, await self._wire.media_marker())
        body = {
            **prompt.template_body(messages, self._media, offered, self._arguments),
            **asked.body(),
            **asked.constraint.for_chat(),
        }
        if body.get("stop"):
            body["verbose"] = True  # only so does the engine tell which of them ended the answer
        tidy = Tidy(self._tags.opening)
        async with aclosing(self._wire.chat(body, **asked.hearing)) as events:
            async for event in events:
                for piece in tidy.feed(event):
                    yield piece

    async def _as_text(self, thoughts: str, said: str, asked: Asked) -> Events:
        """Go on behind what was told, with no form but the constraint. What comes behind text is text."""
        text, talk, named = await self.shown(), self._talk, jinja.parser(self._template)
        parsers: tuple[Parser, ...] = ()
        begun = said
        if said and thoughts:
            begun = jinja.answer_after(self._template, text, thoughts) + said
        elif thoughts:
            begun = jinja.thoughts_after(self._template, text, thoughts)
            if self._tags.opening:
                parsers = (ThinkingSplitter(self._tags.opening, self._tags.closing, is_open=True),)
        elif not said:
            parsers = choose_parsers(
                self._tags,
                text,
                new_id=new_id,
                named=named,
                tools=talk.tools,
                choice=talk.choice,
                think=talk.think is not None,
                is_continued=talk.messages[-1].role == "assistant",
            )
        visible = visible_tokens(self._tags, named=named, thinks=talk.think is not None, calls=False)
        constraint = {**asked.constraint.for_completion(), "preserved_tokens": visible}
        async with aclosing(self._write(begun, asked, constraint, Reader(*parsers))) as events:
            async for event in events:
                yield dataclasses.replace(event, warnings=(AS_TEXT,)) if isinstance(event, Done) else event

    async def _write(self, begun: str, asked: Asked, constraint: Mapping[str, Any], reader: Reader) -> Events:
        """A run past the engine's chat: the prompt as it renders it, gone on with `begun`."""
        marked = self._marked("behind")
        text = await self._render(marked.texts) + begun
        marker = await self._wire.media_marker() if marked.pictures else ""
        made = marked.engine_prompt(text, self._media, marker)
        async with aclosing(self._complete(made.prompt, asked, constraint, reader)) as events:
            async for event in events:
                yield event

    # --- two runs ----------------------------------------------------------------------------------------------------

    async def _call(self, asked: Asked) -> Events:
        """A call, whatever the template knows of calls."""
        free = dataclasses.replace(asked, constraint=Constraint())
        preamble: list[Text] = []
        thoughts: list[str] = []
        is_called = False
        async with aclosing(self._chat(free)) as events:
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
        begun = jinja.answer_after(self._template, await self.shown(), thoughts) + call.prefix
        reader = Reader(*call_parser(call, self._talk.tools, self._talk.choice, new_id=new_id))
        async with aclosing(self._write(begun, asked, call.for_completion(), reader)) as events:
            async for event in events:
                yield event

    async def _call_or_answer(self, asked: Asked) -> Events:
        """A call, or else an answer under the constraint: the engine can only do either."""
        free = dataclasses.replace(asked, constraint=Constraint())
        thoughts: list[str] = []
        is_called = False
        async with aclosing(self._chat(free)) as events:
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
        """The second run, behind what was thought. The engine's chat forgets a format where there are tools."""
        begun = jinja.answer_after(self._template, await self.shown(), thoughts)
        async with aclosing(self._write(begun, asked, asked.constraint.for_completion(), Reader())) as events:
            async for event in events:
                yield event

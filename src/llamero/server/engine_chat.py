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
from ..chat.pipeline import Reader, Tidy
from ..engines.wire import Wire
from ..errors import AnswerUnreadable
from ..messages import Done, Message, Text, Thinking, ToolCall, Usage
from .checks import Constraint
from .dialogue import Asked, Dialogue, Events, Talk, Window, new_id

log = logging.getLogger(__name__)

AS_TEXT = "the model did not keep to the form of its chat template: what it wrote is given as text"
BROKEN_OFF = "the model did not keep to the form of its chat template: the rest of its answer could not be read"

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
        self._is_plain = not self._tags.opening and not jinja.parser(template)
        """Whether an answer without tools is text, and nothing else."""
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

    def answer(self, asked: Asked) -> Events:
        if self._talk.offered:
            if self._talk.choice.mode == "required":
                return self._call(asked)
            if asked.constraint.is_set:
                return self._call_or_answer(asked)
        elif asked.constraint.grammar and self._tags.opening:
            return self._call_or_answer(asked)  # the engine's chat would apply it to the thinking as well
        elif (asked.logprobs or asked.sampling.get("stop")) and self._is_plain:
            # the engine's chat tells no token without text, and loses what a stop string might have begun with
            return self._write("", asked, asked.constraint.for_completion(), Reader())
        return self._chat(asked)

    # --- one run -----------------------------------------------------------------------------------------------------

    async def _chat(self, asked: Asked, **tools: Any) -> Events:
        """One run of the engine's chat. From where it cannot read the answer on, that is text."""
        said: list[str] = []
        is_text = True
        try:
            async with aclosing(self._read(asked, tools)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        said.append(event.text)
                    is_text = is_text and isinstance(event, Text)
                    yield event
        except AnswerUnreadable as error:
            log.info("an answer is given as text: %s", error)
            if not is_text:
                yield Done("stop", Usage(), (BROKEN_OFF,))
                return
            async with aclosing(self._as_text("".join(said), asked)) as events:
                async for event in events:
                    yield event

    async def _read(self, asked: Asked, tools: Mapping[str, Any]) -> Events:
        """The engine's own events, without what a template leaves around its tags."""
        offered = {**self._talk.choice.for_chat(self._talk.tools), **tools}
        messages = self.kept
        if self._window.has_projector:
            messages = pictures.without_marker(messages, await self._wire.media_marker())
        body = {
            **prompt.template_body(messages, self._media, offered, self._arguments),
            **asked.body(chat=True),
            **asked.constraint.for_chat(),
        }
        tidy = Tidy(self._tags.opening)
        async with aclosing(self._wire.chat(body, top_logprobs=asked.top_logprobs)) as events:
            async for event in events:
                for piece in tidy.feed(event):
                    if not (isinstance(piece, Thinking) and self._talk.think is False):
                        yield piece

    async def _as_text(self, said: str, asked: Asked) -> Events:
        """Go on behind `said`, with no form but the constraint. Only an answer from its beginning is looked into."""
        text = await self.shown()
        named = jinja.parser(self._template)
        parsers = () if said else choose_parsers(
            self._tags, text, new_id=new_id, named=named, tools=self._talk.tools, choice=self._talk.choice,
            think=self._talk.think,
        )  # fmt: skip
        visible = visible_tokens(self._tags, named=named, thinks=bool(self._talk.think), calls=False)
        constraint = {**asked.constraint.for_completion(), "preserved_tokens": visible}
        async with aclosing(self._write(said, asked, constraint, Reader(*parsers))) as events:
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
        """The second run. What was thought has been told, and is not told again."""
        if asked.constraint.grammar:
            begun = jinja.answer_after(self._template, await self.shown(), thoughts)
            events = self._write(begun, asked, asked.constraint.for_completion(), Reader())
        else:
            events = self._chat(asked, **({"tool_choice": "none"} if self._talk.offered else {}))
        async with aclosing(events):
            async for event in events:
                if not (thoughts and isinstance(event, Thinking)):
                    yield event

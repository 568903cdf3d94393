"""A dialogue through the engine's completion endpoint: the prompt is text that we made, and so is the answer.

The way of Go templates, of `raw` prompts, of text before a suffix, and of what goes on behind a `context`.
Source: modelfile-templates §2.9, §4.2, §6, §7.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from ..chat import pictures, prompt
from ..chat.choice import may_call, must_call
from ..chat.families import harmony
from ..chat.parsers import call_parser, choose_parsers, reads_any_call, visible_tokens
from ..chat.pipeline import NoAnswer, Parser, Reader, Tags, Unthinking
from ..chat.thinking import ThinkingSplitter
from ..engines.wire import Wire
from ..errors import ContextTooLong, EngineDied, EngineError, EngineSlow
from ..messages import Done, Message, ToolCall
from .dialogue import Asked, Dialogue, Events, Talk, Window, new_id

log = logging.getLogger(__name__)

UNLIMITED = "the model's thinking has a form of its own: it was not held to its budget"
UNSHAPED = "the model began a call in a form of its own: it was not held to the parameters of the tools"

Render = Callable[[Sequence[Message]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model's prompts are made, and how it answers."""

    render: Render
    tags: Tags
    parser: str = ""
    """A built-in one, by name."""
    is_raw: bool = False
    """The prompt is a client's own text, in the only message."""


class RenderedChat(Dialogue):
    """`before` is text in front of the prompt: an earlier conversation."""

    def __init__(self, wire: Wire, window: Window, talk: Talk, manner: Manner, before: str = "") -> None:
        super().__init__(wire, window, talk)
        self._manner = manner
        self._before = before
        self._is_cut = False

    async def shown(self) -> str:
        marked = self._marked()
        return marked.shown(await self._text(marked))

    @property
    def chars(self) -> int:
        return len(self._before) + super().chars

    async def count(self) -> int:
        await self.read_media()
        marked = self._marked()
        text = await self._text(marked)
        made = marked.engine_prompt(text, self._media, await self._wire.media_marker() if marked.pictures else "")
        tokens = await self._count_text(made.pieces)
        return tokens + await self._count_pictures(made) if made.shown else tokens

    async def _count_text(self, pieces: Sequence[str]) -> int:
        """Tokens of what stands before, between and behind pictures."""
        tokens = [await self._wire.tokenize(piece, add_special=not number) for number, piece in enumerate(pieces)]
        return sum(map(len, tokens))

    async def _count_pictures(self, made: pictures.EnginePrompt) -> int:
        """The engine counts them in chats only: in one of nothing but the pictures, less the text around them."""
        message = Message("user", images=tuple(each.data for each in made.shown))
        body = prompt.template_body((message,), {each.data: each for each in made.shown})
        around = await self._wire.apply_template(body)
        return await self._wire.count_chat(body) - await self._count_text(around.split(made.marker))

    async def cut(self) -> bool:
        if self._is_cut or any(message.images for message in self.kept):
            return False
        if not self._window.shifts:
            raise ContextTooLong
        self._is_cut = True
        return True

    async def _render(self, messages: Sequence[Message]) -> str:
        return self._before + await self._manner.render(messages)

    def _counted(self, kept: Sequence[Message], start: int) -> Sequence[Message]:
        return self._talk.messages[start:]

    def _marked(self) -> pictures.Marked:
        if self._manner.is_raw:
            (message,) = self._talk.messages
            return pictures.marked_prompt(message.content, message.images)
        tools = (msgspec.json.encode(tool).decode() for tool in self._talk.offered)
        return pictures.marked(self.kept, (self._before, *tools))

    async def _text(self, marked: pictures.Marked) -> str:
        """The prompt, without the beginning-of-text token that a template writes and the engine adds by itself."""
        text = await self._render(marked.messages)
        if not self._manner.is_raw:
            _, bos = await self._wire.bos()
            text = text.removeprefix(bos)
        return text

    async def answer(self, asked: Asked) -> Events:
        marked = self._marked()
        text = await self._text(marked)
        told = Unthinking() if self._talk.hides_thinking else Reader()
        async with aclosing(self._runs(marked, text, asked)) as events:
            async for event in events:
                for piece in told.feed(event):
                    yield piece

    def _runs(self, marked: pictures.Marked, text: str, asked: Asked) -> Events:
        talk, constraint = self._talk, asked.constraint
        if talk.offered and talk.choice.mode == "required":
            return self._call(marked, text, asked)
        if constraint.is_set and (talk.offered or talk.think):
            extra = constraint.for_completion()
            return self._two_runs(marked, text, asked, lambda begun: self._run(marked, text + begun, asked, extra))
        if talk.think and asked.max_thinking_tokens is not None:
            if reads_any_call(self._manner.parser):
                return self._within_limit(marked, text, asked)
            self.warnings.append(UNLIMITED)
        return self._run(marked, text, asked, self._lazy() | constraint.for_completion(), *self._parsers(text, asked))

    def _parsers(self, text: str, asked: Asked, *, calls: bool = True) -> tuple[Parser, ...]:
        talk = self._talk
        thinks_anyway = talk.hides_thinking and reads_any_call(self._manner.parser)  # families know by themselves
        return choose_parsers(
            self._manner.tags,
            text,
            new_id=new_id,
            named=self._manner.parser,
            tools=talk.tools if calls else (),
            choice=talk.choice,
            think=thinks_anyway or talk.think,
            max_thinking_tokens=asked.max_thinking_tokens,
            is_continued=talk.messages[-1].role == "assistant",
        )

    def _lazy(self) -> dict[str, Any]:
        """What gives calls their shape, as soon as the model begins one; families have shapes of their own."""
        talk = self._talk
        if not reads_any_call(self._manner.parser):
            return {}
        call = may_call(talk.choice, talk.tools, self._manner.tags.call)
        if call is None:
            return {}
        self.warnings += call.warnings
        return call.for_completion()

    # --- one run -----------------------------------------------------------------------------------------------------

    async def _run(
        self,
        marked: pictures.Marked,
        text: str,
        asked: Asked,
        constraint: dict[str, Any],
        *parsers: Parser,
        heard: list[str] | None = None,
    ) -> Events:
        """`heard` collects the text as the model wrote it."""
        reader, heard = Reader(*parsers), [] if heard is None else heard
        try:
            async with aclosing(self._complete_text(marked, text, asked, constraint, reader, heard)) as events:
                async for event in events:
                    yield event
            return
        except EngineError as error:
            if isinstance(error, EngineDied | EngineSlow) or "grammar_lazy" not in constraint:
                raise
            # a token ended the tag and went on with what no call has: the engine gives up (`choice.may_call`)
            log.info("an answer goes on without the shape of its calls: %s", error)
        self.warnings.append(UNSHAPED)
        async with aclosing(self._complete_text(marked, text + "".join(heard), asked, {}, reader, heard)) as events:
            async for event in events:
                yield event

    async def _complete_text(
        self,
        marked: pictures.Marked,
        text: str,
        asked: Asked,
        constraint: dict[str, Any],
        reader: Reader,
        heard: list[str],
    ) -> Events:
        talk = self._talk
        visible = visible_tokens(
            self._manner.tags,
            named=self._manner.parser,
            thinks=bool(talk.think or talk.hides_thinking),
            calls=bool(talk.offered),
        )
        shown = dict.fromkeys([*visible, *constraint.get("preserved_tokens", ())])
        extra = constraint | ({"preserved_tokens": list(shown)} if shown else {})
        made = await self._prompt(marked, text)
        async with aclosing(self._complete(made, asked, extra, reader, heard)) as events:
            async for event in events:
                yield event

    async def _prompt(self, marked: pictures.Marked, text: str) -> Any:
        """The text as the engine takes it: with pictures, or as tokens of which some are cut out (§4.2)."""
        if marked.pictures:
            made = marked.engine_prompt(text, self._media, await self._wire.media_marker())
            self.warnings += made.warnings
            return made.prompt
        if not self._is_cut:
            return text
        tokens = await self._wire.tokenize(text, add_special=True)
        if len(tokens) < self._window.ctx_tokens:
            return tokens
        added, _ = await self._wire.bos()
        short = prompt.cut_tokens(tokens, self._window.ctx_tokens, self._window.keep_tokens, adds_bos=bool(added))
        lost = len(tokens) - len(short)
        self.warnings.append(f"the prompt is longer than the context: {lost} of {len(tokens)} tokens left out")
        return short

    # --- two runs ----------------------------------------------------------------------------------------------------

    def _call(self, marked: pictures.Marked, text: str, asked: Asked) -> Events:
        talk = self._talk
        call = must_call(talk.choice, talk.tools, self._manner.tags.call)
        self.warnings += call.warnings

        def call_after(begun: str) -> Events:
            parsers = call_parser(call, talk.tools, talk.choice, new_id=new_id)
            return self._run(marked, text + begun + call.prefix, asked, call.for_completion(), *parsers)

        if not talk.think:
            return call_after("")
        return self._two_runs(marked, text, asked, call_after, calls=False)

    async def _within_limit(self, marked: pictures.Marked, text: str, asked: Asked) -> Events:
        """Thinking that is ended where it has taken what it may; the answer then comes from a second run."""
        heard: list[str] = []
        shape, parsers = self._lazy(), self._parsers(text, asked)
        async with aclosing(self._run(marked, text, asked, shape, *parsers, heard=heard)) as events:
            async for event in events:
                if isinstance(event, Done) and event.reason != "length" and _is_endless(parsers):
                    break
                yield event
                if isinstance(event, Done):
                    return
        begun = text + self._thought(text, "".join(heard), "")
        asked = dataclasses.replace(asked, max_thinking_tokens=None)
        async with aclosing(self._run(marked, begun, asked, shape, *self._parsers(begun, asked))) as events:
            async for event in events:
                yield event

    async def _two_runs(
        self,
        marked: pictures.Marked,
        text: str,
        asked: Asked,
        answer_after: Callable[[str], Events],
        *,
        calls: bool = True,
    ) -> Events:
        """Thinking and calls as they come; where an answer begins, a run that goes on from there under a constraint."""
        no_answer = NoAnswer()
        heard: list[str] = []
        is_called = False
        shape = self._lazy() if calls else {}
        run = self._run(marked, text, asked, shape, *self._parsers(text, asked, calls=calls), no_answer, heard=heard)
        async with aclosing(run) as events:
            async for event in events:
                if isinstance(event, Done) and not is_called and event.reason != "length":
                    break
                is_called = is_called or isinstance(event, ToolCall)
                yield event
                if isinstance(event, Done):
                    return
        async with aclosing(answer_after(self._thought(text, "".join(heard), no_answer.answer))) as events:
            async for event in events:
                yield event

    def _thought(self, text: str, heard: str, answer: str) -> str:
        """What the model wrote before its answer. An answer that did not begin is given its beginning."""
        if answer:
            return heard[: heard.rfind(answer)]
        if self._manner.parser == "harmony":
            return heard + harmony.ANSWER_AFTER_THINKING
        opening, closing = self._manner.tags.opening, self._manner.tags.closing
        is_open = heard or (opening and text.rstrip().endswith(opening))
        return f"{heard}{closing}\n\n" if is_open and closing and closing not in heard else heard


def _is_endless(parsers: Sequence[Parser]) -> bool:
    """Whether the thinking went on until it was stopped."""
    return any(isinstance(parser, ThinkingSplitter) and parser.is_over for parser in parsers)

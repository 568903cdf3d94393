"""What a model writes, turned into events: thinking first, then tool calls, then text. Pure.

Source: modelfile-templates §6.4, §7.3, §7.4. The engine's events go in one by one; what the template says about tags
and what the request asked for is settled when the parsers are made. `Tidy` is for what the
engine has read itself, `Unthinking` for that when no thinking was wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..messages import Done, Event, Logprob, Text, Think, Thinking, ToolCall
from .thinking import ThinkingSplitter
from .tools import visible_tokens

Piece = Text | Thinking | ToolCall


class Parser(Protocol):
    """Text in, pieces of an answer out. One that knows a family tells thinking and calls apart at once."""

    @property
    def is_over(self) -> bool:
        """Whether nothing that may still come is wanted: the engine can be stopped."""

    @property
    def may_end_early(self) -> bool:
        """Whether that can happen."""

    def feed(self, text: str) -> Sequence[Piece]: ...

    def finish(self) -> Sequence[Piece]:
        """What was held back, when no more text will come."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What a Go template tells about a model's raw text (§6.1, §7.2)."""

    opening: str = ""
    """Of thinking. Empty for a model that does not think, like `closing`."""
    closing: str = ""
    call: str = "{"

    def thinking(self, think: Think, prompt: str, limit: int | None = None) -> ThinkingSplitter | None:
        """What splits the answer to a rendered prompt, which may have opened the thinking already."""
        if not (think and self.opening and self.closing):
            return None
        is_open = prompt.rstrip().endswith(self.opening)
        return ThinkingSplitter(self.opening, self.closing, is_open=is_open, limit=limit)

    def visible_tokens(self, *, thinks: bool, calls: bool) -> list[str]:
        """Special tokens that the engine must be asked to show, in its field `preserved_tokens`."""
        tokens = [self.opening, self.closing] if thinks else []
        tokens += visible_tokens(self.call) if calls else []
        return list(dict.fromkeys(filter(None, tokens)))


class Reader:
    """Feed it the engine's events, Done as the last. Each parser reads the text that the one before lets through."""

    def __init__(self, *parsers: Parser) -> None:
        self._parsers = parsers

    @property
    def is_over(self) -> bool:
        """Whether the engine can be stopped: nothing that it may still say is wanted."""
        return any(parser.is_over for parser in self._parsers)

    @property
    def may_end_early(self) -> bool:
        """Whether `is_over` can become true at all."""
        return any(parser.may_end_early for parser in self._parsers)

    def feed(self, event: Event) -> list[Event]:
        """All that is clear by now. Log-probabilities go on at once, with an empty text if theirs is held back."""
        match event:
            case Text():
                pieces: Sequence[Piece] = [Text(event.text)]
                for parser in self._parsers:
                    pieces = _through(parser, pieces)
                return [*(_with_logprobs(pieces, event.logprobs) if event.logprobs else pieces)]
            case Done():
                pieces = []
                for parser in self._parsers:
                    pieces = [*_through(parser, pieces), *parser.finish()]
                return [*pieces, event]
        return [event]


def _through(parser: Parser, pieces: Sequence[Piece]) -> Sequence[Piece]:
    return [read for piece in pieces for read in (parser.feed(piece.text) if isinstance(piece, Text) else (piece,))]


def _with_logprobs(pieces: Sequence[Piece], logprobs: tuple[Logprob, ...]) -> Sequence[Piece]:
    """Where a chunk becomes thinking and text, its log-probabilities stay with the text, as the engine does it."""
    for number in reversed(range(len(pieces))):
        piece = pieces[number]
        if not isinstance(piece, ToolCall):
            return [*pieces[:number], replace(piece, logprobs=logprobs), *pieces[number + 1 :]]
    return [Text("", logprobs), *pieces]


class NoAnswer:
    """The last parser of a run whose answer is not wanted: under a constraint, a second run gives it (§7.4).

    Thinking and calls go past it. At the first text that is not blank, the run is over.
    """

    def __init__(self) -> None:
        self.answer = ""
        """The piece of text that the answer began with."""

    @property
    def is_over(self) -> bool:
        return bool(self.answer)

    may_end_early = True

    def feed(self, text: str) -> list[Piece]:
        if not self.answer and text.strip():
            self.answer = text
        return []

    def finish(self) -> list[Piece]:
        return []


class Tidy:
    """What the engine tells apart comes with the white space around its tags, and now and then with a second tag.

    Feed it the engine's own events: the blanks after each tag go (native-api §2.5), and so does a tag with which a
    model opens the thinking that its prompt has opened already.
    """

    def __init__(self, opening: str = "") -> None:
        self._opening = opening.strip()
        self._thought = ""
        """What may still be that tag."""
        self._begins_thinking = self._begins_text = False
        """Whether the next thinking, or text, is the first after a tag."""
        self._has_thought = False

    def feed(self, event: Event) -> list[Event]:
        match event:
            case Thinking():
                return [*self._think(event)]
            case Text() if self._has_thought and not self._begins_text:
                text = event.text.lstrip()
                self._begins_text = bool(text)
                return [replace(event, text=text)] if text or event.logprobs else []
            case Done() if self._thought:
                held, self._thought = self._thought, ""
                return [Thinking(held), event]
        return [event]

    def _think(self, event: Thinking) -> list[Event]:
        self._has_thought = True
        text = event.text
        if not self._begins_thinking:
            text = (self._thought + text).lstrip()
            if self._opening and text.startswith(self._opening):
                text = text[len(self._opening) :].lstrip()
            self._thought = text if self._opening.startswith(text) else ""
            text = "" if self._thought else text
            self._begins_thinking = bool(text)
        return [replace(event, text=text)] if text or event.logprobs else []


class Unthinking:
    """Leaves out thinking that nobody asked for, unless there is nothing else.

    A template that opens the thinking whatever it is told makes a model's whole answer look like it.
    """

    def __init__(self) -> None:
        self._left_out: list[str] = []
        self._has_answer = False

    def feed(self, event: Event) -> list[Event]:
        match event:
            case Thinking():
                self._left_out.append(event.text)
                return []
            case Done(reason="stop") if self._left_out and not self._has_answer:
                return [Text("".join(self._left_out)), event]
            case Text() | ToolCall():
                self._has_answer = self._has_answer or not isinstance(event, Text) or bool(event.text)
        return [event]

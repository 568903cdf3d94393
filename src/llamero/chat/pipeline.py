"""What a model writes, turned into events: thinking first, then tool calls, then text. Pure.

Source: modelfile-templates §6.4, §7.3, §7.4. The engine's events go in one by one; what the template says about tags
and what the request asked for is settled when the parsers are made.
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

    def thinking(self, think: Think, prompt: str) -> ThinkingSplitter | None:
        """What splits the answer to a rendered prompt, which may have opened the thinking already."""
        if not (think and self.opening and self.closing):
            return None
        return ThinkingSplitter(self.opening, self.closing, is_open=prompt.rstrip().endswith(self.opening))

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


class ThinkingOnly:
    """The thinking of a run whose answer is not wanted: under a constraint a second run gives it (§7.4).

    Where the first run ends by itself, its answer would have been empty: the second is due then as well, unless the
    thinking was cut off by a limit.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._thoughts: list[str] = []
        self._has_answer = False

    @property
    def is_over(self) -> bool:
        """Whether the model has begun to answer."""
        return self._has_answer

    @property
    def thinking(self) -> str:
        """All of it, for the assistant message that the second run goes on from."""
        return "".join(self._thoughts)

    def feed(self, text: str) -> list[Piece]:
        return self._kept(self._parser.feed(text))

    def finish(self) -> list[Piece]:
        return self._kept(self._parser.finish())

    def _kept(self, pieces: Sequence[Piece]) -> list[Piece]:
        thoughts = [piece for piece in pieces if isinstance(piece, Thinking)]
        self._thoughts += [thought.text for thought in thoughts]
        self._has_answer = self._has_answer or len(thoughts) < len(pieces)
        return [*thoughts]

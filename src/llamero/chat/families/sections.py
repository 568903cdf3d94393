"""The parser of most families: tags around thinking and around calls, white space about the tags trimmed away.

Source: modelfile-templates §8.3, §8.4. A `Family` says which tags there are and how to read a call. A call that cannot
be read comes back as text, tags and all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from ...messages import Text, Thinking, ToolCall
from .bodies import Call
from .declared import Declared
from .marks import MarkCutter

Piece = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class Family:
    read: Callable[[str, Declared], list[Call]]
    """The calls in what stands between the tags; ValueError: there are none."""
    opens_call: str
    closes_call: str
    """Empty: a call ends where the next one begins."""
    opens_thinking: str = ""
    closes_thinking: str = ""
    begins_thinking: bool = False
    """The prompt has opened the thinking when it is on."""
    acts_at_once: bool = False
    """But not for a request with tools."""
    calls_end_thinking: bool = False
    """Some models call without closing their thoughts. What others think about a call is none."""
    hides_thinking: bool = False
    """The tags of thinking are told apart also when it is off, and what stands between them is dropped."""
    noise: tuple[str, ...] = ()
    """Marks that mean nothing to a reader."""
    wants_required: bool = False
    """A call without its closing tag counts only if it is complete."""
    takes_bare_calls: bool = False
    """An answer that is a list is held until its end: it may be calls of known tools without any tag."""


class _State(Enum):
    THINKING = auto()
    ANSWERING = auto()
    CALLING = auto()
    LISTING = auto()
    """In an answer that may be bare calls."""
    ENOUGH = auto()
    """There were as many calls as are allowed; the rest is swallowed."""


class SectionParser:
    """`thinks`: what the request asked for. `is_open`: the model begins inside of its thinking."""

    def __init__(
        self,
        family: Family,
        declared: Declared,
        *,
        new_id: Callable[[], str],
        thinks: bool,
        is_open: bool,
        max_calls: int | None = None,
    ) -> None:
        self._family = family
        self._declared = declared
        self._new_id = new_id
        self._max_calls = max_calls
        self._shows_thinking = thinks
        knows_thinking = bool(family.opens_thinking) and (thinks or family.hides_thinking)
        thinking_tags = (family.opens_thinking, family.closes_thinking) if knows_thinking else ()
        call_tags = (family.opens_call, family.closes_call) if declared else ()
        self._marks = frozenset(tag for tag in (*thinking_tags, *call_tags, *family.noise) if tag)
        self._cutter = MarkCutter(self._marks)
        self._state = _State.THINKING if is_open and knows_thinking else _State.ANSWERING
        self._is_first = True
        """Nothing has been said yet in this state."""
        self._trims = is_open
        """White space is dropped: a tag came before it."""
        self._space: list[str] = []
        """White space that is dropped if a tag comes next."""
        self._body: list[str] = []
        self._calls = 0

    @property
    def is_over(self) -> bool:
        return self._state is _State.ENOUGH

    @property
    def may_end_early(self) -> bool:
        return self._max_calls is not None

    @property
    def _may_call(self) -> bool:
        return self._state is not _State.THINKING or self._family.calls_end_thinking

    def feed(self, text: str) -> list[Piece]:
        return [piece for token in self._cutter.feed(text) for piece in self._token(token)]

    def finish(self) -> list[Piece]:
        pieces = [piece for token in self._cutter.finish() for piece in self._token(token)]
        if self._state is _State.CALLING:
            pieces += self._end_call(closing="")
        elif self._state is _State.LISTING:
            pieces += self._end_list()
        return pieces

    def _token(self, token: str) -> list[Piece]:
        family = self._family
        # a tag that is not looked for may be a piece of the text by chance
        mark = token if token in self._marks else None
        match self._state:
            case _State.ENOUGH:
                return []
            case _State.CALLING if mark == (family.closes_call or family.opens_call):
                pieces = self._end_call(closing=family.closes_call)
                return pieces if family.closes_call or self.is_over else pieces + self._enter(_State.CALLING)
            case _State.CALLING | _State.LISTING:
                self._body.append(token)
                return []
            case _State.THINKING if mark == family.closes_thinking:
                return self._enter(_State.ANSWERING)
            case _State.THINKING | _State.ANSWERING if mark == family.opens_thinking and self._is_first:
                return self._enter(_State.THINKING)
            case _ if mark == family.opens_call and self._declared and self._may_call:
                return self._enter(_State.CALLING)
            case _ if mark in family.noise:
                return self._enter(self._state)
        return self._say(token)

    def _enter(self, state: _State) -> list[Piece]:
        """White space before a tag is dropped, and so is that behind it."""
        self._is_first = self._is_first and state is not _State.ANSWERING
        self._state = state
        self._space.clear()
        self._trims = True
        return []

    def _say(self, text: str) -> list[Piece]:
        if self._trims:
            text = text.lstrip()
        if not text or text.isspace():
            self._space.append(text)
            return []
        text = "".join(self._space) + text
        if self._is_first and self._state is _State.ANSWERING and self._may_be_bare(text):
            self._state = _State.LISTING
            self._body.append(text)
            return []
        self._trims = self._is_first = False
        said = text.rstrip()
        self._space = [text[len(said) :]]
        if self._state is _State.ANSWERING:
            return [Text(said)]
        return [Thinking(said)] if self._shows_thinking else []

    def _end_call(self, *, closing: str) -> list[Piece]:
        body = "".join(self._body)
        self._body.clear()
        self._enter(_State.ANSWERING)
        try:
            calls = self._family.read(body, self._declared)
            if not closing and self._family.wants_required:
                self._check_complete(calls)
        except ValueError:
            return [Text(self._family.opens_call + body + closing)]
        return self._called(calls)

    def _called(self, calls: list[Call]) -> list[Piece]:
        pieces: list[Piece] = []
        for name, arguments in calls:
            pieces.append(ToolCall(name, arguments, self._new_id(), self._calls))
            self._calls += 1
            if self._calls == self._max_calls:
                self._state = _State.ENOUGH
                break
        return pieces

    def _may_be_bare(self, text: str) -> bool:
        return self._family.takes_bare_calls and bool(self._declared) and text.lstrip().startswith("[")

    def _end_list(self) -> list[Piece]:
        body = "".join(self._body)
        try:
            calls = self._family.read(body, self._declared)
        except ValueError:
            calls = []
        known = bool(calls) and all(name in self._declared for name, _ in calls)
        return self._called(calls) if known else [Text(body)]

    def _check_complete(self, calls: list[Call]) -> None:
        for name, arguments in calls:
            if name not in self._declared or self._declared.missing(name, arguments):
                raise ValueError(f"the call of {name} is not complete")

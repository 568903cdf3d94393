"""The log-probabilities of one `/completion` answer: one entry per token, in order, each with its own token's text.

The engine tells them otherwise. It calls a token what leaves with it, which is nothing while a stop string may be
beginning and too much afterwards; and of a character in several tokens it tells only the last, under the whole
character's name. The model is asked once more for the others as soon as the answer is there, and what follows them
waits as well. Source: native-api §2.8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ContextTooLong
from ..messages import Logprob

if TYPE_CHECKING:
    from .wire import Wire

IMPOSSIBLE = -1e9
"""Stands for the logarithm of zero."""

MAX_CANDIDATES = 1000
"""How many tokens are looked through for one that was kept. It is among the first forty as a rule; a grammar or a
penalty may have pushed it down. Each costs a hundred bytes."""

HALF = "\N{REPLACEMENT CHARACTER}"
"""How the engine writes bytes of a token that are no whole character."""

_CONTROL = re.compile(r"<.+>")
"""Tokens like `<|im_end|>`, by their looks: nothing that the engine says tells which are shown and which are not."""


class Entry(msgspec.Struct):
    """One token as the engine tells it."""

    id: int = -1
    """Not every engine tells it."""
    token: str = ""
    logprob: float | None = None
    prob: float = 0.0
    bytes: list[int] = []
    top_logprobs: list[Entry] = []
    top_probs: list[Entry] = []

    @property
    def alternatives(self) -> list[Entry]:
        return self.top_logprobs or self.top_probs

    def event(self, top: int) -> Logprob:
        alternatives = tuple(item.event(0) for item in self.alternatives[:top])
        logprob = self.logprob
        if logprob is None:  # it was given as a probability, or is impossible: JSON has no infinity
            logprob = math.log(self.prob) if self.prob > 0 else IMPOSSIBLE
        token = self.token or bytes(self.bytes).decode("utf-8", "replace")  # the first part of a character has no text
        return Logprob(token, logprob, tuple(self.bytes), alternatives)


@dataclass(frozen=True, slots=True)
class _Split:
    """Tokens that end in the middle of a character, and the one that ends it: only that one was told."""

    position: int
    """Of the first one among the tokens of the answer."""
    kept: int
    """How many were not told."""
    text: bytes
    """What all of them say; empty where the engine held it back."""
    last: Entry
    """As the engine tells it: under the name of all."""
    own: bytes
    """Of the last one; empty where they are not known."""


class Ledger:
    """Give it each entry with `add`; `close` it when the engine has finished the answer."""

    def __init__(self, wire: Wire, body: Mapping[str, Any], top: int) -> None:
        self._wire = wire
        self._prompt = body.get("prompt")
        self._adapters = {"lora": body["lora"]} if "lora" in body else {}
        self._top = top
        self._ids: list[int | None] = []
        """The tokens of the answer; None where one was kept."""
        self._held_bytes = 0
        """Of the tokens before, whose text the engine holds back."""
        self._unseen: list[Logprob] = []
        """Of tokens that are not shown. The last of them is the end of the answer, and no part of it."""
        self._open: list[Logprob | _Split] = []
        """From the first split character on."""

    async def add(self, entry: Entry, content: str, predicted_tokens: int) -> tuple[Logprob, ...]:
        """The entries that are clear when `content` leaves and so many tokens are predicted in all."""
        own = await self._own(entry, content)
        position, held_bytes = len(self._ids), self._held_bytes
        kept = max(0, predicted_tokens - position - 1) if own.token.startswith(HALF) else 0
        self._ids += [*[None] * kept, entry.id]
        self._held_bytes = 0 if content else held_bytes + len(own.bytes)
        if kept:
            text = content.encode()[held_bytes:]
            known = bytes(own.bytes) if own.bytes != list(own.token.encode()) else b""
            self._open.append(_Split(position, kept, text, entry if text else own, known))
            return ()
        if entry.id >= 0 and not own.token and not own.bytes:
            self._unseen.append(own.event(self._top))
            return ()
        told = (*self._unseen, own.event(self._top))
        self._unseen.clear()
        if self._open:
            self._open += told
            return ()
        return told

    async def close(self) -> tuple[tuple[Logprob, ...], int]:
        """The entries that had to wait, and how many tokens have none."""
        told: list[Logprob] = []
        missing = 0
        for item in self._open:
            if isinstance(item, Logprob):
                told.append(item)
                continue
            found = await self._resolve(item)
            told += found or [item.last.event(self._top)]
            missing += 0 if found else item.kept
        return tuple(told), missing

    async def _own(self, entry: Entry, content: str) -> Entry:
        """This one token with its own text, whatever the engine calls it; nothing for one that is not shown."""
        if entry.id < 0:
            return entry
        for other in entry.alternatives:
            if other.id == entry.id:
                return msgspec.structs.replace(entry, token=other.token, bytes=other.bytes)
        text = await self._wire.piece(entry.id)
        if _CONTROL.fullmatch(text) and not content.endswith(text):
            text = ""
        return msgspec.structs.replace(entry, token=text, bytes=list(text.encode()))

    async def _resolve(self, split: _Split) -> list[Logprob]:
        """Its tokens, as far as possible the likeliest that say this text; empty where nobody can tell."""
        before = [token for token in self._ids[: split.position] if token is not None]
        if len(before) < split.position or not split.text:
            return []
        found: list[Logprob] = []
        rest = split.text
        for left in range(split.kept, 0, -1):
            candidates = await self._candidates(before)
            own = split.own if left == 1 else b""
            pick = next((one for one in candidates if _fits(bytes(one.bytes), rest, left, own)), None)
            if pick is None:
                return []
            before.append(pick.id)
            rest = rest[len(pick.bytes) :]
            found.append(replace(pick.event(0), top=tuple(other.event(0) for other in candidates[: self._top])))
        self._ids[split.position : split.position + split.kept] = before[split.position :]
        last = msgspec.structs.replace(split.last, token="", bytes=list(rest))
        return [*found, last.event(self._top)]

    async def _candidates(self, before: Sequence[int]) -> list[Entry]:
        """What could have followed this part of the answer."""
        if isinstance(self._prompt, str):
            self._prompt = await self._wire.tokenize(self._prompt, add_special=True)
        if not isinstance(self._prompt, list):
            return []  # there are pictures in it
        try:
            return await self._wire.likeliest([*self._prompt, *before], MAX_CANDIDATES, **self._adapters)
        except ContextTooLong:
            return []  # the context has shifted meanwhile: the model saw something else


def _fits(token: bytes, rest: bytes, left: int, own: bytes) -> bool:
    """Whether a token can begin the rest of a text, end inside a character, and leave enough for `left` more.

    `own` is all that may be left, where that is known.
    """
    after = rest[len(token) :]
    if not token or not rest.startswith(token) or len(after) < left or after[0] & 0xC0 != 0x80:
        return False
    return not own or after == own

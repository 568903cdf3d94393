"""Our server against others, run by run: what a person waits for, asked of each side in the same words.

A side that fails has a row with its own words, and the comparison goes on. Both answer with the model that they have
under the same name; what each says about it stands in the report, because two quantizations are not to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from .contest import Contest, Run
from .effort import Effort
from .embed_ratio import texts
from .engine_ratio import long_text
from .figures import Better
from .parallel import CLIENTS, speed
from .servers import our_server, side_of
from .sides import LlamaServer, Native, Side, user
from .turns import order
from .wire import Failed, Http

T = TypeVar("T")

ROUNDS = 6
FAILURES_ENOUGH = 2
"""So often a side may fail at one thing, before it is not asked for it again."""
DECODE_TOKENS = 192
PREFILL_WORDS = 150
CHAT_WORDS = 375
"""About 1,500 tokens."""
CHATS_FROM = 1000
"""Their texts have other numbers than those of the prefill: none begins like another."""
CLIENT_TOKENS = 128
INPUTS = 128
PROBE = "A small blue boat went over the sea."
SAME_VECTORS = 0.99
"""Cosine below which two vectors of one text come from two models. Quantizations of one stay above."""


@dataclass(frozen=True, slots=True)
class Discipline:
    """One thing that is measured. `run` gets a side and the number of the round, and raises Failed."""

    name: str
    unit: str
    better: Better
    run: Callable[[Side, int], float]


def disciplines(effort: Effort, embedder: str) -> list[Discipline]:
    tokens, words = effort.size(DECODE_TOKENS, 16), effort.size(PREFILL_WORDS, 20)
    client_tokens, chat_words = effort.size(CLIENT_TOKENS, 8), effort.size(CHAT_WORDS, 80)
    count = effort.size(INPUTS, 8)
    vectors = SameVectors(embedder)

    def cold(side: Side, i: int) -> float:
        side.unload()
        return side.chat(user(f"Why are {i} skies blue?"), 4).first_s

    def follow_up(side: Side, i: int) -> float:
        question = long_text(CHATS_FROM + i, chat_words)
        first = side.chat(question, 16)
        side.unload()
        return side.chat([*question, {"role": "assistant", "content": first.text}, *user("Go on.")], 4).first_s

    return [
        Discipline("first token, model not loaded", "s", "less", cold),
        Discipline("first token, model loaded", "s", "less", lambda side, i: side.chat(user(f"Hi, {i}!"), 4).first_s),
        Discipline(
            "decode, one client",
            "tokens/s",
            "more",
            lambda side, i: side.chat(user(f"Tell a long story about {i} seas."), tokens).decode_per_s,
        ),
        Discipline(
            "prefill to the first token",
            "tokens/s",
            "more",
            lambda side, i: side.chat(long_text(i, words), 1).prefill_per_s,
        ),
        Discipline(
            f"{CLIENTS} clients together", "tokens/s", "more", lambda side, i: speed(side, CLIENTS, client_tokens, i)
        ),
        Discipline("first token of a follow-up in a long chat, after unload", "s", "less", follow_up),
        Discipline("inputs embedded", "per s", "more", lambda side, i: count / vectors.seconds(side, texts(i, count))),
    ]


@dataclass(slots=True)
class SameVectors:
    """Embedding, by sides whose vectors are the first side's: else two models would be compared."""

    model: str
    reference: Sequence[float] = ()
    checked: set[str] = field(default_factory=set)
    """Sides, by name."""

    def seconds(self, side: Side, inputs: Sequence[str]) -> float:
        if side.name not in self.checked:
            self._check(side)
        return side.embed(self.model, inputs).seconds

    def _check(self, side: Side) -> None:
        """Which loads the model, too, before the clock starts."""
        (vector,) = side.embed(self.model, [PROBE]).rows
        self.reference = self.reference or vector
        if (similar := cosine(self.reference, vector)) < SAME_VECTORS:
            raise Failed(f"its vectors are another model's: cosine {similar:.2f}")
        self.checked.add(side.name)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return 0.0
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


def compare(sides: Sequence[Side], todo: Sequence[Discipline], effort: Effort) -> Iterator[list[Contest]]:
    """Each discipline in turn: the first side, which is ours, against every other."""
    for side in sides:
        attempt(partial(_warm_up_s, side))
    for discipline in todo:
        runs = compete(sides, discipline, effort.rounds_of(ROUNDS))
        yield [
            Contest.of(discipline.name, discipline.unit, discipline.better, rival.name, runs[0], theirs)
            for rival, theirs in zip(sides[1:], runs[1:], strict=True)
        ]


def _warm_up_s(side: Side) -> float:
    return side.chat(user("warm up"), 8).total_s


def compete(sides: Sequence[Side], discipline: Discipline, rounds: int) -> list[list[Run]]:
    """What each side did, round by round; a side that failed often enough has fewer rounds than the others."""
    runs: list[list[Run]] = [[] for _ in sides]
    for i in range(rounds):
        for place in order(len(sides), i):
            if sum(run.value is None for run in runs[place]) < FAILURES_ENOUGH:
                runs[place].append(attempt(partial(discipline.run, sides[place], i)))
    return runs


def attempt(work: Callable[[], float]) -> Run:
    try:
        return Run(guarded(work))
    except Failed as error:
        return Run(None, str(error))


def guarded(work: Callable[[], T]) -> T:
    """Raises Failed, too, when a reply had another shape than the API's: these are other people's servers."""
    try:
        return work()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Failed(f"a reply of another shape: {type(error).__name__}: {error}") from error


@contextmanager
def sides_of(ours: str, native: Sequence[str], engines: Sequence[str], model: str) -> Iterator[list[Side]]:
    """Ours at a URL, or started if that is empty; then the others in their order. Raises Failed for a wrong URL."""
    others: list[Side] = [Native(http.name, http, model) for http in map(Http.at, native)]
    others += [LlamaServer(http.name, http, model) for http in map(Http.at, engines)]
    if ours:
        yield [Native("ours", Http.at(ours), model), *others]
        return
    with our_server() as server:
        yield [side_of(server, model), *others]


def introduce(sides: Sequence[Side]) -> Mapping[str, str]:
    """What each says about itself, or why it does not."""
    told = {}
    for side in sides:
        try:
            told[side.name] = guarded(side.about)
        except Failed as error:
            told[side.name] = f"says nothing about itself: {error}"
    return told

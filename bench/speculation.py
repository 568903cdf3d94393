"""What guessing repeated text brings and costs: the same greedy answers of one engine with and of one without.

    python -m bench.speculation [rounds]            # as our server does it
    python -m bench.speculation [rounds] --all      # and in the other ways and sizes that there are

Ratios of decode speeds (with / without) prompt by prompt, in changing order: for prose, where nothing repeats, and for
text that quotes its prompt, as code edits do. Also how many of the guessed tokens were right, and how many answers
were another text: guessed tokens are computed in larger batches, whose sums differ in their last bits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from llamero.engines import speculation
from llamero.scheduler.speculation import NGRAM_DRAFT_TOKENS, NGRAM_MATCH_TOKENS

from .alone import alone
from .effort import Effort
from .figures import Figure, failed
from .servers import bare_engine
from .sides import LlamaServer
from .texts import PROSE, REPEATED
from .turns import order

ROUNDS = 2
TOKENS = 160

Settings = Mapping[str, Any]
"""Attributes of the wheel's parameters."""


def simple(match: int, draft: int) -> Settings:
    return _way("ngram_simple", size_n=match, size_m=draft)


def mod(match: int, least: int, most: int) -> Settings:
    return _way("ngram_mod", n_match=match, n_min=least, n_max=most)


def _way(name: str, **sizes: int) -> Settings:
    chosen: dict[str, Any] = {f"speculative.{name}.{size}": value for size, value in sizes.items()}
    return {"speculative.types": [f"COMMON_SPECULATIVE_TYPE_{name.upper()}"], **chosen}


OURS = f"ours (simple {NGRAM_MATCH_TOKENS}/{NGRAM_DRAFT_TOKENS})"
CANDIDATES: Mapping[str, Settings] = {
    OURS: simple(NGRAM_MATCH_TOKENS, NGRAM_DRAFT_TOKENS),
    **{f"simple {match}/{draft}": simple(match, draft) for match, draft in ((4, 8), (5, 6), (6, 8), (8, 16), (12, 12))},
    "mod 16/8..16": mod(16, 8, 16),
    "mod 24/48..64": mod(24, 48, 64),  # the engine's own choice
}
"""How many tokens must have come before, and how many are guessed. The maps are left out: they abort the process when
the context shifts."""


@dataclass(frozen=True, slots=True)
class Run:
    """One answer. Counts and times are the engine's."""

    text: str
    tokens: int
    decode_ms: float
    guessed: int
    accepted: int

    @property
    def per_s(self) -> float:
        return self.tokens / self.decode_ms * 1000


@dataclass(slots=True)
class Tally:
    """Of one way, over the prompts of one kind."""

    ratios: list[float] = field(default_factory=list)
    guessed: int = 0
    accepted: int = 0
    others: int = 0
    """Answers with another text."""

    def add(self, with_: Run, without: Run) -> None:
        self.ratios.append(with_.per_s / without.per_s)
        self.guessed += with_.guessed
        self.accepted += with_.accepted
        self.others += with_.text != without.text


@contextmanager
def engine(settings: Settings) -> Iterator[LlamaServer]:
    """A bare one that guesses in this way, also in those that no load plan knows."""
    with patch.object(speculation, "settings", lambda plan: settings), bare_engine() as side:
        yield side


def ask(side: LlamaServer, prompt: str, tokens: int) -> Run:
    reply = side.complete(prompt, tokens)
    timings = reply["timings"]
    guessed, accepted = timings.get("draft_n", 0), timings.get("draft_n_accepted", 0)
    return Run(reply["content"], timings["predicted_n"], timings["predicted_ms"], guessed, accepted)


def compare(ways: Mapping[str, Settings], effort: Effort) -> Iterator[tuple[str, str, Tally]]:
    """Kind of text, way, and how it did. All engines are loaded at once, and one of them works at a time."""
    tokens = effort.size(TOKENS, 48)
    with ExitStack() as stack:
        sides = {name: stack.enter_context(engine(way)) for name, way in {"": {}, **ways}.items()}
        for side in sides.values():
            ask(side, PROSE[0], 8)
        for kind, prompts in (("prose", PROSE), ("repeated text", REPEATED)):
            tallies = {name: Tally() for name in ways}
            for round_ in range(effort.rounds_of(ROUNDS)):
                for number, prompt in enumerate(prompts[: effort.size(len(prompts), 2)]):
                    for name, runs in _paired(sides, prompt, tokens, round_ + number):
                        tallies[name].add(*runs)
            yield from ((kind, name, tally) for name, tally in tallies.items())


def _paired(
    sides: Mapping[str, LlamaServer], prompt: str, tokens: int, turn: int
) -> Iterator[tuple[str, tuple[Run, Run]]]:
    """Every way's answer beside the one without guessing."""
    names = list(sides)
    runs = {names[place]: ask(sides[names[place]], prompt, tokens) for place in order(len(names), turn)}
    without = runs.pop("")
    yield from ((name, (run, without)) for name, run in runs.items())


GOALS = {"prose": 1.0, "repeated text": 1.3}


def figures(kind: str, tally: Tally, name: str = "") -> list[Figure]:
    prefix = f"{name}: {kind}" if name else kind
    return [
        Figure(f"{prefix}, guessing / not", tuple(tally.ratios), goal=GOALS[kind]),
        _right(f"{prefix}, right of the tokens guessed", tally),
        Figure(f"{prefix}, answers with another text", (tally.others,), f"of {len(tally.ratios)}", better="less"),
    ]


def _right(name: str, tally: Tally) -> Figure:
    if not tally.guessed:
        return failed(name, "nothing was guessed")
    return Figure(name, (tally.accepted / tally.guessed,), f"of {tally.guessed}")


def measure(effort: Effort) -> Sequence[Figure]:
    ours = {OURS: CANDIDATES[OURS]}
    return [figure for kind, _, tally in compare(ours, effort) for figure in figures(kind, tally)]


def measure_every_way(effort: Effort) -> Sequence[Figure]:
    return [figure for kind, name, tally in compare(CANDIDATES, effort) for figure in figures(kind, tally, name)]


if __name__ == "__main__":
    if "--all" in sys.argv:
        sys.argv.remove("--all")
        alone(measure_every_way, __doc__)
    else:
        alone(measure, __doc__)

"""Inputs embedded per second through our API against the bare engine with the same plan, in turn.

    python -m bench.embed_ratio [rounds]

One request of many short texts of unequal length, as an indexer sends them; new texts every round. The ratio is ours /
bare, the median of the rounds counts.
"""

from __future__ import annotations

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios
from .servers import EMBEDDER, bare_engine, our_server, side_of
from .sides import Side
from .turns import in_turn

ROUNDS = 12
INPUTS = 256
WORDS = "the small blue boat went over seven seas to find a quiet harbour and came home late".split()


def texts(number: int, count: int) -> list[str]:
    return [" ".join([f"text {number} {i}", *WORDS[: 1 + i % len(WORDS)]]) for i in range(count)]


def measure(effort: Effort) -> list[Figure]:
    count = effort.size(INPUTS, 16)
    with our_server() as server, bare_engine(EMBEDDER) as bare:
        sides: list[Side] = [side_of(server), bare]
        in_turn(sides, 1, lambda side, i: side.embed(EMBEDDER, texts(-1, count)).seconds)
        ours_s, bare_s = in_turn(
            sides, effort.rounds_of(ROUNDS), lambda side, i: side.embed(EMBEDDER, texts(i, count)).seconds
        )
    return [
        Figure("inputs embedded per second, ours / bare engine", ratios(bare_s, ours_s), goal=0.9),
        Figure("inputs embedded, ours", tuple(count / took_s for took_s in ours_s), "per s"),
    ]


if __name__ == "__main__":
    alone(measure, __doc__)

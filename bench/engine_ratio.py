"""Decode and prefill through our API against the bare engine with the same settings, request by request in turn.

    python -m bench.engine_ratio [rounds]

Ratios of speeds (ours / bare; 1 is as fast): for the tokens of a long answer after the first one, and for the time to
the first token of a long prompt. Each round asks both the same new question, in changing order, so that drift of the
machine cancels out; the median of the rounds counts.
"""

from __future__ import annotations

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios
from .servers import bare_engine, our_server, side_of
from .sides import Message, Side, user
from .turns import in_turn

ROUNDS = 16
DECODE_TOKENS = 192
PREFILL_WORDS = 150
"""About 600 tokens, two seconds of work on two cores."""


def measure(effort: Effort) -> list[Figure]:
    tokens, words = effort.size(DECODE_TOKENS, 16), effort.size(PREFILL_WORDS, 20)
    rounds = effort.rounds_of(ROUNDS)
    with our_server() as server, bare_engine() as bare:
        sides: list[Side] = [side_of(server), bare]
        in_turn(sides, 1, lambda side, i: side.chat(user("warm up"), 8).total_s)
        decode = in_turn(
            sides, rounds, lambda side, i: side.chat(user(f"Tell a long story about {i} seas."), tokens).decode_per_s
        )
        first_s = in_turn(sides, -(-rounds // 2), lambda side, i: side.chat(long_text(i, words), 1).first_s)
    added_ms = tuple(1000 * (ours - bare) for ours, bare in zip(*first_s, strict=True))
    return [
        Figure("decode, ours / bare engine", ratios(*decode), goal=0.98),
        Figure("prefill to the first token, ours / bare engine", ratios(first_s[1], first_s[0]), goal=0.98),
        Figure("added before the first token", added_ms, "ms", better="less"),
    ]


def long_text(number: int, words: int) -> list[Message]:
    """A prompt that begins like no other: nothing of it is in any cache."""
    return user(f"Text {number}: " + " ".join(f"word{number}" for _ in range(words)))


if __name__ == "__main__":
    alone(measure, __doc__)

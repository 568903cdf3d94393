"""Decode and prefill through our API against the bare engine with the same settings, request by request in turn.

    python -m bench.engine_ratio [rounds]

Prints ratios of speeds (ours / bare; 1 is as fast): for the tokens of a long answer after the first one, and for the
time to the first token of a long prompt. Each round asks both the same new question, in changing order, so that drift
of the machine cancels out; the median of the rounds counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.common import bare_engine, chat_bodies, median, our_server, run, spread, stream
from llamero.engines.llamacpp import LlamaCpp
from tests.running import Server

DECODE_TOKENS = 192
PREFILL_WORDS = 150
"""About 600 tokens, two seconds of work here."""


def ask(
    ours: Server, bare: LlamaCpp, question: str, predict: int, *, ours_first: bool
) -> dict[str, tuple[float, float, int]]:
    our_body, bare_body = chat_bodies(question, predict)
    calls: dict[str, Callable[[], tuple[float, float, int]]] = {
        "ours": lambda: stream(ours, "/api/chat", our_body),
        "bare": lambda: stream(bare, "/v1/chat/completions", bare_body),
    }
    order = ("ours", "bare") if ours_first else ("bare", "ours")
    return {name: calls[name]() for name in order}


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    with our_server() as server:
        async with bare_engine() as engine:
            ask(server, engine, "warm up", 8, ours_first=True)
            decode, prefill, first_ms = [], [], []
            for i in range(rounds):
                answers = ask(
                    server, engine, f"Tell a long story about {i} seas.", DECODE_TOKENS, ours_first=bool(i % 2)
                )
                speed = {name: lines / (total - first) for name, (first, total, lines) in answers.items()}
                decode.append(speed["ours"] / speed["bare"])
            for i in range(rounds // 2):
                text = f"Text {i}: " + f"word{i} " * PREFILL_WORDS
                answers = ask(server, engine, text, 1, ours_first=bool(i % 2))
                prefill.append(answers["bare"][0] / answers["ours"][0])
                first_ms.append((answers["ours"][0] - answers["bare"][0]) * 1000)
    print(f"decode, ours/bare: {spread(decode)}")
    print(f"prefill to the first token, ours/bare: {spread(prefill)}; difference {median(first_ms):.1f} ms")


if __name__ == "__main__":
    run(main)

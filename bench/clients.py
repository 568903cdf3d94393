"""Many clients at once in a process of their own, so that their CPU time is not counted where a server's is.

    python -m bench.clients URL MODEL STREAMS TOKENS SEED

Prints one JSON list of streams. `many_clients` starts it and reads that.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .sides import Native, user
from .wire import Failed, Http

TIMEOUT_S = 600.0
"""For all of them together."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one client saw, on the clients' common clock."""

    first_s: float
    """When the first text came."""
    end_s: float
    tokens: int
    error: str = ""


def most_at_once(streams: Sequence[Stream]) -> int:
    """Streams that were between their first text and their end at the same time."""
    marks = sorted([(stream.first_s, 1) for stream in streams] + [(stream.end_s, -1) for stream in streams])
    most = now = 0
    for _, step in marks:
        now += step
        most = max(most, now)
    return most


def many_clients(url: str, model: str, streams: int, tokens: int, seed: int) -> list[Stream]:
    """Ask `streams` questions at the same moment, for answers of `tokens` each. Raises Failed when one goes wrong.

    `seed` makes the questions others than those of other calls.
    """
    words = (url, model, str(streams), str(tokens), str(seed))
    done = subprocess.run(
        [sys.executable, "-m", "bench.clients", *words], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if done.returncode:
        raise Failed(f"the clients ended with status {done.returncode}: {done.stderr[-500:]}")
    seen = [Stream(**fields) for fields in json.loads(done.stdout)]
    errors = [stream.error for stream in seen if stream.error]
    if errors:
        raise Failed(f"{len(errors)} of {streams} streams failed, the first with: {errors[0]}")
    return seen


def main(url: str, model: str, streams: str, tokens: str, seed: str) -> None:
    side = Native("clients", Http.at(url), model)
    together = threading.Barrier(int(streams))

    def client(number: int) -> Stream:
        question = user(f"Tell a long story about {seed} seas and {number} ships.")
        together.wait()
        asked_s = time.monotonic()
        try:
            answer = side.chat(question, int(tokens))
        except Failed as error:
            return Stream(0, 0, 0, str(error))
        return Stream(asked_s + answer.first_s, asked_s + answer.total_s, answer.tokens)

    with ThreadPoolExecutor(int(streams)) as threads:
        print(json.dumps([dataclasses.asdict(stream) for stream in threads.map(client, range(int(streams)))]))


if __name__ == "__main__":
    main(*sys.argv[1:])

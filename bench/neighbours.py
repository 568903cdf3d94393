"""Decode speed of the bare engine by how long its threads spin, alone and beside one busy process.

    python -m bench.neighbours [rounds]

One engine at a time; the settings take turns in each round, so that drift of the machine cancels out.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bench.common import bare_engine, chat_bodies, run, spread, stream

TOKENS = 24
SPINS = ("300000", "1000")
"""GOMP_SPINCOUNT: what libgomp's manual gives as its own choice, and ours."""


@contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i in range(rounds):
        for spin in SPINS:
            async with bare_engine(spin=spin) as engine:
                stream(engine, "/v1/chat/completions", chat_bodies("warm up", 8)[1])
                for where in ("alone", "beside one"):
                    body = chat_bodies(f"Tell a long story about {i} seas, {where}.", TOKENS)[1]
                    with busy_process() if where == "beside one" else nullcontext():
                        first, total, lines = stream(engine, "/v1/chat/completions", body)
                    speeds[spin, where].append((lines - 1) / (total - first))
                    print(f"GOMP_SPINCOUNT={spin}, {where}: {speeds[spin, where][-1]:.1f}", flush=True)
    for (spin, where), values in sorted(speeds.items()):
        print(f"GOMP_SPINCOUNT={spin}, {where}: {spread(values, ' tokens/s', 1)}")


if __name__ == "__main__":
    run(main)

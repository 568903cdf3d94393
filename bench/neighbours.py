"""What is left of the decode speed beside others: busy processes, and a second model that answers at the same time.

    python -m bench.neighbours [rounds]

Our server with its own settings, idle and beside one busy process per two cores; the bare engine the same by how long
OpenMP's threads spin, one engine at a time; and two models that answer at once against one after the other. What is
compared takes turns in each round, so that drift of the machine cancels out.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from llamero.build.rewrite import Source, rewrite
from llamero.engines.llamacpp import SPIN_COUNT
from tests.running import Server

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios
from .processes import busy
from .servers import LIBGOMP_SPIN, MODEL, bare_engine, our_server, plan_of, side_of
from .sides import Answer, Side, user
from .turns import in_turn

ROUNDS = 4
TOKENS = 48
THROTTLED = "100"
ALL_SPINS = (LIBGOMP_SPIN, SPIN_COUNT, THROTTLED)
"""GOMP_SPINCOUNT: libgomp's own choice, ours where an engine cannot be told who else is busy, and what it has when it
was told."""
BUSY = max(1, (os.cpu_count() or 2) // 2)
TWIN = "twin"


def measure(effort: Effort) -> list[Figure]:
    return [*_busy_processes(effort), *_spins(effort), *_two_models(effort)]


def _busy_processes(effort: Effort) -> list[Figure]:
    with our_server() as server, bare_engine() as bare:
        sides: tuple[Side, ...] = (side_of(server), bare)
        for side in sides:
            side.chat(user("warm up"), 8)
        rounds = effort.rounds_of(ROUNDS)
        ours, theirs = in_turn(sides, rounds, lambda side, i: _decoding(side, effort)(0, i))
        idle, beside = in_turn((0, BUSY), rounds, _decoding(sides[0], effort))
    return [
        Figure("decode, idle, ours / bare engine with libgomp's own spin", ratios(ours, theirs), goal=0.98),
        Figure("decode beside one busy process per two cores / idle", ratios(beside, idle), goal=0.3),
        Figure("decode, idle", idle, "tokens/s"),
        Figure("decode, beside", beside, "tokens/s"),
    ]


def _spins(effort: Effort) -> list[Figure]:
    """The table over settings, and what ours costs an idle machine."""
    speeds: dict[tuple[str, int], list[float]] = {(spin, count): [] for spin in ALL_SPINS for count in (0, BUSY)}

    def with_spin(spin: str, i: int) -> float:
        with bare_engine(spin=spin) as engine:
            engine.chat(user("warm up"), 8)
            for count in (0, BUSY):
                speeds[spin, count].append(_decoding(engine, effort)(count, i))
        return 0.0

    in_turn(ALL_SPINS, effort.rounds_of(ROUNDS), with_spin)
    idle = speeds[LIBGOMP_SPIN, 0]
    figures = []
    for spin in ALL_SPINS:
        setting = f"bare engine with GOMP_SPINCOUNT={spin}"
        figures.append(Figure(f"{setting}, beside / idle", ratios(speeds[spin, BUSY], speeds[spin, 0])))
        figures.append(Figure(f"{setting}, idle / libgomp's own", ratios(speeds[spin, 0], idle)))
    return figures


def _decoding(side: Side, effort: Effort) -> Callable[[int, int], float]:
    """Decode speed beside so many busy processes, in a round."""

    def speed(count: int, i: int) -> float:
        question = user(f"Tell a long story about {i} seas and {count} ships.")
        with busy(count):
            return side.chat(question, effort.size(TOKENS, 8)).decode_per_s

    return speed


def _two_models(effort: Effort) -> list[Figure]:
    """The same weights twice, as two models with an engine each."""
    tokens = effort.size(TOKENS, 8)
    with our_server() as server:
        add_twin(server)
        sides = (side_of(server), side_of(server, TWIN))
        for side in sides:
            side.chat(user("warm up"), 8)

        rounds = effort.rounds_of(ROUNDS)
        one_by_one, together = in_turn((1, len(sides)), rounds, lambda threads, i: _speed(sides, threads, i, tokens))
    return [
        Figure("two models at once / one after the other, tokens per second", ratios(together, one_by_one)),
        Figure("two models at once, together", together, "tokens/s"),
    ]


def _speed(sides: Sequence[Side], threads: int, i: int, tokens: int) -> float:
    """Tokens per second of an answer by each side, so many of them at once."""
    question = user(f"Tell a long story about {i} hills and {threads} lakes.")
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        answers: list[Answer] = list(pool.map(lambda side: side.chat(question, tokens), sides))
        took_s = time.perf_counter() - started
    return sum(answer.tokens for answer in answers) / took_s


def add_twin(server: Server) -> None:
    """Give the server a second model with the same weights in another file: it gets an engine of its own."""
    with plan_of(MODEL).model.open("rb") as file:
        source = Source(file)
        twin = b"".join(rewrite(source, source.parts, {"general.name": TWIN}))
    digest = f"sha256:{hashlib.sha256(twin).hexdigest()}"
    uploaded = server.post(f"/api/blobs/{digest}", twin)
    assert uploaded.status in (200, 201), uploaded.body
    created = server.post("/api/create", {"model": TWIN, "files": {"twin.gguf": digest}, "stream": False})
    assert created.status == 200, created.body


if __name__ == "__main__":
    alone(measure, __doc__)

"""From a request for a model that is not loaded to its first token; beside it the same for the bare engine.

python -m bench.cold_start [rounds]
"""

from __future__ import annotations

import time

from .alone import alone
from .effort import Effort
from .figures import Figure
from .servers import bare_engine, our_server, side_of
from .sides import user

ROUNDS = 10
QUESTION = user("Why is the sky blue?")
TOKENS = 4


def measure(effort: Effort) -> list[Figure]:
    ours_s, bare_s = [], []
    with our_server() as server:
        ours = side_of(server)
        for _ in range(effort.rounds_of(ROUNDS)):
            ours_s.append(ours.chat(QUESTION, TOKENS).first_s)
            ours.unload()
            server.wait_until(lambda: not server.engines())
            started = time.perf_counter()
            with bare_engine() as engine:
                ready_s = time.perf_counter() - started
                bare_s.append(ready_s + engine.chat(QUESTION, TOKENS).first_s)
    return [
        Figure("cold start to the first token", tuple(ours_s), "s", goal=0.5, better="less"),
        Figure("cold start of the bare engine", tuple(bare_s), "s", better="less"),
    ]


if __name__ == "__main__":
    alone(measure, __doc__)

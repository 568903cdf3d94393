"""From a request for a model that is not loaded to its first token; beside it the same for the bare engine.

python -m bench.cold_start [rounds]
"""

from __future__ import annotations

import sys
import time

from bench.common import MODEL, bare_engine, chat_bodies, our_server, run, spread, stream


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    ours_s, bare_s = [], []
    with our_server() as server:
        for _ in range(rounds):
            server.post("/api/generate", {"model": MODEL, "keep_alive": 0})
            server.wait_until(lambda: not server.loaded() and not server.engines())
            ours, bare = chat_bodies("Why is the sky blue?", 4)
            ours_s.append(stream(server, "/api/chat", ours)[0])
            server.post("/api/generate", {"model": MODEL, "keep_alive": 0})
            server.wait_until(lambda: not server.loaded() and not server.engines())
            started = time.perf_counter()
            async with bare_engine() as engine:
                begun = time.perf_counter()
                first = stream(engine, "/v1/chat/completions", bare)[0]
                bare_s.append(begun - started + first)
    print(f"cold start to first token: ours {spread(ours_s, ' s')}; bare {spread(bare_s, ' s')}")


if __name__ == "__main__":
    run(main)

"""Whole-process time of `ollama --version` and `ollama list` against a running server, and the server's idle memory.

python -m bench.command_start [rounds]
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from tests.running import OLLAMA, clean_environment

from .alone import alone
from .effort import Effort
from .figures import Figure
from .processes import resident_mib
from .servers import our_server

ROUNDS = 20
SETTLE_S = 3.0
"""After this the start-up's own work (device probe, pruning) is over."""


def measure(effort: Effort) -> list[Figure]:
    with our_server() as server:
        time.sleep(SETTLE_S)
        idle_mib = resident_mib(server.process.pid)
        env = clean_environment(server.home, OLLAMA_HOST=server.host)
        rounds = effort.rounds_of(ROUNDS)
        version_s = [seconds(["--version"], env) for _ in range(rounds + 1)]
        list_s = [seconds(["list"], env) for _ in range(rounds + 1)]
    return [
        Figure("`ollama --version`, process start to exit", tuple(version_s[1:]), "s", goal=0.10, better="less"),
        Figure("`ollama list`, process start to exit", tuple(list_s[1:]), "s", goal=0.20, better="less"),
        Figure("idle server, no model loaded", (idle_mib,), "MiB", goal=70, better="less"),
    ]


def seconds(arguments: Sequence[str], env: Mapping[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([OLLAMA, *arguments], env=env, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    alone(measure, __doc__)

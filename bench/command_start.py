"""Whole-process time of `ollama --version` and `ollama list` against a running server, and the server's idle memory.

python -m bench.command_start [rounds]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.common import our_server, spread
from tests.running import OLLAMA, clean_environment

SETTLE_S = 3.0
"""After this the start-up's own work (device probe, pruning) is over."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with our_server() as server:
        time.sleep(SETTLE_S)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        idle_mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        print(f"idle server, no model loaded: {idle_mib:.1f} MiB resident")
        env = clean_environment(server.home, OLLAMA_HOST=server.host)
        for arguments in (["--version"], ["list"]):
            seconds = []
            for _ in range(rounds + 1):
                started = time.perf_counter()
                subprocess.run([OLLAMA, *arguments], env=env, check=True, capture_output=True)
                seconds.append(time.perf_counter() - started)
            print(f"ollama {' '.join(arguments)}: {spread(seconds[1:], ' s')}")


if __name__ == "__main__":
    main()

"""What loading a model is estimated to take, against what the engine reports when it has loaded.

    python -m bench.estimate            # every model under every setting

Exit status 1 when one is more than a tenth off.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from llamero.errors import LoadFailed
from tests.scheduler.loads import SETTINGS, TINY, TOLERANCE, load, stored_model, tiny_model

from .servers import models_folder

MIB = 2**20


async def main() -> int:
    worst = 0.0
    print("| model | setting | weights | KV cache | state | compute | output | estimate MiB | report MiB | off |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        models = {name: tiny_model(name, Path(folder)) for name in (*TINY, "vision")}
        models |= {name: stored_model(name, models_folder()) for name in ("all-minilm:22m", "smollm2:135m")}
        for name, facts in models.items():
            for setting in SETTINGS:
                try:
                    row = await load(facts, setting)
                except LoadFailed as error:
                    print(f"| {name} | {setting.name} | does not load: {str(error).splitlines()[0]} |")
                    worst = 1.0
                    continue
                worst = max(worst, abs(row.error))
                guess = row.estimated
                parts = (guess.weights, guess.kv, guess.state, guess.compute, guess.output, guess.reported_bytes)
                figures = " | ".join(f"{part / MIB:.2f}" for part in (*parts, row.reported.total_bytes))
                print(f"| {name} | {setting.name} | {figures} | {row.error:+.1%} |", flush=True)
    print(f"\nat most {worst:.1%} off")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""Inputs embedded per second through our API against the bare engine with the same plan, in turn.

    python -m bench.embed_ratio [rounds]

One request of many short texts of unequal length, as an indexer sends them; new texts every round. The ratio is ours /
bare, the median of the rounds counts. The bare engine gets the body that our server sends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.common import connect, models_folder, our_server, run, spread
from llamero.engines import MemoryUse
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.names import ModelName
from llamero.options import merge_options
from llamero.scheduler.effects import LocalEffects
from llamero.scheduler.facts import facts_of
from llamero.scheduler.plan import Defaults, want
from llamero.store import Store
from tests.running import Server

MODEL = "all-minilm:22m"
INPUTS = 256
WORDS = "the small blue boat went over seven seas to find a quiet harbour and came home late".split()


def texts(number: int) -> list[str]:
    return [" ".join([f"text {number} {i}", *WORDS[: 1 + i % len(WORDS)]]) for i in range(INPUTS)]


def seconds(target: Server | LlamaCpp, path: str, body: Mapping[str, Any]) -> float:
    headers = {"Content-Type": "application/json"}
    if isinstance(target, LlamaCpp):
        headers["Authorization"] = f"Bearer {target.endpoint.secret}"
    connection = connect(target)
    started = time.perf_counter()
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    reply = json.loads(response.read())
    took = time.perf_counter() - started
    connection.close()
    assert response.status == 200, reply
    assert len(reply["embeddings"] if "embeddings" in reply else reply["data"]) == INPUTS
    return took


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    settings = LlamaCppSettings(env={"PATH": os.environ["PATH"]})
    model = Store(models_folder()).resolve(ModelName.parse(MODEL))
    machine = LocalEffects(settings).machine(MemoryUse())
    plan = want(facts_of(model), merge_options({}), None, machine, Defaults()).plan
    with our_server() as server:
        engine = await LlamaCpp.start(plan, settings)
        try:
            ratios, speeds = [], []
            for i in range(-1, rounds):
                calls = {
                    "ours": lambda i=i: seconds(server, "/api/embed", {"model": MODEL, "input": texts(2 * i)}),
                    "bare": lambda i=i: seconds(engine, "/v1/embeddings", {"input": texts(2 * i + 1)}),
                }
                order = ("ours", "bare") if i % 2 else ("bare", "ours")
                # in a thread: the engine's log must be read meanwhile, or it stops when its pipe is full
                took = {name: await asyncio.to_thread(calls[name]) for name in order}
                if i >= 0:  # the first round loads the model
                    ratios.append(took["bare"] / took["ours"])
                    speeds.append(INPUTS / took["ours"])
        finally:
            await engine.stop()
    print(f"inputs per second, ours/bare: {spread(ratios)}; ours {spread(speeds, digits=0)}")


if __name__ == "__main__":
    run(main)

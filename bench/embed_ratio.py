"""Inputs embedded per second through our API against the bare engine with the same plan, in turn.

    python -m bench.embed_ratio [rounds] [inputs]

One request of many short texts of unequal length, as an indexer sends them; new texts of the same lengths every round.
The ratio is ours / bare, the median of the rounds counts. Both get the same body on the same path, and answer in
numbers; the bare engine gets all texts at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

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
PATH = "/v1/embeddings"
WORDS = "the small blue boat went over seven seas to find a quiet harbour and came home late".split()


def texts(number: int, inputs: int) -> list[str]:
    return [" ".join([f"text {number:03} {i}", *WORDS[: 1 + i % len(WORDS)]]) for i in range(inputs)]


def seconds(target: Server | LlamaCpp, given: list[str]) -> float:
    body = {"model": MODEL, "input": given}
    headers = {"Content-Type": "application/json"}
    if isinstance(target, LlamaCpp):
        headers["Authorization"] = f"Bearer {target.endpoint.secret}"
    connection = connect(target)
    started = time.perf_counter()
    connection.request("POST", PATH, json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read()
    took = time.perf_counter() - started
    connection.close()
    assert response.status == 200, answer
    assert len(json.loads(answer)["data"]) == len(given)
    return took


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    inputs = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    settings = LlamaCppSettings(env={"PATH": os.environ["PATH"]})
    model = Store(models_folder(MODEL)).resolve(ModelName.parse(MODEL))
    machine = LocalEffects(settings).machine(MemoryUse())
    plan = want(facts_of(model), merge_options({}), None, machine, Defaults()).plan
    with our_server() as server:
        engine = await LlamaCpp.start(plan, settings)
        try:
            ratios, speeds = [], []
            for i in range(-1, rounds):
                took = {}
                order = (("ours", server), ("bare", engine))
                for which, (name, target) in enumerate(order if i % 2 else order[::-1]):
                    # in a thread: the engine's log must be read meanwhile, or it stops when its pipe is full
                    took[name] = await asyncio.to_thread(seconds, target, texts(2 * i + which, inputs))
                if i >= 0:  # the first round loads the model
                    ratios.append(took["bare"] / took["ours"])
                    speeds.append(inputs / took["ours"])
        finally:
            await engine.stop()
    print(f"inputs per second, ours/bare: {spread(ratios)}; ours {spread(speeds, digits=0)}")


if __name__ == "__main__":
    run(main)

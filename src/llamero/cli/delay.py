"""Why an answer does not begin yet, in a few words: the model loads, or others are before us (native-api §3.5)."""

from __future__ import annotations

import time

from ..client import Client, Running, WaitingRequest
from ..errors import LlameroError


class Delay:
    """Of one request for a model, from the moment in which this is made."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        self._began_s = time.monotonic()

    def reason(self) -> str:
        """Asks the server. Empty when it does not say: it computes, or it is another program that tells nothing."""
        try:
            running = self._client.ps()
        except LlameroError:
            return ""
        return describe(running, self._model, int(1000 * (time.monotonic() - self._began_s)))


def describe(running: Running, model: str, waited_ms: int) -> str:
    """The server does not say which request is whose: ours is the one for our model that has waited as long as we."""
    name = _stored_name(model)
    mine = [waiting for waiting in running.queue if waiting.model.lower() == name]

    def stranger(waiting: WaitingRequest) -> int:
        return abs(waiting.waiting_ms - waited_ms)

    if mine:
        return f"waiting in the queue, position {min(mine, key=stranger).position}"
    for loading in running.loading:
        if loading.name.lower() == name:
            return f"loading {loading.name} {loading.progress:.0%}"
    return ""


def _stored_name(model: str) -> str:
    """As `/api/ps` spells it, but for the letters' case."""
    from ..names import ModelName, split_source

    try:
        return ModelName.parse(split_source(model)[0]).display.lower()
    except LlameroError:
        return model.lower()

"""Why an answer does not begin yet, in a few words: the model loads, or others are before us (native-api §3.5)."""

from __future__ import annotations

import time

from ..client import Client, LoadingModel, Running, WaitingRequest
from ..durations import SECOND, format_duration
from ..errors import LlameroError

MIN_WATCHED_S = 1.0
"""A pace is told when a load has been watched for so long."""


class Delay:
    """Of one request for a model, from the moment in which this is made."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        self._began_s = time.monotonic()
        self._first_seen: tuple[float, float] | None = None
        """When the load was seen for the first time, and how far it was."""

    def reason(self) -> str:
        """Asks the server. Empty when it does not say: it computes, or it is another program that tells nothing."""
        try:
            running = self._client.ps()
        except LlameroError:
            return ""
        now_s = time.monotonic()
        load = _load_of(running, self._model)
        left_s = 0.0 if load is None else self._left_s(load.progress, now_s)
        return describe(running, self._model, int(1000 * (now_s - self._began_s)), left_s)

    def _left_s(self, progress: float, now_s: float) -> float:
        """How long the load will go on, if it goes on as it did; 0 while nobody can tell."""
        self._first_seen = self._first_seen or (now_s, progress)
        first_s, first_progress = self._first_seen
        gained = progress - first_progress
        if gained <= 0 or now_s - first_s < MIN_WATCHED_S:
            return 0.0
        return (1 - progress) * (now_s - first_s) / gained


def describe(running: Running, model: str, waited_ms: int, left_s: float = 0.0) -> str:
    """The server does not say which request is whose: ours is the one for our model that has waited as long as we.

    `left_s` is how long the model's load will still take, 0 when that is not known.
    """
    name = _stored_name(model)
    mine = [waiting for waiting in running.queue if waiting.model.lower() == name]

    def stranger(waiting: WaitingRequest) -> int:
        return abs(waiting.waiting_ms - waited_ms)

    if mine:
        return f"waiting in the queue, position {min(mine, key=stranger).position}"
    load = _load_of(running, model)
    if load is None:
        return ""
    left = f", {format_duration(round(left_s) * SECOND)} left" if round(left_s) else ""
    return f"loading {load.name} {load.progress:.0%}{left}"


def _load_of(running: Running, model: str) -> LoadingModel | None:
    name = _stored_name(model)
    return next((loading for loading in running.loading if loading.name.lower() == name), None)


def _stored_name(model: str) -> str:
    """As `/api/ps` spells it, but for the letters' case."""
    from ..names import ModelName, split_source

    try:
        return ModelName.parse(split_source(model)[0]).display.lower()
    except LlameroError:
        return model.lower()

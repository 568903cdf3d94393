"""Loads and unloads, counted on their way from the scheduler to the machine; what to load is decided elsewhere.

It stands between the scheduler and its `Effects` and changes nothing that passes. Source: scheduler §7.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..engines import Engine, MemoryUse, Progress
from ..errors import LlameroError, OutOfMemory
from ..scheduler.loop import Effects
from ..scheduler.plan import Machine, Wanted
from ..scheduler.pool import Slot
from ..scheduler.views import Snapshot
from .metrics import OTHER, Metrics


class CountedEffects:
    """`snapshot` is the scheduler's: it knows the names of models, and who waits for the room of another.

    `is_stopping` tells whether the server goes, and its engines with it.
    """

    def __init__(
        self,
        effects: Effects,
        metrics: Metrics,
        snapshot: Callable[[], Snapshot],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._effects = effects
        self._metrics = metrics
        self._snapshot = snapshot
        self._is_stopping = is_stopping
        self._loaded: dict[Engine, tuple[str, str]] = {}
        """The name and the key of what each engine holds."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        name, result, began_s = self._name_of(wanted), "cancelled", time.monotonic()
        try:
            engine = await self._effects.start(wanted, progress)
            result = "ok"
        except OutOfMemory:
            result = "out_of_memory"
            raise
        except LlameroError:
            result = "failed"
            raise
        finally:
            self._metrics.loaded(name, result, time.monotonic() - began_s)
        self._loaded[engine] = name, wanted.plan.key
        return engine

    async def stop(self, engine: Engine, idle: Sequence[Slot], save_s: float) -> None:
        name, key = self._loaded.pop(engine, (OTHER, ""))
        self._metrics.unloaded(name, self._reason(engine, key))
        await self._effects.stop(engine, idle, save_s)

    def _name_of(self, wanted: Wanted) -> str:
        loading = [view.model for view in self._snapshot().loading]
        found = (model.name.display for model in loading if str(model.weights_digest) == wanted.plan.key)
        return next(found, OTHER)

    def _reason(self, engine: Engine, key: str) -> str:
        """1. The server stops.
        2. It had ended by itself.
        3. Somebody waits for other models: it makes room.
        4. Somebody waits for its own model: it comes back with other settings.
        5. Its keep-alive is over, or it was told to go.
        """
        if self._is_stopping():  # 1
            return "stopping"
        if not engine.alive:  # 2
            return "died"
        awaited = {str(view.model.weights_digest) for view in self._snapshot().queue}
        if awaited - {key}:  # 3
            return "evicted"
        return "replaced" if awaited else "idle"  # 4, 5

    def work(self, engines: int) -> None:
        self._effects.work(engines)

    async def save(self, engine: Engine, slot: Slot) -> None:
        await self._effects.save(engine, slot)

    @property
    def measures(self) -> bool:
        return self._effects.measures

    async def measure(self, used: MemoryUse) -> None:
        await self._effects.measure(used)

    def machine(self, used: MemoryUse) -> Machine:
        return self._effects.machine(used)

    def now_ns(self) -> int:
        return self._effects.now_ns()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        return self._effects.call_later(delay_s, call)

"""The scheduler's hands on the real machine: engines, memory, clock. `loop.py` decides, this does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..engines import Engine, MemoryUse, Progress
from ..engines.devices import Gpu, read_memory
from ..engines.llamacpp import LlamaCpp, LlamaCppSettings
from .plan import Machine, Wanted

UNLIMITED = 1 << 62
"""What LLAMERO_SKIP_RAM_CHECK makes of the free memory."""


class LocalEffects:
    """Engines on this machine."""

    def __init__(self, settings: LlamaCppSettings, *, skip_ram_check: bool = False) -> None:
        self._settings = settings
        self._skip_ram_check = skip_ram_check
        self.gpus: tuple[Gpu, ...] = ()
        """Filled in by whoever probed them; none until then."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        return await LlamaCpp.start(wanted.plan, self._settings, progress)

    async def stop(self, engine: Engine) -> None:
        await engine.stop()

    def machine(self, used: MemoryUse) -> Machine:
        memory = read_memory()
        total = sum(gpu.total_bytes for gpu in self.gpus)
        free = sum(gpu.free_bytes for gpu in self.gpus)
        return Machine(
            ram_available_bytes=UNLIMITED if self._skip_ram_check else memory.available_bytes,
            ram_total_bytes=memory.total_bytes,
            gpu_total_bytes=total,
            gpu_free_bytes=max(0, min(free, total - used.vram_bytes)),
        )

    def now_ns(self) -> int:
        return time.time_ns()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(delay_s, call).cancel

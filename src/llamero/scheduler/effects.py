"""The scheduler's hands on the real machine: engines, memory, clock. `loop.py` decides, this does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ..engines import Engine, MemoryUse, Progress
from ..engines.devices import Gpu, read_memory
from ..engines.llamacpp import LlamaCpp, LlamaCppSettings
from ..errors import TemplateRefused
from .plan import Machine, Wanted

log = logging.getLogger(__name__)

UNLIMITED = 1 << 62
"""What LLAMERO_SKIP_RAM_CHECK makes of the free memory."""


class LocalEffects:
    """Engines on this machine."""

    def __init__(self, settings: LlamaCppSettings, *, skip_ram_check: bool = False) -> None:
        self._settings = settings
        self._skip_ram_check = skip_ram_check
        self.gpus: tuple[Gpu, ...] = ()
        """Filled in by whoever probed them; none until then."""
        self._refused: set[str] = set()
        """Keys of files whose own chat template the engine cannot use: loaded once more, they fail but once."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        """Load. A file whose own chat template the engine refuses gets the spare one (modelfile-templates §3.5)."""
        plan = wanted.plan
        if plan.spare_template and plan.key in self._refused:
            plan = replace(plan, chat_template=plan.spare_template)
        try:
            return await LlamaCpp.start(plan, self._settings, progress)
        except TemplateRefused as error:
            if plan.chat_template or not plan.spare_template:
                raise
            log.warning("the chat template in %s cannot be used, another takes its place: %s", plan.model.name, error)
            self._refused.add(plan.key)
        return await self.start(wanted, progress)

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

"""The scheduler's hands on the real machine: engines, memory, clock. `loop.py` decides, this does."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..engines import Engine, MemoryUse, Progress
from ..engines.devices import (
    NO_RULES,
    PROBE_TIMEOUT_S,
    Gpu,
    GpuRules,
    core_quota,
    physical_cores,
    probe_gpus,
    read_memory,
)
from ..engines.llamacpp import LlamaCppSettings
from ..engines.native import NativeEngines
from ..engines.neighbours import Neighbours
from ..engines.serving import Serving
from ..engines.waits import Waits
from ..errors import LoadFailed, OutOfMemory, TemplateRefused
from . import placement
from .plan import Machine, Wanted
from .pool import Slot
from .prompt_cache import PromptCache

log = logging.getLogger(__name__)

UNLIMITED = 1 << 62
"""What LLAMERO_SKIP_RAM_CHECK makes of the free memory."""

HINDERED = 0.3
"""Of the time in which a thread of an engine wants to run, waiting for a core: alone it is a tenth, beside one busy
process per core it is a half."""

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri", "/dev/dxg")
"""Where Linux shows the driver of a GPU."""

MEASURE_TIMEOUT_S = 3.0
"""Before a load: somebody waits."""
RETURN_S = 5.0
RETURN_PAUSE_S = 0.25
RETURN_SHARE = 0.75
"""A driver gives memory back some time after a process has ended: so much of it is awaited, so long at most."""


class LocalEffects:
    """Engines on this machine."""

    def __init__(
        self,
        settings: LlamaCppSettings,
        natives: NativeEngines,
        prompts: PromptCache,
        *,
        skip_ram_check: bool = False,
        gpu_rules: GpuRules = NO_RULES,
    ) -> None:
        self.serving = Serving(replace(settings, slot_folder=prompts.engine_folder), natives)
        self.prompts = prompts
        self._skip_ram_check = skip_ram_check
        self.gpus: tuple[Gpu, ...] = ()
        """As they were when they were last asked; none until `find_gpus`."""
        self._looking: asyncio.Event | None = None
        """Set when the first look at the GPUs is over; None where nobody has to wait for one."""
        self._gpu_rules = gpu_rules
        self._env = settings.env
        self._others: dict[str, int] = {}
        """What was taken on each card by others than us."""
        self._returning: Counter[str] = Counter()
        """What engines had on each card that have ended since."""
        self._cores = physical_cores()
        self._is_confined = _is_confined()
        self._engines: set[Engine] = set()
        self.neighbours = Neighbours(lambda: [engine.pid for engine in self._engines if engine.alive])
        self._waits = Waits()
        self._at_work = 0
        self._refused: set[str] = set()
        """Keys of files whose own chat template the engine cannot use: loaded once more, they fail but once."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        """Load. A file whose own chat template the engine refuses gets the spare one (modelfile-templates §3.5), and a
        model that does not load with its draft model does without."""
        plan = wanted.plan
        if plan.spare_template and plan.key in self._refused:
            plan = replace(plan, chat_template=plan.spare_template)
        try:
            engine = await self.serving.start(plan, progress)
            self._engines.add(engine)
            return engine
        except TemplateRefused as error:
            if plan.chat_template or not plan.spare_template:
                raise
            log.warning("the chat template in %s cannot be used, another takes its place: %s", plan.model.name, error)
            self._refused.add(plan.key)
        except LoadFailed as error:
            if not plan.drafts or isinstance(error, OutOfMemory):
                raise
            log.warning("%s is loaded again without its draft model: %s", plan.model.name, error)
            wanted = replace(wanted, plan=wanted.plan.undrafted)
        return await self.start(wanted, progress)

    async def stop(self, engine: Engine, idle: Sequence[Slot], save_s: float) -> None:
        try:
            await self.prompts.save_all(engine, idle, save_s)
        finally:  # whatever goes wrong with a prompt, no process is left behind
            await engine.stop()
        self._engines.discard(engine)
        self._waits.forget(engine.pid)
        self._returning.update(dict(engine.memory.gpus))

    async def save(self, engine: Engine, slot: Slot) -> None:
        await self.prompts.save(engine, slot)

    def work(self, engines: int) -> None:
        self._at_work = engines
        if engines > 1:
            for engine in self._engines:
                engine.crowd(True)

    async def watch(self) -> None:
        """Look out for who else is busy on our cores, until cancelled, and tell the engines."""
        await self.neighbours.watch(self._tell_engines)

    def _tell_engines(self) -> None:
        """1. An engine that must wait for cores shall not wait for itself as well.
        2. It goes on as it was while others are about: they may be in its way as soon as it works again.
        3. Else it has the cores to itself.
        """
        for engine in self._engines:
            if self._waits.share(engine.pid) >= HINDERED or self._at_work > 1:  # 1
                engine.crowd(True)
            elif not self.neighbours.are_busy:  # 2, 3
                engine.crowd(False)

    async def find_gpus(self) -> None:
        """Fill in `gpus`. Takes seconds where there are many; whoever wants to load meanwhile waits for them, where
        there may be any: a model that came too early would stay on the CPU."""
        self._looking = asyncio.Event() if _may_have_gpus() else None
        try:
            self.gpus = await self._probe()
        finally:
            if self._looking is not None:
                self._looking.set()
                self._looking = None

    @property
    def measures(self) -> bool:
        """Whether there is anything that only measuring tells. Apple's GPUs have what main memory has."""
        return self._looking is not None or any(gpu.library != "Metal" for gpu in self.gpus)

    async def measure(self, used: MemoryUse) -> None:
        """Ask the cards what is free, given what our engines use now; old figures stay where they do not answer.

        1. They are being looked for at this moment.
        2. While one of our engines runs, what they use tells enough, unless one has just ended.
        3. What that one had must come back first.
        """
        if self._looking is not None:  # 1
            await self._looking.wait()
            return
        ours = dict(used.gpus)
        if ours and not self._returning:  # 2
            return
        until_s = time.monotonic() + RETURN_S
        while found := await self._probe(MEASURE_TIMEOUT_S):
            if time.monotonic() >= until_s or all(self._is_back(gpu, ours) for gpu in found):  # 3
                break
            await asyncio.sleep(RETURN_PAUSE_S)
        else:
            log.warning("the GPUs do not answer: what was free on them before is gone by")
        self._returning.clear()
        by_name = {gpu.name: gpu for gpu in found}
        self.gpus = tuple(by_name.get(gpu.name, gpu) for gpu in self.gpus)
        self._others = {gpu.name: gpu.total_bytes - gpu.free_bytes - ours.get(gpu.name, 0) for gpu in self.gpus}

    def _is_back(self, gpu: Gpu, ours: dict[str, int]) -> bool:
        if gpu.is_integrated or gpu.name not in self._returning:
            return True
        expected = gpu.total_bytes - self._others.get(gpu.name, 0) - ours.get(gpu.name, 0)
        return gpu.free_bytes >= expected - (1 - RETURN_SHARE) * self._returning[gpu.name]

    async def _probe(self, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[Gpu, ...]:
        return await probe_gpus(self._env, self.serving.chosen().program, self._gpu_rules, timeout_s=timeout_s)

    def machine(self, used: MemoryUse) -> Machine:
        memory = read_memory()
        gpus = placement.available(
            self.gpus,
            dict(used.gpus),
            overhead_bytes=self._gpu_rules.overhead_bytes,
            ram_available_bytes=memory.available_bytes,
        )
        return Machine(
            ram_available_bytes=UNLIMITED if self._skip_ram_check else memory.available_bytes,
            ram_total_bytes=memory.total_bytes,
            cores=self._cores,
            is_confined=self._is_confined,
            busy_cores=self.neighbours.busy_cores,
            gpus=gpus,
            mapped_bytes=used.mapped_bytes,
            system=sys.platform,
        )

    def now_ns(self) -> int:
        return time.time_ns()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(delay_s, call).cancel


def _may_have_gpus() -> bool:
    return sys.platform != "linux" or any(map(os.path.exists, GPU_DRIVERS))


def _is_confined() -> bool:
    """Whether we may use only some of the cores that there are, as in a container or by `taskset`."""
    there_are = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there_are
    return min(usable, core_quota()) < there_are

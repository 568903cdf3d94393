"""Loads and unloads as they are counted: the real scheduler over engines that only count as some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llamero.durations import MINUTE
from llamero.engines import MemoryUse
from llamero.errors import LlameroError, LoadFailed, OutOfMemory
from llamero.options import merge_options
from llamero.scheduler.loop import Limits, Scheduler
from llamero.scheduler.plan import Defaults, want
from llamero.server.loads import CountedEffects
from llamero.server.metrics import Metrics, Scene
from tests.scheduler.world import TURNS, FakeEffects, facts


@dataclass
class Name:
    display: str


@dataclass
class Model:
    """As much of one as is asked for."""

    weights_digest: str

    @property
    def name(self) -> Name:
        return Name(f"{self.weights_digest}:latest")


@dataclass
class World:
    effects: FakeEffects
    scheduler: Scheduler
    metrics: Metrics
    is_stopping: bool = False

    async def use(self, name: str, **options: int) -> LlameroError | None:
        """A request from its beginning to its end. Returns what went wrong."""
        machine = self.effects.machine(MemoryUse())
        wanted = want(facts(name), merge_options(options), None, machine, Defaults(slots=1))
        error = None
        try:
            async with self.scheduler.lease(wanted, Model(name), None):
                pass
        except LlameroError as raised:
            error = raised
        await self.settle()
        return error

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def counted(self, name: str, label: str) -> dict[tuple[str, str], float]:
        """A counter's values by model and one more label."""
        scene = Scene(
            snapshot=self.scheduler.snapshot(), connections=0, prompts=0, prompts_bytes=0, prompts_limit_bytes=0
        )
        page, _ = self.metrics.render(scene, "")
        families = {family.name: family for family in text_string_to_metric_families(page.decode())}
        return {
            (sample.labels["model"], sample.labels[label]): sample.value
            for sample in families[f"llamero_{name}"].samples
        }

    @property
    def loads(self) -> dict[tuple[str, str], float]:
        return self.counted("model_loads", "result")

    @property
    def unloads(self) -> dict[tuple[str, str], float]:
        return self.counted("model_unloads", "reason")


@asynccontextmanager
async def opened(max_loaded: int = 3) -> AsyncIterator[World]:
    limits = Limits(max_loaded=lambda: max_loaded, max_queue=9, max_waiting=9, keep_alive_ns=5 * MINUTE)
    effects, metrics = FakeEffects(), Metrics()
    counted = CountedEffects(effects, metrics, lambda: world.scheduler.snapshot(), lambda: world.is_stopping)
    world = World(effects, Scheduler(counted, limits), metrics)
    world.scheduler.open()
    yield world
    await world.scheduler.close(0)


async def test_a_load_is_counted_by_the_name_of_its_model() -> None:
    async with opened() as world:
        assert await world.use("a") is None
        assert await world.use("a") is None
        assert world.loads == {("a:latest", "ok"): 1}
        assert world.unloads == {}


@pytest.mark.parametrize(
    ("error", "result"), [(LoadFailed("no"), "failed"), (OutOfMemory("too large"), "out_of_memory")]
)
async def test_loads_that_fail(error: LlameroError, result: str) -> None:
    async with opened() as world:
        world.effects.hold_loads = True
        asked = asyncio.create_task(world.use("a"))
        await world.settle()
        world.effects.fail_load(error)
        assert await asked is error
        assert world.loads == {("a:latest", result): 1}


async def test_a_model_that_makes_room_was_evicted() -> None:
    async with opened(max_loaded=1) as world:
        await world.use("a")
        await world.use("b")
        assert world.unloads == {("a:latest", "evicted"): 1}


async def test_a_model_that_comes_back_with_other_settings_was_replaced() -> None:
    async with opened() as world:
        await world.use("a")
        await world.use("a", num_ctx=8192)
        assert world.unloads == {("a:latest", "replaced"): 1}
        assert world.loads == {("a:latest", "ok"): 2}


async def test_a_model_that_nobody_needs_any_more_was_idle() -> None:
    async with opened() as world:
        await world.use("a")
        await world.use("b")
        world.effects.pass_time(6 * 60)
        await world.settle()
        assert world.unloads == {("a:latest", "idle"): 1, ("b:latest", "idle"): 1}


async def test_an_engine_that_ended_by_itself_died() -> None:
    async with opened() as world:
        await world.use("a")
        world.effects.engines[0].die()
        await world.settle()
        assert world.unloads == {("a:latest", "died"): 1}


async def test_the_end_of_the_server_is_no_eviction() -> None:
    async with opened() as world:
        await world.use("a")
        world.is_stopping = True
    assert world.unloads == {("a:latest", "stopping"): 1}

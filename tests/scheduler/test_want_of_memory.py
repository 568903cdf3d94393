"""Loads that run out of memory, with a program in the engine's place that says so (scheduler §11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.durations import MINUTE
from llamero.engines import MemoryUse
from llamero.engines.devices import Gpu
from llamero.engines.native import NativeEngines
from llamero.errors import EngineError, OutOfMemory, RanOutOfMemory
from llamero.options import merge_options
from llamero.scheduler.effects import LocalEffects
from llamero.scheduler.facts import ModelFacts
from llamero.scheduler.loop import Limits, Scheduler
from llamero.scheduler.plan import Defaults, want
from llamero.scheduler.prompt_cache import PromptCache
from llamero.scheduler.runner import Lease
from llamero.store.prefixes import Prefixes
from tests.engines.starting import eventually, fake_settings
from tests.fake_llama_server import read_record

GIB = 2**30
CARD = Gpu("CUDA0", "a card", 64 * GIB, 60 * GIB, id="0")


class Machine:
    """A scheduler on a machine with one GPU, whose engine is scripted."""

    def __init__(self, folder: Path, script: dict[str, Any]) -> None:
        self.folder = folder
        model = folder / "model.gguf"
        model.write_bytes(b"GGUF")
        self.facts = ModelFacts(key="a", path=model, size_bytes=GIB, train_ctx_tokens=262_144)
        prompts = PromptCache(Prefixes(folder / "prefixes", 0))
        self.effects = LocalEffects(fake_settings(folder, script), NativeEngines(folder / "home"), prompts)
        self.effects.gpus = (CARD,)
        limits = Limits(max_loaded=lambda: 3, max_queue=9, max_waiting=9, keep_alive_ns=5 * MINUTE)
        self.scheduler = Scheduler(self.effects, limits)

    async def load(self, name: str = "a", *, projectors: tuple[Path, ...] = (), **options: Any) -> int:
        """Returns the window of the engine that was loaded in the end."""
        async with self.lease(name, projectors=projectors, **options) as lease:
            return lease.engine.plan.ctx_tokens

    def lease(
        self, name: str, *, projectors: tuple[Path, ...] = (), **options: Any
    ) -> AbstractAsyncContextManager[Lease]:
        model = replace(self.facts, key=name, projectors=projectors)
        wanted = want(model, merge_options(options), None, self.effects.machine(MemoryUse()), Defaults(slots=1))
        return self.scheduler.lease(wanted, name, None)

    @property
    def starts(self) -> list[list[str]]:
        return read_record(self.folder, "argv")


@asynccontextmanager
async def machine(folder: Path, **script: Any) -> AsyncIterator[Machine]:
    found = Machine(folder, script)
    found.scheduler.open()
    try:
        yield found
    finally:
        await found.scheduler.close(0)


async def test_r46_with_less_context_it_fits(tmp_path: Path) -> None:
    async with machine(tmp_path, fits=["-c 32768"]) as world:
        assert await world.load() == 32_768
        assert [argv[argv.index("-c") + 1] for argv in world.starts] == ["262144", "32768"]


async def test_r46_a_second_failure_is_the_answer(tmp_path: Path) -> None:
    async with machine(tmp_path, fits=["-c 4096"]) as world:
        with pytest.raises(OutOfMemory, match="cudaMalloc failed: out of memory") as caught:
            await world.load()
        assert caught.value.status == 500
        assert len(world.starts) == 2


async def test_r49_with_the_projector_on_the_cpu_it_fits(tmp_path: Path) -> None:
    async with machine(tmp_path, fits=["--no-mmproj-offload"]) as world:
        assert await world.load(projectors=(tmp_path / "eyes",), num_ctx=4096) == 4096
        assert ["--no-mmproj-offload" in argv for argv in world.starts] == [False, True]


async def test_r47_what_does_not_fit_beside_another_is_tried_alone(tmp_path: Path) -> None:
    """The first has flags that let it fit. The second has not: alone it does not fit either."""
    async with machine(tmp_path, fits=["-t 7"]) as world:
        await world.load("a", num_ctx=4096, num_thread=7)
        with pytest.raises(OutOfMemory):
            await world.load("b", num_ctx=4096)
        assert ["-t" in argv for argv in world.starts] == [True, False, False]
        assert world.scheduler.snapshot().loaded == ()


async def test_other_failures_are_told_at_once(tmp_path: Path) -> None:
    async with machine(tmp_path, prints=["error loading model: bad magic"], dies=1) as world:
        with pytest.raises(EngineError, match="bad magic"):
            await world.load()
        assert len(world.starts) == 1


async def test_r52_an_answer_that_runs_out_of_memory_ends_all_engines(tmp_path: Path) -> None:
    steps = [{"print": "ggml_cuda: cudaMalloc failed: out of memory"}, {"die": 1}]
    async with machine(tmp_path, replies={"/tokenize": steps}) as world:
        await world.load("b", num_ctx=4096)
        with pytest.raises(RanOutOfMemory, match="out of memory"):
            async with world.lease("a", num_ctx=4096) as lease:
                await lease.engine.wire.tokenize("hi")
        await eventually(lambda: world.scheduler.idle)

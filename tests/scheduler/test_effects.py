"""The scheduler's view of this machine: what is free, given what our own engines take."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import llamero.scheduler.effects
from llamero.engines import Engine, MemoryUse
from llamero.engines.devices import Gpu, GpuRules, read_memory
from llamero.engines.llamacpp import LlamaCppSettings
from llamero.engines.native import NativeEngines
from llamero.scheduler.effects import UNLIMITED, LocalEffects
from llamero.scheduler.prompt_cache import PromptCache
from llamero.store.prefixes import Prefixes

GIB = 2**30
GPU = Gpu("CUDA0", "a card", 24 * GIB, 23 * GIB)


def effects(*gpus: Gpu, **more: Any) -> LocalEffects:
    nothing_saved = PromptCache(Prefixes(Path("/models"), 0))
    local = LocalEffects(LlamaCppSettings(env={}), NativeEngines(Path("/home")), nothing_saved, **more)
    local.gpus = gpus
    return local


def test_main_memory_is_what_the_system_says() -> None:
    machine = effects().machine(MemoryUse())
    assert machine.ram_total_bytes == read_memory().total_bytes
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert not machine.has_gpu


def test_the_memory_check_can_be_switched_off() -> None:
    assert effects(skip_ram_check=True).machine(MemoryUse()).ram_available_bytes == UNLIMITED


USED = MemoryUse(30 * GIB, 20 * GIB, mapped_bytes=GIB, gpus=(("CUDA0", 9 * GIB), ("CUDA1", 11 * GIB)))


def test_r34_what_our_engines_use_is_not_free() -> None:
    """Whatever a card reported before they were loaded."""
    machine = effects(GPU, replace(GPU, name="CUDA1"), gpu_rules=GpuRules(overhead_bytes=GIB)).machine(USED)
    assert [gpu.free_bytes for gpu in machine.gpus] == [(24 - 9 - 1) * GIB, (24 - 11 - 1) * GIB]
    assert (machine.gpu_total_bytes, machine.gpu_free_bytes) == (46 * GIB, 26 * GIB)
    assert machine.mapped_bytes == GIB
    assert machine.system == sys.platform


def test_a_process_that_may_use_some_cores_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert effects().machine(MemoryUse()).is_confined == (len(os.sched_getaffinity(0)) < (os.cpu_count() or 1))
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    assert effects().machine(MemoryUse()).is_confined


# --- measuring before a load ---


class Cards:
    """In the place of the probe: what it finds each time."""

    def __init__(self, *free_gib: float) -> None:
        self.free_gib = list(free_gib)

    async def __call__(self, env: object, program: str, rules: GpuRules, *, timeout_s: float) -> tuple[Gpu, ...]:
        free_gib = self.free_gib.pop(0)
        return (replace(GPU, free_bytes=int(free_gib * GIB)),) if free_gib else ()


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cards]:
    def probes(*free_gib: float) -> Cards:
        cards = Cards(*free_gib)
        monkeypatch.setattr(llamero.scheduler.effects, "probe_gpus", cards)
        monkeypatch.setattr(llamero.scheduler.effects, "RETURN_PAUSE_S", 0.001)
        return cards

    return probes


class Ended:
    """An engine that is about to end."""

    pid = 0
    memory = MemoryUse(GIB, GIB, gpus=(("CUDA0", 8 * GIB),))

    async def stop(self) -> None:
        pass


async def test_a_prompt_that_cannot_be_saved_leaves_no_process_behind() -> None:
    """Whatever goes wrong: nobody else would end it before the server does."""
    ended: list[str] = []

    class Last(Ended):
        async def stop(self) -> None:
            ended.append("stopped")

    class Broken(PromptCache):
        async def save_all(self, *args: object) -> None:
            raise MemoryError

    local = effects()
    local.prompts = Broken(Prefixes(Path("/models"), 0))
    with pytest.raises(MemoryError):
        await local.stop(cast(Engine, Last()), (), 0)
    assert ended == ["stopped"]


async def end(local: LocalEffects) -> None:
    await local.stop(cast(Engine, Ended()), (), 0)


async def test_before_a_load_the_cards_are_asked_again(probes: Callable[..., Cards]) -> None:
    probes(20, 11)
    local = effects()
    await local.find_gpus()
    assert local.measures
    await local.measure(MemoryUse())
    assert local.gpus[0].free_bytes == 11 * GIB


@pytest.mark.parametrize("driver", [True, False])
async def test_whoever_comes_before_the_cards_are_known_waits_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: bool
) -> None:
    """Right behind the start of a server. Where there is no driver, nobody waits for a look at nothing."""
    answer = asyncio.Event()

    async def probe(*args: object, **more: object) -> tuple[Gpu, ...]:
        await answer.wait()
        return (GPU,) if driver else ()

    monkeypatch.setattr(llamero.scheduler.effects, "probe_gpus", probe)
    monkeypatch.setattr(llamero.scheduler.effects, "GPU_DRIVERS", (str(tmp_path if driver else tmp_path / "none"),))
    monkeypatch.setattr(sys, "platform", "linux")
    local = effects()
    looking = asyncio.create_task(local.find_gpus())
    await asyncio.sleep(0)
    assert local.measures is driver
    if driver:
        measuring = asyncio.create_task(local.measure(MemoryUse()))
        await asyncio.sleep(0)
        assert not measuring.done()
        answer.set()
        await asyncio.wait_for(measuring, 1)
        assert local.machine(MemoryUse()).gpus[0].free_bytes == GPU.free_bytes
    answer.set()
    await looking
    assert local.measures is driver


async def test_a_look_that_fails_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    async def probe(*args: object, **more: object) -> tuple[Gpu, ...]:
        await over.wait()
        raise OSError("no driver")

    monkeypatch.setattr(llamero.scheduler.effects, "probe_gpus", probe)
    monkeypatch.setattr(llamero.scheduler.effects, "GPU_DRIVERS", (os.sep,))
    local = effects()
    looking = asyncio.create_task(local.find_gpus())
    await asyncio.sleep(0)
    measuring = asyncio.create_task(local.measure(MemoryUse()))
    await asyncio.sleep(0)
    over.set()
    with pytest.raises(OSError, match="no driver"):
        await looking
    await asyncio.wait_for(measuring, 1)
    assert not local.measures


async def test_while_an_engine_runs_what_it_uses_tells_enough(probes: Callable[..., Cards]) -> None:
    cards = probes(20)
    local = effects()
    await local.find_gpus()
    await local.measure(MemoryUse(gpus=(("CUDA0", 8 * GIB),)))
    assert not cards.free_gib, "nobody asked"


@pytest.mark.parametrize(
    ("used_gib", "answers"),
    [
        pytest.param(0, [22, 15, 19.9, 20], id="three quarters of 8 GiB"),
        pytest.param(5, [22, 10, 14.9, 15], id="beside another of ours"),
    ],
)
async def test_what_an_engine_had_comes_back_before_the_next_load(
    probes: Callable[..., Cards], used_gib: int, answers: list[float]
) -> None:
    """Scheduler §6: others had 2 GiB of the card all the time."""
    cards = probes(*answers)
    local = effects(GPU)
    await local.measure(MemoryUse())
    await end(local)
    await local.measure(MemoryUse(gpus=(("CUDA0", used_gib * GIB),) if used_gib else ()))
    assert not cards.free_gib
    assert local.gpus[0].free_bytes == answers[-1] * GIB


async def test_what_does_not_come_back_is_not_awaited_for_ever(
    probes: Callable[..., Cards], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamero.scheduler.effects, "RETURN_S", 0.0)
    probes(22, 10)
    local = effects(GPU)
    await local.measure(MemoryUse())
    await end(local)
    await local.measure(MemoryUse())
    assert local.gpus[0].free_bytes == 10 * GIB


async def test_cards_that_do_not_answer_keep_their_old_figures(
    probes: Callable[..., Cards], caplog: pytest.LogCaptureFixture
) -> None:
    probes(0)
    local = effects(GPU)
    await local.measure(MemoryUse())
    assert local.gpus == (GPU,)
    assert "do not answer" in caplog.text


def test_there_is_nothing_to_measure_without_cards_or_on_a_mac() -> None:
    assert not effects().measures
    assert not effects(Gpu("MTL0", "Apple M3", GIB, GIB, is_integrated=True)).measures

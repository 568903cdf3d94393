"""The scheduler's view of this machine: what is free, given what our own engines take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamero.engines import MemoryUse
from llamero.engines.devices import Gpu, read_memory
from llamero.engines.llamacpp import LlamaCppSettings
from llamero.scheduler.effects import UNLIMITED, LocalEffects

GIB = 2**30
GPU = Gpu("CUDA0", "a card", 24 * GIB, 23 * GIB)


def effects(*gpus: Gpu, skip_ram_check: bool = False) -> LocalEffects:
    local = LocalEffects(LlamaCppSettings(env={}), skip_ram_check=skip_ram_check)
    local.gpus = gpus
    return local


def test_main_memory_is_what_the_system_says() -> None:
    machine = effects().machine(MemoryUse())
    assert machine.ram_total_bytes == read_memory().total_bytes
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert not machine.has_gpu


def test_the_memory_check_can_be_switched_off() -> None:
    assert effects(skip_ram_check=True).machine(MemoryUse()).ram_available_bytes == UNLIMITED


@pytest.mark.parametrize(
    ("used_gib", "free_gib"),
    [
        pytest.param(0, 23, id="as reported"),
        pytest.param(10, 14, id="without what our engines take"),
        pytest.param(30, 0, id="never negative"),
    ],
)
def test_free_gpu_memory(used_gib: int, free_gib: int) -> None:
    """Partly R-34: all cards count together, and what others take is known from the start only."""
    machine = effects(GPU).machine(MemoryUse(used_gib * GIB, used_gib * GIB))
    assert (machine.gpu_total_bytes, machine.gpu_free_bytes) == (24 * GIB, free_gib * GIB)


def test_cards_count_together() -> None:
    machine = effects(GPU, replace(GPU, name="CUDA1")).machine(MemoryUse())
    assert (machine.gpu_total_bytes, machine.gpu_free_bytes) == (48 * GIB, 46 * GIB)

"""What a loaded engine takes, before it is loaded: against the engine's own report of real models (scheduler §8.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.config import KV_CACHE_TYPES
from llamero.engines import AdapterFile, LoadPlan, Placement
from llamero.scheduler.estimate import KV_TYPE_BYTES, estimate, token_bytes
from llamero.scheduler.facts import ModelFacts
from llamero.scheduler.shape import Shape
from tests.scheduler.loads import SETTINGS, TINY, TOLERANCE, Setting, load, stored_model, tiny_model
from tests.scheduler.world import facts

MIB = 2**20
SETTING = {setting.name: setting for setting in SETTINGS}

BY_MODEL = {
    "gemma2": "batch 64",
    "gemma3": "4 slots",
    "llama": "ctx 2048",
    "mistral": "mapped",
    "mixtral": "no flash attention",
    "phi3": "4 slots",
    "qwen2": "ctx 300",
    "qwen2-sharded": "batch 2048",
    "qwen3": "q8_0 cache",
    "qwen3moe": "f32 cache",
    "vision": "automatic slots",
}
"""Each model and each setting once, in what runs every time."""


def test_every_tiny_model_and_every_setting_is_tried() -> None:
    assert {*TINY, "vision"} == set(BY_MODEL)
    assert set(SETTING) == set(BY_MODEL.values())


async def close(model: ModelFacts, setting: Setting) -> None:
    found = await load(model, setting)
    assert abs(found.error) <= TOLERANCE, found


@pytest.mark.engine
@pytest.mark.parametrize(("name", "setting"), BY_MODEL.items())
async def test_r33_the_estimate_of_tiny_models(tmp_path: Path, name: str, setting: str) -> None:
    await close(tiny_model(name, tmp_path), SETTING[setting])


@pytest.mark.engine
@pytest.mark.parametrize("name", ["smollm2:135m", "all-minilm:22m"])
@pytest.mark.parametrize("setting", ["q8_0 cache", "automatic slots"])
async def test_r33_the_estimate_of_published_models(starter_models: Path, name: str, setting: str) -> None:
    await close(stored_model(name, starter_models), SETTING[setting])


@pytest.mark.engine
@pytest.mark.heavy
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("name", [*TINY, "vision", "smollm2:135m", "all-minilm:22m"])
async def test_r33_every_model_under_every_setting(
    tmp_path: Path, starter_models: Path, name: str, setting: Setting
) -> None:
    await close(stored_model(name, starter_models) if ":" in name else tiny_model(name, tmp_path), setting)


# --- what it is made of ---

SHAPE = Shape(kv=1000, window_kv=100, window_tokens=512, state=7, heads=8, width=64, attention=640, feed_forward=900)
MODEL = facts(
    "m", shape=SHAPE, projector_bytes=3 * MIB, adapter_bytes=MIB, extra_adapters=(AdapterFile(Path("/a"), 5),)
)
PLAN = LoadPlan(key="m", model=Path("/m"), ctx_tokens=4096, batch_tokens=512, cache_ram_mib=9)


@pytest.mark.parametrize(
    ("plan", "cells", "window_cells"),
    [
        pytest.param({}, 4096, 1024, id="a window and a batch"),
        pytest.param({"batch_tokens": 600}, 4096, 1280, id="rounded up"),
        pytest.param({"slots": 3}, 3 * 4096, 3 * 1024, id="each slot has its own"),
        pytest.param({"slots": 4, "pool_tokens": 8192}, 8192, 4 * 512 + 512, id="a pool has a window for each slot"),
        pytest.param({"slots": 32, "pool_tokens": 8192}, 8192, 8192, id="no more than the pool"),
        pytest.param({"ctx_tokens": 300}, 512, 512, id="a context below the window"),
    ],
)
def test_the_cache_by_layer_and_pool(plan: dict[str, Any], cells: int, window_cells: int) -> None:
    assert estimate(MODEL, replace(PLAN, **plan)).kv == 2 * (1000 * cells + 100 * window_cells)


@pytest.mark.parametrize(("kv_type", "share"), [("", 1), ("f32", 2), ("bf16", 1), ("q8_0", 17 / 32), ("q4_0", 9 / 32)])
def test_the_cache_by_type(kv_type: str, share: float) -> None:
    assert estimate(MODEL, replace(PLAN, kv_type=kv_type)).kv == share * estimate(MODEL, PLAN).kv
    assert token_bytes(MODEL, kv_type) == 2000 * share


def test_every_type_of_cache_has_a_price() -> None:
    assert set(KV_CACHE_TYPES) == set(KV_TYPE_BYTES)


def test_what_the_engine_gives_no_account_of_counts_besides() -> None:
    """Projector and adapters, the prompts that it may keep in memory (scheduler §10.1), the process itself."""
    found = estimate(MODEL, PLAN)
    assert found.state == 7 * 4
    assert found.extras == 4 * MIB + 5
    assert found.prompts == 9 * MIB
    assert found.total_bytes > found.reported_bytes + found.extras + found.prompts


@pytest.mark.parametrize(
    ("plan", "copies"),
    [
        pytest.param({"use_mmap": True}, 1, id="mapped"),
        pytest.param({"use_mmap": False}, 0, id="read"),
        pytest.param({"use_mmap": True, "placement": Placement(gpus=("CUDA0",))}, 0, id="for a GPU"),
    ],
)
def test_weights_that_are_mapped_for_a_cpu_are_copied_in_part(plan: dict[str, Any], copies: int) -> None:
    shape = Shape(weights_bytes=100, repacked_bytes=60)
    assert estimate(facts("m", shape=shape), replace(PLAN, **plan)).weights == 100 + 60 * copies

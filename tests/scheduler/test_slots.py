"""How many requests an engine answers at a time, and the cache that they share: scheduler §9.3 and §9.5 as tables."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.scheduler.slots import Layout, automatic, fixed, pooling

MIB = 2**20
SMOLLM2: dict[str, Any] = {
    "family": "llama",
    "ctx_tokens": 4096,
    "token_bytes": 30 * 3 * 64 * 2 * 2,
    "weights_bytes": 98 * MIB,
    "free_bytes": 20 * 1024 * MIB,
    "cores": 2,
}
LARGE: dict[str, Any] = {**SMOLLM2, "token_bytes": 128 * 1024, "weights_bytes": 5 * 1024 * MIB}


@pytest.mark.parametrize(
    ("model", "changes", "slots", "windows"),
    [
        pytest.param(SMOLLM2, {}, 4, 3, id="a small model: what 288 MiB hold"),
        pytest.param(SMOLLM2, {"cores": 6}, 6, 3, id="a slot for each core"),
        pytest.param(SMOLLM2, {"cores": 64}, 8, 3, id="eight at most"),
        pytest.param(SMOLLM2, {"ctx_tokens": 512}, 4, 4, id="no more windows than slots"),
        pytest.param(SMOLLM2, {"ctx_tokens": 32_768}, 4, 1, id="one window always"),
        pytest.param(SMOLLM2, {"free_bytes": 400 * MIB}, 4, 1, id="a quarter of the memory left"),
        pytest.param(SMOLLM2, {"free_bytes": 0}, 4, 1, id="no memory left at all"),
        pytest.param(LARGE, {}, 4, 4, id="a large model: half of its weights"),
        pytest.param(LARGE, {"free_bytes": 9 * 1024 * MIB}, 4, 2, id="a large model and a quarter of the rest"),
        pytest.param(SMOLLM2, {"family": "qwen3next"}, 1, 1, id="families of one slot"),
    ],
)
def test_automatic_slots_and_their_pool(
    model: dict[str, Any], changes: dict[str, Any], slots: int, windows: int
) -> None:
    wishes = {**model, **changes}
    assert automatic(**wishes) == Layout(slots, windows * wishes["ctx_tokens"])


@pytest.mark.parametrize(
    ("family", "asked", "slots"),
    [("llama", 3, 3), ("llama", 1, 1), ("mllama", 3, 1)],
    ids=["as asked", "one", "R-25 a family of one slot"],
)
def test_r25_slots_that_were_asked_for(family: str, asked: int, slots: int) -> None:
    """Partly R-25: the flags are in test_plan.py."""
    assert fixed(family, asked=asked) == Layout(slots, 0)


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        pytest.param({}, Layout(32, 32 * 512), id="an encoder has no cache to overflow"),
        pytest.param({"is_causal": True}, Layout(32, 1024), id="else two batches"),
        pytest.param({"is_causal": True, "ctx_tokens": 8192, "batch_tokens": 2048}, Layout(32, 8192), id="or a window"),
        pytest.param({"is_ranker": True}, Layout(32, 32 * 512), id="a ranker without a cache"),
        pytest.param({"is_ranker": True, "is_causal": True}, Layout(1, 1024), id="a ranker with one"),
        pytest.param({"asked": 4}, Layout(1, 512), id="R-25 whatever was asked for"),
    ],
)
def test_r25_models_that_pool(changes: dict[str, Any], layout: Layout) -> None:
    """Partly R-25: see tests/server/test_embed_packed.py."""
    wishes: dict[str, Any] = {
        "is_causal": False,
        "is_ranker": False,
        "asked": 0,
        "ctx_tokens": 512,
        "batch_tokens": 512,
    }
    assert pooling(**(wishes | changes)) == layout

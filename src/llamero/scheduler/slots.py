"""How many requests one engine answers at a time, and how large the KV cache is that they share. Pure.

Source: scheduler §9.3, §9.5. Sizes are bytes, lengths are tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

SINGLE_SLOT_FAMILIES = frozenset(
    "mllama qwen3vl qwen3vlmoe qwen35 qwen35moe qwen3next lfm2 lfm2moe "
    "nemotron_h nemotron_h_moe nemotron_h_omni".split()
)

MIN_SLOTS, MAX_SLOTS = 4, 8
POOLING_SLOTS = 32
"""Texts that a model which pools reads in one batch."""

MEMORY_SHARE = 0.25
"""Of what is left behind the weights."""
QUICK_BYTES = 288 * 2**20
"""The cache is zeroed at the start, and whoever waits for a small model notices: 180 MiB take 0.09 s (bench/README.md).
With less there would be one window, and requests that do not say how long their answer may be would come one by one."""
WEIGHTS_SHARE = 0.5
"""A cache of half the weights' bytes takes little beside reading them."""


@dataclass(frozen=True, slots=True)
class Layout:
    slots: int
    pool_tokens: int
    """Of all slots together; 0: each has a window of its own."""


def fixed(family: str, *, asked: int) -> Layout:
    """As OLLAMA_NUM_PARALLEL says, where the model can do it."""
    return Layout(1 if family in SINGLE_SLOT_FAMILIES else max(1, asked), 0)


def pooling(*, is_causal: bool, is_ranker: bool, asked: int, ctx_tokens: int, batch_tokens: int) -> Layout:
    """Of a model that takes texts in as a whole: its slots are for the texts of a batch.

    The next batch is there when the engine has done one. What a ranker is sent at once has no bound, so it shares
    nothing where there is a cache that it could overflow.
    """
    slots = 1 if asked or (is_ranker and is_causal) else POOLING_SLOTS
    return Layout(slots, max(ctx_tokens, 2 * batch_tokens) if is_causal else ctx_tokens * slots)


def automatic(
    family: str, *, ctx_tokens: int, token_bytes: float, weights_bytes: int, free_bytes: int, cores: int
) -> Layout:
    """One pool for as many windows as load quickly and fit a quarter of the memory left, in a few slots.

    `token_bytes`: the KV cache of one token; `cores`: physical ones, or a number that stands for GPUs.
    """
    if family in SINGLE_SLOT_FAMILIES:
        return Layout(1, ctx_tokens)
    slots = min(MAX_SLOTS, max(MIN_SLOTS, cores))
    most_bytes = min(MEMORY_SHARE * max(0, free_bytes - weights_bytes), max(QUICK_BYTES, WEIGHTS_SHARE * weights_bytes))
    windows = int(most_bytes // (ctx_tokens * token_bytes)) if token_bytes else slots
    return Layout(slots, ctx_tokens * min(slots, max(1, windows)))

"""What a loaded engine takes, before it is loaded. Pure; sizes are bytes.

`estimate` follows the engine's own report; `predict` is the formula of the reference, whose thresholds decide what fits
beside others on GPUs. Source: scheduler §8.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..engines import AdapterFile, LoadPlan
from .facts import ModelFacts
from .shape import Shape

GIB = 2**30
F32_BYTES = 4
F16_BYTES = 2

KV_TYPE_BYTES: Mapping[str, float] = {
    # block bytes / block elements; the names are those of OLLAMA_KV_CACHE_TYPE
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}

KV_BLOCK = 32
KV_BLOCKED = frozenset(name for name in KV_TYPE_BYTES if "_" in name)
"""Types that come in blocks of so many elements."""

PROCESS_BYTES = 40 * 2**20
"""What an engine's process takes before it holds a model: interpreter, library, vocabulary tables."""

CELL_STEP = 256
"""The KV cache and each sliding window in it are rounded up to a multiple of so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of one loaded engine."""

    weights: int
    kv: int
    state: int
    """Of recurrent layers."""
    compute: int
    output: int
    """Scores of the next token."""
    extras: int = 0
    """Projectors and adapters."""
    drafter: int = 0
    """All of what guesses tokens, where that is a model."""
    prompts: int = 0
    """Old prompts that the engine may keep in memory, once it has seen so many."""

    @property
    def reported_bytes(self) -> int:
        """What the engine itself gives an account of when it has loaded (`engines/memory.py`)."""
        return self.weights + self.kv + self.state + self.compute + self.output + self.drafter

    @property
    def total_bytes(self) -> int:
        return self.reported_bytes + self.extras + self.prompts + PROCESS_BYTES


def estimate(facts: ModelFacts, plan: LoadPlan) -> Estimate:
    """Within a tenth of what the engine reports (`bench/estimate.py` shows the table)."""
    shape = facts.shape
    return Estimate(
        weights=(shape.weights_bytes or facts.size_bytes)
        + (shape.repacked_bytes if plan.use_mmap and not plan.placement.gpus else 0),
        kv=_kv_bytes(shape, plan),
        state=shape.state * plan.slots * F32_BYTES,
        compute=_compute_bytes(shape, plan),
        output=shape.vocabulary * plan.slots * F32_BYTES,
        extras=facts.projector_bytes + facts.adapter_bytes + size_of(facts.extra_adapters),
        drafter=_drafter_bytes(facts, plan),
        prompts=plan.cache_ram_mib * 2**20,
    )


def _drafter_bytes(facts: ModelFacts, plan: LoadPlan) -> int:
    """It reads what the model reads, into a cache as long, and scores one token of each slot at a time."""
    if facts.drafter is None or plan.draft_model is None:
        return 0
    shape, plan = facts.drafter.shape, replace(plan.undrafted, kv_type="")
    output = shape.vocabulary * plan.slots * F32_BYTES
    return shape.weights_bytes + _kv_bytes(shape, plan) + _compute_bytes(shape, plan) + output


def _kv_bytes(shape: Shape, plan: LoadPlan) -> int:
    elements = shape.kv * _cells(plan) + shape.window_kv * _window_cells(shape, plan)
    return int(elements * KV_TYPE_BYTES[plan.kv_type or "f16"])


def _cells(plan: LoadPlan) -> int:
    """Tokens that the whole cache has room for."""
    return _rounded(plan.total_ctx_tokens)


def _window_cells(shape: Shape, plan: LoadPlan) -> int:
    """The same for layers that see a window: each window and one batch, never more than the whole context."""
    if plan.is_unified:
        return _rounded(min(_cells(plan), shape.window_tokens * plan.slots + plan.batch_tokens))
    return _rounded(min(plan.ctx_tokens, shape.window_tokens + plan.batch_tokens)) * plan.slots


def _rounded(tokens: int) -> int:
    return -(-tokens // CELL_STEP) * CELL_STEP


def _compute_bytes(shape: Shape, plan: LoadPlan) -> int:
    """One batch on its way through the widest part of a layer: its activations, and what it may look at."""
    tokens = min(plan.batch_tokens, plan.total_ctx_tokens)
    seen = _cells(plan) if plan.is_unified else plan.ctx_tokens
    if not shape.is_causal:
        seen = tokens
    masks = seen + (min(seen, _window_cells(shape, plan)) if shape.window_kv else 0)
    is_flash = plan.flash_attention is not False
    scores = 0 if is_flash else seen * shape.heads  # of every token against all that it sees
    scored = plan.scored_tokens
    if plan.pools:
        scored = tokens if shape.is_causal else 0
    layer = tokens * max(shape.attention + scores, shape.feed_forward)
    end = tokens * 5 * shape.width + scored * shape.vocabulary
    return tokens * masks * (F16_BYTES if is_flash else F32_BYTES) + max(layer, end) * F32_BYTES


def token_bytes(facts: ModelFacts, kv_type: str) -> float:
    """What one more token takes of the KV cache. Sliding windows take no more, however long the context."""
    return facts.shape.kv * KV_TYPE_BYTES[kv_type or "f16"]


def predict(facts: ModelFacts, plan: LoadPlan) -> int:
    """The reference's estimate (scheduler §8.2): always priced as f16, without compute buffers."""
    head = facts.embedding_length // facts.heads if facts.heads else 0
    train = facts.train_ctx_tokens or plan.ctx_tokens
    ctx = min(plan.ctx_tokens, train)
    surcharge = 0
    if not facts.pools:
        ctx = ctx * plan.total_ctx_tokens // plan.ctx_tokens
        surcharge = {1024: 768 * 2**20, 2048: 2 * GIB}.get(plan.batch_tokens, 0)
    return facts.size_bytes + 2 * facts.layers * facts.kv_heads_min * head * ctx * 2 + surcharge


def size_of(adapters: Iterable[AdapterFile]) -> int:
    return sum(adapter.size_bytes for adapter in adapters)

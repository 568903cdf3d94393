"""The scheduler's arithmetic: what a request needs loaded, what that costs, and who must go for it. Pure.

It starts and stops nothing (`loop.py`) and measures nothing: machine figures come in as values. Source: scheduler §2,
§5, §7 to §9. Sizes are bytes, lengths are tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engines import AdapterFile, LoadPlan

MIN_CTX_TOKENS = 4
MIN_BATCH_TOKENS = 32
"""The engine aborts on a batch of one token, and anything below this only makes it slow."""
MIN_VISION_CTX_TOKENS = 2048
"""A picture alone takes hundreds of tokens."""

MAX_THREADS = 1024
"""More than any machine has cores; the engine would start as many as it is told."""
MAX_GPUS = 16
"""What llama.cpp is built for."""

MAX_EXTRA_ADAPTERS = 16
"""That one engine holds beside the model's own. A request may ask for no more; beyond, those asked for first go."""

GIB = 2**30
CTX_TIERS = ((47 * GIB, 262_144), (23 * GIB, 32_768))
DEFAULT_CTX_TOKENS = 4096

SINGLE_SLOT_FAMILIES = frozenset(
    "mllama qwen3vl qwen3vlmoe qwen35 qwen35moe qwen3next lfm2 lfm2moe "
    "nemotron_h nemotron_h_moe nemotron_h_omni".split()
)

CACHELESS_FAMILIES = frozenset(
    "bert jina-bert-v2 jina-bert-v3 nomic-bert nomic-bert-moe neo-bert eurobert modern-bert gemma-embedding".split()
)
"""Encoders: they look at all of a text at once, and the engine allocates no K/V cache for them."""

POOLING_SLOTS = 32
"""Texts that a model which pools reads in one batch (scheduler §9.5)."""

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

FIT_SHARE = 0.8
"""A further model is only loaded beside others when it takes no more than this share of the free GPU memory."""

PROCESS_BYTES = 40 * 2**20
"""What an engine's process takes before it holds a model: interpreter, library, vocabulary tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What planning needs to know about a model, taken from its manifest and GGUF header."""

    key: str
    path: Path
    size_bytes: int
    projectors: tuple[Path, ...] = ()
    projector_bytes: int = 0
    adapters: tuple[Path, ...] = ()
    adapter_bytes: int = 0
    extra_adapters: tuple[AdapterFile, ...] = ()
    """Of other models with these weights, for the request that is planned for."""
    family: str = ""
    families: tuple[str, ...] = ()
    train_ctx_tokens: int = 0
    """0: unknown."""
    layers: int = 0
    embedding_length: int = 0
    heads: int = 0
    """Most of any layer; 0: unknown."""
    kv_heads_min: int = 1
    """Fewest of any layer, 1 when unknown (scheduler §8.2)."""
    kv_heads_total: int = 0
    """Of all layers together."""
    key_length: int = 0
    """Elements of one head's key; 0: embedding_length / heads."""
    value_length: int = 0
    vocabulary: int = 0
    is_embedder: bool = False
    is_ranker: bool = False
    has_vision: bool = False
    chat_template: str = ""
    """Jinja for a file that has none that is of use; empty: the engine takes the file's own."""
    spare_template: str = ""
    """Jinja for when the engine refuses the file's own."""

    @property
    def pools(self) -> bool:
        """Whether it takes a text in as a whole and writes none."""
        return self.is_embedder or self.is_ranker


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to load on."""

    ram_available_bytes: int
    ram_total_bytes: int
    gpu_total_bytes: int = 0
    gpu_free_bytes: int = 0

    @property
    def has_gpu(self) -> bool:
        return self.gpu_total_bytes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The settings that shape a plan."""

    ctx_tokens: int = 0
    """OLLAMA_CONTEXT_LENGTH; 0: by GPU memory."""
    max_ctx_tokens: int = 0
    slots: int = 0
    kv_type: str = ""
    flash_attention: bool | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A load plan together with what in it was chosen by us, which never forces a reload."""

    plan: LoadPlan
    auto_ctx: bool
    auto_batch: bool
    auto_mmap: bool
    auto_gpu: bool
    estimate_bytes: int
    predicted_bytes: int
    """The reference's estimate, whose thresholds decide what fits beside others on GPUs."""
    partial_offload: bool = False
    """Whether the request itself sends only a part of the layers to the GPU."""
    takes_any: bool = False
    """Whether any engine with these weights will do: only its vocabulary is asked."""
    warnings: tuple[str, ...] = ()


def want(
    facts: ModelFacts, options: Mapping[str, Any], shift: bool | None, machine: Machine, defaults: Defaults
) -> Wanted:
    """The plan for one request. `options` are the effective ones (defaults, model, request)."""
    ctx, auto_ctx, warnings = _context(facts, options, machine, defaults)
    slots = _slots(facts, defaults, warnings)
    window = ctx if facts.pools else ctx * slots
    on_cpu = not machine.has_gpu or options["num_gpu"] == 0
    batch = options["num_batch"]
    batch_tokens = _clamp_batch(batch, window, warnings) if batch else _automatic_batch(facts, window)
    plan = LoadPlan(
        key=facts.key,
        model=facts.path,
        projectors=facts.projectors,
        adapters=facts.adapters,
        extra_adapters=facts.extra_adapters,
        ctx_tokens=ctx,
        slots=slots,
        pool_tokens=_pool(facts, ctx, slots, batch_tokens) if facts.pools else 0,
        batch_tokens=batch_tokens,
        gpu_layers=_clamp("num_gpu", options["num_gpu"], -1, facts.layers + 1, warnings),
        main_gpu=_main_gpu(options["main_gpu"], warnings),
        use_mmap=not on_cpu if options["use_mmap"] is None else options["use_mmap"],
        threads=_clamp("num_thread", options["num_thread"], 0, MAX_THREADS, warnings),
        embedding=facts.is_embedder,
        reranking=facts.is_ranker,
        kv_type=defaults.kv_type,
        flash_attention=defaults.flash_attention,
        context_shift=_shift(facts, shift),
        keep_tokens=max(0, min(ctx, options["num_keep"])),
        cache_ram_mib=_cache_ram_mib(facts, machine),
        chat_template=facts.chat_template,
        spare_template=facts.spare_template,
        fit=machine.has_gpu,
    )
    if options["draft_num_predict"]:
        warnings.append("draft_num_predict has no effect: draft models are not supported yet")
    return Wanted(
        plan,
        auto_ctx=auto_ctx,
        auto_batch=not batch,
        auto_mmap=options["use_mmap"] is None,
        auto_gpu=options["num_gpu"] < 0,
        estimate_bytes=estimate(facts, plan),
        predicted_bytes=predict(facts, plan),
        partial_offload=0 < plan.gpu_layers <= facts.layers,
        warnings=tuple(warnings),
    )


def _context(
    facts: ModelFacts, options: Mapping[str, Any], machine: Machine, defaults: Defaults
) -> tuple[int, bool, list[str]]:
    warnings: list[str] = []
    asked = options["num_ctx"]
    auto = asked is None and not defaults.ctx_tokens
    ctx = asked if asked is not None else defaults.ctx_tokens or tier(machine.gpu_total_bytes)
    floor = MIN_VISION_CTX_TOKENS if facts.has_vision else MIN_CTX_TOKENS
    if ctx < floor:
        warnings.append(f"num_ctx {ctx} raised to {floor}")
        ctx = floor
    for limit, why in (
        (facts.train_ctx_tokens, "the context this model was trained with"),
        (defaults.max_ctx_tokens, "LLAMERO_MAX_CONTEXT"),
    ):
        if limit and ctx > limit:
            if not auto:
                warnings.append(f"num_ctx {ctx} reduced to {limit}, {why}")
            ctx = limit
    return ctx, auto, warnings


def tier(gpu_total_bytes: int) -> int:
    """The default context by GPU memory."""
    return next((ctx for least, ctx in CTX_TIERS if gpu_total_bytes >= least), DEFAULT_CTX_TOKENS)


def _slots(facts: ModelFacts, defaults: Defaults, warnings: list[str]) -> int:
    if facts.pools:
        # a ranker's texts are not sent in calls that are sure to fit a cache
        shares = facts.is_embedder or facts.family in CACHELESS_FAMILIES
        return POOLING_SLOTS if shares and not defaults.slots else 1
    if facts.family in SINGLE_SLOT_FAMILIES:
        if defaults.slots > 1:
            warnings.append(f"{facts.family} models answer one request at a time: OLLAMA_NUM_PARALLEL has no effect")
        return 1
    return max(1, defaults.slots)


def _pool(facts: ModelFacts, ctx: int, slots: int, batch: int) -> int:
    """Room for the texts of two batches: the next one is there when the engine has done one."""
    return ctx * slots if facts.family in CACHELESS_FAMILIES else max(ctx, 2 * batch)


def _automatic_batch(facts: ModelFacts, window: int) -> int:
    if facts.pools:
        return min(2048, window)
    return 512 if window <= 4096 else 1024 if window <= 32_768 else 2048


def _clamp_batch(batch: int, window: int, warnings: list[str]) -> int:
    return _clamp("num_batch", batch, MIN_BATCH_TOKENS, max(MIN_BATCH_TOKENS, window), warnings)


def _main_gpu(index: int | None, warnings: list[str]) -> int | None:
    return None if index is None else _clamp("main_gpu", index, 0, MAX_GPUS - 1, warnings)


def _clamp(name: str, value: int, least: int, most: int, warnings: list[str]) -> int:
    clamped = max(least, min(most, value))
    if clamped != value and not (name == "num_gpu" and value > most):  # 999 is how people write "all layers"
        warnings.append(f"{name} {value} changed to {clamped}")
    return clamped


def _shift(facts: ModelFacts, shift: bool | None) -> bool:
    return "deepseek2" not in facts.families if shift is None else shift


def _cache_ram_mib(facts: ModelFacts, machine: Machine) -> int:
    if facts.pools:
        return 0  # no text is taken up again, but each would be kept and looked through
    if facts.adapters or facts.extra_adapters:
        return 0  # this cache of the engine's does not know with which adapters a prompt was read
    return int(min(512, machine.ram_total_bytes * 0.05 / 2**20))


def estimate(facts: ModelFacts, plan: LoadPlan) -> int:
    """Bytes that a loaded engine will take: weights, K/V cache by its type, compute buffers, the process itself.

    Source: llama.cpp's own buffer report; checked against SmolLM2-135M (bench/README.md).
    """
    files = facts.size_bytes + facts.projector_bytes + facts.adapter_bytes + size_of(facts.extra_adapters)
    return files + _kv_bytes(facts, plan) + _compute_bytes(facts, plan) + PROCESS_BYTES


def _kv_bytes(facts: ModelFacts, plan: LoadPlan) -> int:
    if facts.family in CACHELESS_FAMILIES:
        return 0
    head = facts.embedding_length // facts.heads if facts.heads else 0
    width = (facts.key_length or head) + (facts.value_length or head)
    elements = facts.kv_heads_total * width * plan.total_ctx_tokens
    return int(elements * KV_TYPE_BYTES[plan.kv_type or "f16"])


def _compute_bytes(facts: ModelFacts, plan: LoadPlan) -> int:
    """Activations of one batch, and the logits of the tokens that are sampled."""
    activations = plan.batch_tokens * facts.embedding_length * 4 * 16
    return activations + plan.slots * facts.vocabulary * 4


def predict(facts: ModelFacts, plan: LoadPlan) -> int:
    """The reference's estimate (scheduler §8.2): always priced as f16, without compute buffers."""
    head = facts.embedding_length // facts.heads if facts.heads else 0
    train = facts.train_ctx_tokens or plan.ctx_tokens
    ctx = min(plan.ctx_tokens, train) * plan.requests_at_once
    surcharge = 0
    if not facts.pools:
        surcharge = {1024: 768 * 2**20, 2048: 2 * GIB}.get(plan.batch_tokens, 0)
    return facts.size_bytes + 2 * facts.layers * facts.kv_heads_min * head * ctx * 2 + surcharge


def must_reload(loaded: Wanted, wanted: Wanted) -> bool:
    """Whether a loaded engine cannot serve a request (scheduler §5): what we chose ourselves never counts."""
    if wanted.takes_any:
        return False
    have, need = loaded.plan, wanted.plan
    if set(need.extra_adapters) <= set(have.extra_adapters):
        need = replace(need, extra_adapters=have.extra_adapters)
    if loaded.auto_ctx and wanted.auto_ctx:
        need = replace(need, ctx_tokens=have.ctx_tokens)
    if loaded.auto_batch and wanted.auto_batch:
        need = replace(need, batch_tokens=have.batch_tokens)
    if loaded.auto_mmap and wanted.auto_mmap:
        need = replace(need, use_mmap=have.use_mmap)
    if wanted.auto_gpu:
        need = replace(need, gpu_layers=have.gpu_layers)
    # sampling options and what only we set: no reason to load again
    need = replace(need, keep_tokens=have.keep_tokens, slots=have.slots, pool_tokens=have.pool_tokens)
    need = replace(need, cache_ram_mib=have.cache_ram_mib, fit=have.fit)
    return need != have


def size_of(adapters: Iterable[AdapterFile]) -> int:
    return sum(adapter.size_bytes for adapter in adapters)


def with_adapters_of(loaded: Wanted, wanted: Wanted) -> Wanted:
    """What is loaded in its place, with the extra adapters that it had: requests that take turns reload but once."""
    asked, had = wanted.plan.extra_adapters, loaded.plan.extra_adapters
    if not asked or loaded.plan.adapters != wanted.plan.adapters:
        return wanted
    others = [adapter for adapter in had if adapter not in asked]
    kept = others[max(0, len(others) + len(asked) - MAX_EXTRA_ADAPTERS) :]
    merged = replace(wanted.plan, extra_adapters=(*kept, *asked))
    return replace(wanted, plan=merged, estimate_bytes=wanted.estimate_bytes + size_of(kept))


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the choice of a victim looks at."""

    key: str
    path: Path
    keep_alive_ns: int
    busy: bool


def choose_victim(candidates: Iterable[Candidate]) -> Candidate | None:
    """Who must go: shortest keep-alive first (for ever last), then by path; an idle one before any busy one."""
    ordered = sorted(candidates, key=lambda c: (c.keep_alive_ns, str(c.path), c.key))
    return next((c for c in ordered if not c.busy), ordered[0] if ordered else None)


def max_loaded(setting: int, gpus: int) -> int:
    return setting or 3 * max(gpus, 1)


def fits(wanted: Wanted, machine: Machine, *, others_loaded: bool) -> bool:
    """Whether a model may be loaded now, beside what is loaded already."""
    if machine.has_gpu and wanted.plan.gpu_layers != 0:
        return (
            not others_loaded or wanted.partial_offload or wanted.predicted_bytes <= FIT_SHARE * machine.gpu_free_bytes
        )
    return wanted.estimate_bytes <= machine.ram_available_bytes


def too_large(wanted: Wanted, machine: Machine) -> str:
    """The words of a refusal, in the figures it rests on."""
    need, free = binary_size(wanted.estimate_bytes), binary_size(machine.ram_available_bytes)
    return f"model requires more system memory ({need}) than is available ({free})"


def binary_size(size_bytes: int) -> str:
    """`1.5 GiB`, as logs and refusals write memory."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{size_bytes} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")

"""The scheduler's arithmetic: what a request needs loaded, what that costs, and who must go for it. Pure.

It starts and stops nothing (`loop.py`) and measures nothing: machine figures come in as values. Source: scheduler §2,
§5, §7 to §9. Sizes are bytes, lengths are tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import SPECULATION, Settings
from ..engines import LoadPlan, Placement
from ..engines.devices import Gpu
from . import placement, slots
from .estimate import GIB, KV_BLOCK, KV_BLOCKED, estimate, predict, size_of, token_bytes
from .facts import ModelFacts
from .placement import Cards
from .speculation import speculating

MIN_CTX_TOKENS = 4
MAX_CTX_TOKENS = 2**31 - 1
MIN_BATCH_TOKENS = 32
"""The engine aborts on a batch of one token, and on one with fewer than its slots where texts are pooled (`slots.py`);
anything below this only makes it slow."""
MAX_POOLED_BATCH_TOKENS = 2048
"""Texts are read in batches of so many."""
MIN_VISION_CTX_TOKENS = 2048
"""A picture alone takes hundreds of tokens."""

MAX_THREADS = 1024
"""More than any machine has cores; the engine would start as many as it is told."""
THREADS_MARGIN = 0.7
"""Of a core, that an engine's threads may be off before it is worth loading again."""
MAX_GPUS = 16
"""What llama.cpp is built for."""

MAX_EXTRA_ADAPTERS = 16
"""That one engine holds beside the model's own. A request may ask for no more; beyond, those asked for first go."""

CTX_TIERS = ((47 * GIB, 262_144), (23 * GIB, 32_768))
DEFAULT_CTX_TOKENS = 4096

MIN_IMAGE_TOKENS = 1024
IMAGE_FAMILIES = frozenset("qwen2vl qwen25vl qwen3vl qwen3vlmoe".split())
"""These find nothing in pictures that take fewer tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to load on."""

    ram_available_bytes: int
    ram_total_bytes: int
    cores: int = 1
    """Physical ones that we may use."""
    is_confined: bool = False
    """Whether there are more, which we may not use: the engine would start a thread for each of them."""
    busy_cores: tuple[float, float] = (0.0, 0.0)
    """Of them, what other programs use, at least and at most."""
    gpus: tuple[Gpu, ...] = ()
    """What may be used of each, and what of that is free (`placement.available`)."""
    mapped_bytes: int = 0
    """Of files that our engines have mapped into main memory."""
    system: str = "linux"

    @property
    def gpu_total_bytes(self) -> int:
        return sum(gpu.total_bytes for gpu in self.gpus)

    @property
    def gpu_free_bytes(self) -> int:
        return sum(gpu.free_bytes for gpu in self.gpus)

    @property
    def has_gpu(self) -> bool:
        return bool(self.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The settings that shape a plan."""

    ctx_tokens: int = 0
    """OLLAMA_CONTEXT_LENGTH; 0: by GPU memory."""
    max_ctx_tokens: int = 0
    slots: int = 0
    """OLLAMA_NUM_PARALLEL; 0: chosen by memory and cores."""
    kv_type: str = ""
    flash_attention: bool | None = None
    spread: bool = False
    """OLLAMA_SCHED_SPREAD."""
    fit: bool = True
    fit_target_mib: tuple[int, ...] = ()
    uses_ngrams: bool = SPECULATION == "ngram"
    """LLAMERO_SPECULATION: whether repeated text is guessed."""

    @classmethod
    def of(cls, settings: Settings) -> Defaults:
        return cls(
            ctx_tokens=settings.context_length,
            max_ctx_tokens=settings.max_context,
            slots=settings.num_parallel,
            kv_type=settings.kv_cache_type,
            flash_attention=settings.flash_attention,
            spread=settings.gpu_spread,
            fit=settings.fit,
            fit_target_mib=settings.fit_target_mib,
            uses_ngrams=settings.speculation == "ngram",
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, whatever the machine can give."""

    facts: ModelFacts
    options: Mapping[str, Any]
    """The effective ones: defaults, model, request."""
    shift: bool | None
    defaults: Defaults
    tells_logprobs: bool = False
    """Whether they are wanted of every token. The engine tells none of those that it had guessed."""
    ctx_limit: int = 0
    """Of an automatic context: more did not fit; 0: none."""
    projector_on_cpu: bool = False
    """It did not fit on the GPU."""
    needs_all: bool = False
    """It did not fit beside others, and is tried for the last time."""
    keeps_prompts: bool = True
    """Whether the engine may keep old prompts in memory. It does not know whose they are, and gives them to anybody."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A load plan together with what in it was chosen by us, which never forces a reload."""

    plan: LoadPlan
    wish: Wish
    auto_ctx: bool
    auto_batch: bool
    auto_mmap: bool
    auto_gpu: bool
    auto_threads: bool
    estimate_bytes: int
    predicted_bytes: int
    """The reference's estimate, whose thresholds decide what fits beside others on GPUs."""
    cards_free_bytes: int = 0
    """Of the GPUs that it goes to."""
    partial_offload: bool = False
    """Whether the request itself sends only a part of the layers to the GPU."""
    cores: int = 1
    left_cores: tuple[float, float] = (1.0, 1.0)
    """That nobody else uses, at least and at most: a thread on a core with somebody else holds up all the others."""
    takes_any: bool = False
    """Whether any engine with these weights will do: only its vocabulary is asked."""
    warnings: tuple[str, ...] = ()


def want(
    facts: ModelFacts,
    options: Mapping[str, Any],
    shift: bool | None,
    machine: Machine,
    defaults: Defaults,
    *,
    tells_logprobs: bool = False,
    keeps_prompts: bool = True,
) -> Wanted:
    """The plan for one request. `options` are the effective ones (defaults, model, request)."""
    return _fulfil(Wish(facts, options, shift, defaults, tells_logprobs, keeps_prompts=keeps_prompts), machine)


def renewed(wanted: Wanted, machine: Machine) -> Wanted:
    """What it comes to on the machine as it is now."""
    return replace(_fulfil(wanted.wish, machine), takes_any=wanted.takes_any)


def _fulfil(wish: Wish, machine: Machine) -> Wanted:
    """1. What is asked for, brought into bounds. 2. Where it goes. 3. What follows from that."""
    facts, options = wish.facts, wish.options
    warnings: list[str] = []
    ctx, auto_ctx = _context(wish, machine, warnings)  # 1
    plan = _bounded(wish, ctx, machine, warnings)
    cards = placement.choose(  # 2
        machine.gpus if plan.gpu_layers else (),
        predicted_bytes=predict(facts, plan),
        main_gpu=options["main_gpu"],
        spread=wish.defaults.spread,
    )
    warnings += [cards.warning] if cards.warning else []
    plan = _placed(plan, wish, cards, machine, warnings)  # 3
    estimated = estimate(facts, plan)
    if not cards.gpus and estimated.total_bytes > machine.ram_available_bytes:
        # nobody is refused, and nobody has to go, for what is only good to have
        plan, estimated = replace(plan, cache_ram_mib=0), replace(estimated, prompts=0)
    return Wanted(
        plan,
        wish,
        auto_ctx=auto_ctx,
        auto_batch=not options["num_batch"],
        auto_mmap=options["use_mmap"] is None,
        auto_gpu=options["num_gpu"] < 0,
        auto_threads=not options["num_thread"],
        estimate_bytes=estimated.total_bytes,
        predicted_bytes=predict(facts, plan),
        cards_free_bytes=cards.free_bytes,
        partial_offload=_is_partial(plan, facts),
        cores=machine.cores,
        left_cores=_left_cores(machine),
        warnings=tuple(warnings),
    )


def _bounded(wish: Wish, ctx: int, machine: Machine, warnings: list[str]) -> LoadPlan:
    """All that does not depend on where it goes. A batch of 0 is still to be chosen."""
    facts, options = wish.facts, wish.options
    layout, batch = _layout(wish, ctx, machine, warnings)
    return LoadPlan(
        key=facts.key,
        model=facts.path,
        projectors=facts.projectors,
        adapters=facts.adapters,
        extra_adapters=facts.extra_adapters,
        ctx_tokens=ctx,
        slots=layout.slots,
        pool_tokens=layout.pool_tokens,
        batch_tokens=batch,
        gpu_layers=_clamp("num_gpu", options["num_gpu"], -1, facts.layers + 1, warnings),
        main_gpu=None if options["main_gpu"] is None else max(0, min(options["main_gpu"], MAX_GPUS - 1)),
        threads=_clamp("num_thread", options["num_thread"], 0, MAX_THREADS, warnings) or _automatic_threads(machine),
        embedding=facts.is_embedder,
        reranking=facts.is_ranker,
        context_shift=_shift(facts, wish.shift),
        keep_tokens=max(0, min(ctx, options["num_keep"])),
        cache_ram_mib=_cache_ram_mib(facts, machine) if wish.keeps_prompts else 0,
        chat_template=facts.chat_template,
        spare_template=facts.spare_template,
        image_tokens=MIN_IMAGE_TOKENS if facts.family in IMAGE_FAMILIES and facts.projectors else 0,
    )


def _placed(plan: LoadPlan, wish: Wish, cards: Cards, machine: Machine, warnings: list[str]) -> LoadPlan:
    facts, options, defaults = wish.facts, wish.options, wish.defaults
    predicted_bytes, is_partial = predict(facts, plan), _is_partial(plan, facts)
    flash = placement.flash_attention(defaults.flash_attention, cards)
    batch = plan.batch_tokens or placement.batch(
        plan.total_ctx_tokens, cards, flash=flash, predicted_bytes=predicted_bytes
    )
    maps = options["use_mmap"]
    if maps is None:
        ram = placement.Ram(machine.ram_available_bytes, machine.ram_total_bytes, machine.mapped_bytes)
        maps = placement.maps_weights(
            cards,
            ram,
            machine.system,
            predicted_bytes=predicted_bytes,
            file_bytes=facts.size_bytes,
            is_partial=is_partial,
        )
    plan = replace(
        plan,
        flash_attention=flash,
        kv_type=_kv_type(facts, defaults, flash, warnings),
        batch_tokens=batch,
        use_mmap=maps,
        placement=_placement(plan, wish, cards, machine),
    )
    if wish.tells_logprobs:
        return plan
    return speculating(plan, facts, options["draft_num_predict"], uses_ngrams=defaults.uses_ngrams, warnings=warnings)


def _placement(plan: LoadPlan, wish: Wish, cards: Cards, machine: Machine) -> Placement:
    facts, defaults = wish.facts, wish.defaults
    takes_projector = placement.takes_projector(cards, facts.projector_bytes, is_partial=_is_partial(plan, facts))
    projector_on_gpu = plan.gpu_layers != 0 and takes_projector and not wish.projector_on_cpu
    room = placement.room_for_projector_mib(facts.projector_bytes) if projector_on_gpu else ()
    return Placement(
        gpus=tuple(gpu.name for gpu in cards.gpus),
        visible=placement.visible(cards.gpus, machine.gpus, machine.system),
        reads_directly=placement.reads_directly(cards, machine.system),
        projector_on_gpu=projector_on_gpu,
        fit=bool(cards.gpus) and defaults.fit,
        fit_target_mib=(defaults.fit_target_mib or room) if cards.gpus else (),
    )


def _is_partial(plan: LoadPlan, facts: ModelFacts) -> bool:
    """Whether the request itself sends only a part of the layers to the GPU."""
    return 0 < plan.gpu_layers <= facts.layers


def after_want_of_memory(wanted: Wanted, *, others_loaded: bool) -> Wish | None:
    """What to wish for when a load ran out of memory; None: nothing is left to try (scheduler §11).

    1. A projector goes to the CPU.
    2. An automatic context is the next smaller one of those that depend on memory.
    3. Everything else goes. 2 and 3 are tried once.
    """
    wish, plan = wanted.wish, wanted.plan
    if plan.projectors and plan.placement.gpus and plan.placement.projector_on_gpu:  # 1
        return replace(wish, projector_on_cpu=True)
    if wish.needs_all:
        return None
    tiers = (*(ctx for _, ctx in CTX_TIERS), DEFAULT_CTX_TOKENS)
    smaller = next((ctx for ctx in tiers if ctx < plan.ctx_tokens), 0)
    if wanted.auto_ctx and smaller:  # 2
        return replace(wish, ctx_limit=smaller, needs_all=True)
    return replace(wish, needs_all=True) if others_loaded else None  # 3


def _context(wish: Wish, machine: Machine, warnings: list[str]) -> tuple[int, bool]:
    """The window of one slot, and whether it is ours to choose."""
    facts, defaults = wish.facts, wish.defaults
    asked = wish.options["num_ctx"]
    auto = asked is None and not defaults.ctx_tokens
    ctx = asked if asked is not None else defaults.ctx_tokens or tier(machine.gpu_total_bytes)
    if auto and wish.ctx_limit:
        ctx = min(ctx, wish.ctx_limit)
    floor = MIN_VISION_CTX_TOKENS if facts.has_vision else MIN_CTX_TOKENS
    if ctx < floor:
        warnings.append(f"num_ctx {ctx} raised to {floor}")
        ctx = floor
    for limit, why in (
        (facts.train_ctx_tokens, "the context this model was trained with"),
        (defaults.max_ctx_tokens, "LLAMERO_MAX_CONTEXT"),
        (MAX_CTX_TOKENS, "more than the engine can count"),
    ):
        if limit and ctx > limit:
            if not auto:
                warnings.append(f"num_ctx {ctx} reduced to {limit}, {why}")
            ctx = limit
    return ctx, auto


def tier(gpu_total_bytes: int) -> int:
    """The default context by GPU memory."""
    return next((ctx for least, ctx in CTX_TIERS if gpu_total_bytes >= least), DEFAULT_CTX_TOKENS)


def _layout(wish: Wish, ctx: int, machine: Machine, warnings: list[str]) -> tuple[slots.Layout, int]:
    """The slots and their cache, and the batch as far as it is known: of models that pool both depend on it."""
    facts, defaults, batch = wish.facts, wish.defaults, wish.options["num_batch"]
    if facts.pools:
        automatic = max(MIN_BATCH_TOKENS, min(MAX_POOLED_BATCH_TOKENS, ctx))
        batch = _clamp_batch(batch, ctx, warnings) if batch else automatic
        layout = slots.pooling(
            is_causal=facts.shape.is_causal,
            is_ranker=facts.is_ranker,
            asked=defaults.slots,
            ctx_tokens=ctx,
            batch_tokens=batch,
        )
        return layout, batch
    if defaults.slots:
        layout = slots.fixed(facts.family, asked=defaults.slots)
        if layout.slots < defaults.slots:
            warnings.append(f"{facts.family} models answer one request at a time: OLLAMA_NUM_PARALLEL has no effect")
    else:
        all_on_gpus = machine.has_gpu and not 0 <= wish.options["num_gpu"] <= facts.layers
        layout = slots.automatic(
            facts.family,
            ctx_tokens=ctx,
            token_bytes=token_bytes(facts, defaults.kv_type),
            weights_bytes=facts.size_bytes,
            free_bytes=_free_gpu_bytes(wish, ctx, machine) if all_on_gpus else machine.ram_available_bytes,
            cores=slots.MAX_SLOTS if all_on_gpus else machine.cores,
        )
    return layout, _clamp_batch(batch, layout.pool_tokens or ctx * layout.slots, warnings) if batch else 0


def _free_gpu_bytes(wish: Wish, ctx: int, machine: Machine) -> int:
    """What is free where a model with a single window goes: no further window shall send it to more cards than one."""
    window_bytes = int(ctx * token_bytes(wish.facts, wish.defaults.kv_type))
    return placement.choose(
        machine.gpus,
        predicted_bytes=wish.facts.size_bytes + window_bytes,
        main_gpu=wish.options["main_gpu"],
        spread=wish.defaults.spread,
    ).free_bytes


def _clamp_batch(batch: int, most: int, warnings: list[str]) -> int:
    return _clamp("num_batch", batch, MIN_BATCH_TOKENS, max(MIN_BATCH_TOKENS, most), warnings)


def _kv_type(facts: ModelFacts, defaults: Defaults, flash: bool | None, warnings: list[str]) -> str:
    """Quantized types come in blocks, which no head may share with the next, and need flash attention."""
    asked = defaults.kv_type
    if asked in KV_BLOCKED and facts.shape.is_causal:
        lacks = "heads that it divides" if facts.shape.head % KV_BLOCK else "flash attention" if flash is False else ""
        if lacks:
            warnings.append(f"OLLAMA_KV_CACHE_TYPE {asked} has no effect: it needs {lacks}")
            return ""
    return asked


def _clamp(name: str, value: int, least: int, most: int, warnings: list[str]) -> int:
    clamped = max(least, min(most, value))
    if clamped != value and not (name == "num_gpu" and value > most):  # 999 is how people write "all layers"
        warnings.append(f"{name} {value} changed to {clamped}")
    return clamped


def _automatic_threads(machine: Machine) -> int:
    """A thread for each core that is left; 0: for all of them, as the engine would choose itself."""
    _, most = _left_cores(machine)
    if machine.is_confined:
        return round(machine.cores if machine.has_gpu else most)
    return round(most) if round(most) < machine.cores and not machine.has_gpu else 0


def _left_cores(machine: Machine) -> tuple[float, float]:
    least, most = machine.busy_cores
    return max(1.0, machine.cores - most), max(1.0, machine.cores - least)


def _shift(facts: ModelFacts, shift: bool | None) -> bool:
    return "deepseek2" not in facts.families if shift is None else shift


def _cache_ram_mib(facts: ModelFacts, machine: Machine) -> int:
    if facts.pools:
        return 0  # no text is taken up again, but each would be kept and looked through
    if facts.adapters or facts.extra_adapters:
        return 0  # this cache of the engine's does not know with which adapters a prompt was read
    return int(min(512, machine.ram_total_bytes * 0.05 / 2**20))


def must_reload(loaded: Wanted, wanted: Wanted) -> bool:
    """Whether a loaded engine cannot serve a request (scheduler §5): what we chose ourselves never counts."""
    if wanted.takes_any:
        return False
    have, need = loaded.plan, wanted.plan
    if have.cache_ram_mib and not wanted.wish.keeps_prompts:
        return True  # it was loaded before there were keys
    if set(need.extra_adapters) <= set(have.extra_adapters):
        need = replace(need, extra_adapters=have.extra_adapters)
    if loaded.auto_ctx and wanted.auto_ctx:
        need = replace(need, ctx_tokens=have.ctx_tokens)
    if loaded.auto_batch and wanted.auto_batch:
        need = replace(need, batch_tokens=have.batch_tokens)
    if loaded.auto_threads and wanted.auto_threads:
        need = replace(need, threads=have.threads)
    if loaded.auto_mmap and wanted.auto_mmap:
        need = replace(need, use_mmap=have.use_mmap)
    if wanted.auto_gpu:
        need = replace(need, gpu_layers=have.gpu_layers)
    if _may_guess_as(loaded, wanted):
        need = need.guessing_as(have)
    # sampling options and what only we set: no reason to load again
    need = replace(
        need,
        kv_type=have.kv_type,
        flash_attention=have.flash_attention,
        keep_tokens=have.keep_tokens,
        slots=have.slots,
        pool_tokens=have.pool_tokens,
        cache_ram_mib=have.cache_ram_mib,
        placement=have.placement,
    )
    return need != have


def _may_guess_as(loaded: Wanted, wanted: Wanted) -> bool:
    """Whether it is all the same to a request how a loaded engine guesses.

    1. Log-probabilities of every token need one that does not guess.
    2. Who needs none may use an engine that was loaded for somebody who did, else two would reload it in turns.
    3. Only a draft model was asked for; the rest is our own choice.
    """
    if wanted.wish.tells_logprobs:  # 1
        return False
    return loaded.wish.tells_logprobs or not (loaded.plan.drafts or wanted.plan.drafts)  # 2, 3


def has_wrong_threads(loaded: Wanted, wanted: Wanted) -> bool:
    """Whether an engine has clearly more threads than cores are left, or fewer."""
    if wanted.takes_any or not (loaded.auto_threads and wanted.auto_threads):
        return False
    have, need = (each.plan.threads or wanted.cores for each in (loaded, wanted))
    least, most = wanted.left_cores
    return have != need and (have > most + THREADS_MARGIN or have < least - THREADS_MARGIN)


def with_adapters_of(loaded: Wanted, wanted: Wanted) -> Wanted:
    """What is loaded in its place, with the extra adapters that it had: requests that take turns reload but once."""
    asked, had = wanted.plan.extra_adapters, loaded.plan.extra_adapters
    if not asked or loaded.plan.adapters != wanted.plan.adapters:
        return wanted
    others = [adapter for adapter in had if adapter not in asked]
    kept = others[max(0, len(others) + len(asked) - MAX_EXTRA_ADAPTERS) :]
    merged = (*kept, *asked)
    return replace(
        wanted,
        plan=replace(wanted.plan, extra_adapters=merged),
        wish=replace(wanted.wish, facts=replace(wanted.wish.facts, extra_adapters=merged)),
        estimate_bytes=wanted.estimate_bytes + size_of(kept),
    )


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
    if wanted.plan.placement.gpus:
        fits_beside = wanted.predicted_bytes <= placement.FIT_SHARE * wanted.cards_free_bytes
        return not others_loaded or wanted.partial_offload or fits_beside
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

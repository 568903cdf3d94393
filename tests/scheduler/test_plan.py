"""What a request needs loaded, what that costs, when it forces a reload, and who must go for it: pure arithmetic."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.durations import FOREVER, MINUTE
from llamero.engines import AdapterFile, Endpoint
from llamero.engines.devices import Gpu
from llamero.engines.llamacpp import arguments
from llamero.options import merge_options
from llamero.scheduler.estimate import predict
from llamero.scheduler.facts import ModelFacts
from llamero.scheduler.plan import (
    MAX_EXTRA_ADAPTERS,
    Candidate,
    Defaults,
    Machine,
    Wanted,
    binary_size,
    choose_victim,
    fits,
    has_wrong_threads,
    max_loaded,
    must_reload,
    tier,
    too_large,
    want,
    with_adapters_of,
)
from llamero.scheduler.shape import Shape
from llamero.scheduler.slots import SINGLE_SLOT_FAMILIES
from tests.scheduler.world import GIB, facts

MIB = 2**20
CPU = Machine(ram_available_bytes=8 * GIB, ram_total_bytes=16 * GIB)
CARD = Gpu("CUDA0", "a card", 24 * GIB, 20 * GIB, id="0")
GPU = Machine(ram_available_bytes=8 * GIB, ram_total_bytes=9 * GIB, gpus=(CARD,))
LLAMA = facts("llama", train_ctx_tokens=131_072, layers=32, embedding_length=4096, heads=32, kv_heads_min=8)

UNSET = Defaults(slots=1)
ENCODER = Shape(is_causal=False)


def wanted(
    model: ModelFacts = LLAMA,
    machine: Machine = CPU,
    defaults: Defaults = UNSET,
    *,
    shift: bool | None = None,
    **options: Any,
) -> Wanted:
    return want(model, merge_options(options), shift, machine, defaults)


def flags(each: Wanted) -> str:
    return " ".join(arguments(each.plan, Endpoint("secret", socket="/s")))


# --- the context window ---


@pytest.mark.parametrize(
    ("gpu_gib", "ctx"), [(0, 4096), (22.9, 4096), (23, 32_768), (46.9, 32_768), (47, 262_144), (640, 262_144)]
)
def test_r40_gpu_memory_decides_the_default_context(gpu_gib: float, ctx: int) -> None:
    assert tier(int(gpu_gib * GIB)) == ctx
    machine = replace(CPU, gpus=(replace(CARD, total_bytes=int(gpu_gib * GIB)),) if gpu_gib else ())
    assert wanted(facts("m"), machine).plan.ctx_tokens == ctx


VISION = facts("v", train_ctx_tokens=131_072, has_vision=True)


@pytest.mark.parametrize(
    ("model", "request_ctx", "modelfile", "env", "ctx", "auto"),
    [
        pytest.param(LLAMA, 1000, 2000, 3000, 1000, False, id="R-41 the request comes first"),
        pytest.param(LLAMA, None, 2000, 3000, 2000, False, id="R-41 then the Modelfile"),
        pytest.param(LLAMA, None, None, 3000, 3000, False, id="R-41 then the environment"),
        pytest.param(LLAMA, None, None, 0, 4096, True, id="R-41 then the memory, which alone counts as automatic"),
        pytest.param(LLAMA, 1, None, 0, 4, False, id="R-41 floor of 4"),
        pytest.param(LLAMA, -7, None, 0, 4, False, id="R-41 floor of 4, negative"),
        pytest.param(LLAMA, None, None, 2, 4, False, id="R-41 floor of 4, environment"),
        pytest.param(VISION, 100, None, 0, 2048, False, id="R-41 floor of 2048 for pictures"),
        pytest.param(VISION, 4096, None, 0, 4096, False, id="R-41 above the floor"),
        pytest.param(replace(VISION, train_ctx_tokens=1024), 100, None, 0, 1024, False, id="the cap beats the floor"),
    ],
)
def test_where_the_context_comes_from(
    model: ModelFacts, request_ctx: int | None, modelfile: int | None, env: int, ctx: int, auto: bool
) -> None:
    options = merge_options({"num_ctx": modelfile}, {"num_ctx": request_ctx})
    plan = want(model, options, None, CPU, Defaults(ctx_tokens=env))
    assert (plan.plan.ctx_tokens, plan.auto_ctx) == (ctx, auto)


@pytest.mark.parametrize(
    ("options", "defaults", "ctx", "warnings"),
    [
        ({"num_ctx": 3}, UNSET, 4, ("num_ctx 3 raised to 4",)),
        (
            {"num_ctx": 9999},
            UNSET,
            8192,
            ("num_ctx 9999 reduced to 8192, the context this model was trained with",),
        ),
        (
            {"num_ctx": 9000},
            Defaults(max_ctx_tokens=512),
            512,
            (
                "num_ctx 9000 reduced to 8192, the context this model was trained with",
                "num_ctx 8192 reduced to 512, LLAMERO_MAX_CONTEXT",
            ),
        ),
        ({"num_ctx": 8000}, Defaults(max_ctx_tokens=512), 512, ("num_ctx 8000 reduced to 512, LLAMERO_MAX_CONTEXT",)),
        ({}, Defaults(max_ctx_tokens=512), 512, ()),
        ({"num_ctx": 8192}, UNSET, 8192, ()),
    ],
)
def test_a_changed_context_is_named_unless_we_chose_it(
    options: dict[str, Any], defaults: Defaults, ctx: int, warnings: tuple[str, ...]
) -> None:
    plan = wanted(replace(LLAMA, train_ctx_tokens=8192), defaults=defaults, **options)
    assert (plan.plan.ctx_tokens, plan.warnings) == (ctx, warnings)


def test_a_context_without_a_limit_of_its_own_stays_within_what_the_engine_can_count() -> None:
    plan = wanted(facts("m"), num_ctx=10**400)
    assert plan.plan.ctx_tokens == 2**31 - 1
    assert len(plan.warnings) == 1
    assert plan.warnings[0].endswith(" reduced to 2147483647, more than the engine can count")


# --- options beyond what makes sense ---


@pytest.mark.parametrize(
    ("options", "field", "value", "warning"),
    [
        ({"num_thread": 10**9}, "threads", 1024, "num_thread 1000000000 changed to 1024"),
        ({"num_thread": -1}, "threads", 0, "num_thread -1 changed to 0"),
        ({"num_batch": 10**9}, "batch_tokens", 4096, "num_batch 1000000000 changed to 4096"),
        ({"num_batch": -1}, "batch_tokens", 32, "num_batch -1 changed to 32"),
        ({"num_gpu": -9}, "gpu_layers", -1, "num_gpu -9 changed to -1"),
        ({"num_gpu": 999}, "gpu_layers", 33, None),
        ({"main_gpu": 2**40}, "main_gpu", 15, f"main_gpu {2**40}: there is no such GPU"),
        ({"main_gpu": -1}, "main_gpu", 0, "main_gpu -1: there is no such GPU"),
        ({"num_keep": 2**62}, "keep_tokens", 4096, None),
        ({"num_keep": -1}, "keep_tokens", 0, None),
        (
            {"draft_num_predict": 4},
            "batch_tokens",
            512,
            "draft_num_predict has no effect: the model has no draft model",
        ),
        ({"draft_num_predict": 0}, "batch_tokens", 512, None),
    ],
)
def test_what_the_engine_could_not_take_is_brought_into_bounds_and_named(
    options: dict[str, Any], field: str, value: int, warning: str | None
) -> None:
    plan = wanted(**options)
    assert getattr(plan.plan, field) == value
    assert plan.warnings == (() if warning is None else (warning,))


# --- slots ---


@pytest.mark.parametrize("family", sorted(SINGLE_SLOT_FAMILIES))
def test_listed_families_answer_one_request_at_a_time(family: str) -> None:
    """Partly R-25."""
    plan = wanted(facts("m", family=family), defaults=Defaults(slots=4))
    assert " -np 1 " in flags(plan)
    assert plan.warnings == (f"{family} models answer one request at a time: OLLAMA_NUM_PARALLEL has no effect",)
    assert wanted(facts("m", family=family)).warnings == ()


@pytest.mark.parametrize(
    ("kind", "flag"), [({"is_embedder": True}, "--embedding"), ({"is_ranker": True}, "--reranking")]
)
def test_models_that_pool_have_one_slot_and_a_unified_cache(kind: dict[str, bool], flag: str) -> None:
    """Partly R-25."""
    plan = wanted(facts("m", **kind), defaults=Defaults(slots=4))
    assert " -np 1 " in flags(plan)
    assert f"{flag} --kv-unified" in flags(plan)


@pytest.mark.parametrize(
    ("kind", "slots", "pool", "seats"),
    [
        pytest.param({"is_embedder": True}, 32, 1024, 1, id="R-25 two batches of one request"),
        pytest.param({"is_embedder": True, "shape": ENCODER}, 32, 32 * 512, 10, id="R-25 no cache to pay for"),
        pytest.param({"is_ranker": True, "shape": ENCODER}, 32, 32 * 512, 1, id="a ranker without a cache"),
        pytest.param({"is_ranker": True}, 1, 1024, 1, id="a ranker with one"),
    ],
)
def test_the_slots_of_models_that_pool_share_one_cache(kind: dict[str, Any], slots: int, pool: int, seats: int) -> None:
    """They are for the texts of one request. R-25 as a whole: see `tests/server/test_embed_packed.py`."""
    plan = wanted(facts("m", **kind), num_ctx=512, defaults=Defaults())
    assert f" -c {pool} -np {slots} " in flags(plan)
    assert plan.plan.seats == seats
    assert plan.plan.cache_ram_mib == 0


@pytest.mark.parametrize("num_ctx", [4, 31, 33])
def test_a_batch_has_room_for_a_token_of_every_slot(num_ctx: int) -> None:
    """Else the engine of a model that pools aborts while it is loaded."""
    plan = wanted(facts("m", is_embedder=True, shape=ENCODER), num_ctx=num_ctx, defaults=Defaults()).plan
    assert plan.batch_tokens == max(num_ctx, plan.slots)


@pytest.mark.parametrize(("setting", "slots"), [(1, 1), (2, 2), (8, 8)])
def test_other_models_have_as_many_slots_as_set(setting: int, slots: int) -> None:
    plan = wanted(defaults=Defaults(slots=setting), num_ctx=1000)
    assert f"-c {slots * 1000} -np {slots} " in flags(plan)


# --- context shift ---


@pytest.mark.parametrize(("families", "shift"), [(("llama",), True), (("llama", "deepseek2"), False)])
def test_context_shift_is_on_unless_the_family_cannot_or_the_request_says_otherwise(
    families: tuple[str, ...], shift: bool
) -> None:
    model = replace(LLAMA, families=families)
    assert wanted(model).plan.context_shift is shift
    assert wanted(model, shift=not shift).plan.context_shift is not shift


# --- reloads ---

TRAINED_8K = replace(LLAMA, train_ctx_tokens=8192)
TRAINED_1K = replace(LLAMA, train_ctx_tokens=1024)
ADAPTED = replace(LLAMA, adapters=(Path("/a"), Path("/b")))
SEEING = replace(LLAMA, projectors=(Path("/p"),))
A, B, C = (AdapterFile(Path(f"/{name}"), MIB) for name in "abc")


def lent(*adapters: AdapterFile) -> ModelFacts:
    """With adapters of other models."""
    return replace(LLAMA, extra_adapters=adapters)


@pytest.mark.parametrize(
    ("loaded", "asked", "reload"),
    [
        pytest.param(wanted(TRAINED_8K, num_ctx=8192), wanted(TRAINED_8K, num_ctx=10**6), False, id="R-04"),
        pytest.param(wanted(TRAINED_1K), wanted(TRAINED_1K), False, id="R-05"),
        pytest.param(wanted(LLAMA, CPU), wanted(LLAMA, GPU), False, id="automatic, and a GPU was found meanwhile"),
        pytest.param(wanted(), wanted(num_ctx=4096), False, id="an explicit value equal to the automatic one"),
        pytest.param(wanted(), wanted(num_ctx=2048), True, id="a smaller context"),
        pytest.param(wanted(num_ctx=2048), wanted(), True, id="a larger context"),
        pytest.param(wanted(), wanted(num_thread=2), True, id="R-06 num_thread"),
        pytest.param(wanted(), wanted(main_gpu=1), True, id="R-06 main_gpu"),
        pytest.param(wanted(), wanted(num_batch=64), True, id="R-06 num_batch"),
        pytest.param(wanted(num_batch=64), wanted(), True, id="R-06 num_batch no longer asked for"),
        pytest.param(wanted(), wanted(num_batch=512), False, id="R-06 num_batch as chosen"),
        pytest.param(wanted(), wanted(use_mmap=True), True, id="R-06 use_mmap"),
        pytest.param(wanted(use_mmap=True), wanted(), True, id="R-06 use_mmap no longer asked for"),
        pytest.param(wanted(), wanted(use_mmap=False), False, id="R-06 use_mmap as chosen"),
        pytest.param(wanted(), wanted(num_gpu=-1), False, id="R-06 num_gpu automatic"),
        pytest.param(wanted(num_gpu=5), wanted(num_gpu=-1), False, id="R-06 num_gpu automatic after explicit"),
        pytest.param(wanted(), wanted(num_gpu=99), True, id="R-06 num_gpu explicit after automatic"),
        pytest.param(wanted(), wanted(num_gpu=0), True, id="R-06 num_gpu none after automatic"),
        pytest.param(wanted(ADAPTED), wanted(ADAPTED), False, id="R-07 the same adapters"),
        pytest.param(wanted(ADAPTED), wanted(LLAMA), True, id="R-07 no adapters"),
        pytest.param(
            wanted(ADAPTED), wanted(replace(ADAPTED, adapters=ADAPTED.adapters[::-1])), True, id="R-07 another order"
        ),
        pytest.param(wanted(), wanted(SEEING), True, id="R-07 a projector"),
        pytest.param(wanted(shift=True), wanted(shift=False), True, id="R-07 shift"),
        pytest.param(wanted(), wanted(shift=True), False, id="R-07 shift as chosen"),
        pytest.param(wanted(), wanted(num_keep=9, temperature=0, seed=1, stop=["x"]), False, id="sampling options"),
        pytest.param(wanted(), wanted(defaults=Defaults(slots=4)), False, id="slots"),
        pytest.param(wanted(), wanted(lent(A)), True, id="another model's adapter"),
        pytest.param(wanted(lent(A)), wanted(lent(B)), True, id="another one"),
        pytest.param(wanted(lent(A, B)), wanted(lent(B)), False, id="one of those that are there"),
        pytest.param(wanted(lent(A)), wanted(), False, id="another model's adapter no longer asked for"),
        pytest.param(wanted(lent(A)), wanted(ADAPTED), True, id="its own besides"),
        pytest.param(wanted(num_ctx=2048), replace(wanted(), takes_any=True), False, id="only its vocabulary"),
    ],
)
def test_what_forces_a_reload(loaded: Wanted, asked: Wanted, reload: bool) -> None:
    assert must_reload(loaded, asked) is reload


@pytest.mark.parametrize(
    ("loaded", "asked", "kept"),
    [
        pytest.param(lent(A), lent(B), (A, B), id="they take turns"),
        pytest.param(lent(A, B), lent(C, A), (B, C, A), id="some are the same"),
        pytest.param(lent(A), LLAMA, (), id="nobody asks for any"),
        pytest.param(replace(ADAPTED, extra_adapters=(A,)), lent(B), (B,), id="they were beside others of its own"),
    ],
)
def test_a_reload_for_an_adapter_keeps_the_others(
    loaded: ModelFacts, asked: ModelFacts, kept: tuple[AdapterFile, ...]
) -> None:
    merged = with_adapters_of(wanted(loaded), wanted(asked))
    assert merged.plan == replace(wanted(asked).plan, extra_adapters=kept)
    alone = wanted(replace(asked, extra_adapters=()))
    prompts = 0 if not kept else alone.plan.cache_ram_mib  # with adapters the engine keeps none
    assert merged.estimate_bytes == alone.estimate_bytes + (len(kept) - prompts) * MIB


def test_of_too_many_adapters_the_oldest_go() -> None:
    many = [AdapterFile(Path(f"/{number}"), 1) for number in range(MAX_EXTRA_ADAPTERS)]
    merged = with_adapters_of(wanted(lent(*many)), wanted(lent(A, B)))
    assert merged.plan.extra_adapters == (*many[2:], A, B)
    assert with_adapters_of(wanted(lent(A)), wanted(lent(*many))).plan.extra_adapters == tuple(many)


def test_with_adapters_there_is_no_cache_of_old_prompts() -> None:
    """The engine's does not know with which of them it read a prompt."""
    assert wanted().plan.cache_ram_mib > 0
    assert wanted(ADAPTED).plan.cache_ram_mib == wanted(lent(A)).plan.cache_ram_mib == 0


def test_keys_have_no_cache_of_old_prompts_in_common() -> None:
    """partly X-101: what was loaded before there were keys is loaded again; never the other way round."""
    common, apart = (
        want(LLAMA, merge_options(), None, CPU, Defaults(), keeps_prompts=keeps_prompts)
        for keeps_prompts in (True, False)
    )
    assert common.plan.cache_ram_mib > 0 == apart.plan.cache_ram_mib
    assert common.estimate_bytes > apart.estimate_bytes
    assert must_reload(common, apart)
    assert not must_reload(apart, common)
    assert not must_reload(apart, apart)


# --- memory ---


@pytest.mark.parametrize(
    ("model", "ctx", "slots", "bytes_"),
    [
        # 2 x layers x kv heads x (embedding / heads) x context x 2 bytes, beside the file
        pytest.param(LLAMA, 4096, 1, GIB + 2 * 32 * 8 * 128 * 4096 * 2, id="grouped heads"),
        pytest.param(LLAMA, 1024, 4, GIB + 2 * 32 * 8 * 128 * 4096 * 2, id="four slots"),
        pytest.param(LLAMA, 8192, 1, GIB + 2 * 32 * 8 * 128 * 8192 * 2 + 768 * MIB, id="batch of 1024"),
        pytest.param(LLAMA, 65_536, 1, GIB + 2 * 32 * 8 * 128 * 65_536 * 2 + 2 * GIB, id="batch of 2048"),
        pytest.param(replace(LLAMA, kv_heads_min=1), 4096, 1, GIB + 2 * 32 * 128 * 4096 * 2, id="kv heads unknown"),
        pytest.param(replace(LLAMA, heads=0), 4096, 1, GIB, id="heads unknown"),
        pytest.param(
            replace(LLAMA, is_embedder=True), 2048, 1, GIB + 2 * 32 * 8 * 128 * 2048 * 2, id="embedder, no surcharge"
        ),
    ],
)
def test_predicted_bytes_follow_the_formula(model: ModelFacts, ctx: int, slots: int, bytes_: int) -> None:
    """Partly R-33."""
    plan = wanted(model, defaults=Defaults(slots=slots), num_ctx=ctx)
    assert plan.predicted_bytes == bytes_


def test_predicted_bytes_price_the_cache_as_f16_whatever_its_type() -> None:
    """Partly R-33."""
    assert wanted(defaults=Defaults(slots=1, kv_type="q8_0")).predicted_bytes == wanted().predicted_bytes


def test_predicted_bytes_count_no_context_beyond_the_trained_one() -> None:
    """Partly R-33."""
    plan = replace(wanted(num_ctx=131_072).plan, batch_tokens=512)
    assert predict(replace(LLAMA, train_ctx_tokens=4096), plan) == GIB + 2 * 32 * 8 * 128 * 4096 * 2


@pytest.mark.parametrize(
    ("size_gib", "machine", "options", "others", "expected"),
    [
        pytest.param(7, CPU, {}, False, True, id="cpu"),
        pytest.param(9, CPU, {}, False, False, id="cpu, too large"),
        pytest.param(9, CPU, {"num_gpu": 5}, True, False, id="cpu, whatever num_gpu says"),
        pytest.param(99, GPU, {}, False, True, id="gpu, alone"),
        pytest.param(16, GPU, {}, True, True, id="gpu, four fifths"),
        pytest.param(16.1, GPU, {}, True, False, id="gpu, more than four fifths"),
        pytest.param(99, GPU, {"num_gpu": 32}, True, True, id="gpu, partial"),
        pytest.param(99, GPU, {"num_gpu": 33}, True, False, id="gpu, all layers"),
        pytest.param(9, GPU, {"num_gpu": 0}, False, False, id="gpu not used"),
        pytest.param(7, GPU, {"num_gpu": 0}, True, True, id="gpu not used, fits"),
    ],
)
def test_what_may_be_loaded_now(
    size_gib: float, machine: Machine, options: dict[str, Any], others: bool, expected: bool
) -> None:
    plan = wanted(facts("m", size_gib=size_gib, layers=32), machine, num_ctx=4096, **options)
    assert fits(plan, machine, others_loaded=others) is expected


@pytest.mark.parametrize(
    ("size_gib", "machine", "keeps", "fits_in"),
    [
        pytest.param(7.4, CPU, True, True, id="there is room for both"),
        pytest.param(7.7, CPU, False, True, id="there is room for the model"),
        pytest.param(8.1, CPU, False, False, id="there is room for neither"),
        pytest.param(8.1, GPU, True, True, id="on a GPU main memory is not what is short"),
    ],
)
def test_nobody_is_refused_for_want_of_room_for_old_prompts(
    size_gib: float, machine: Machine, keeps: bool, fits_in: bool
) -> None:
    """They are only good to have (scheduler §8.3, §10.1)."""
    plan = wanted(facts("m", size_gib=size_gib), machine)
    assert (plan.plan.cache_ram_mib > 0) is keeps
    assert fits(plan, machine, others_loaded=False) is fits_in
    assert not must_reload(plan, wanted(facts("m", size_gib=size_gib), replace(machine, ram_available_bytes=0)))


def test_a_refusal_names_both_figures() -> None:
    plan = replace(wanted(), estimate_bytes=int(9.5 * GIB))
    assert too_large(plan, CPU) == "model requires more system memory (9.5 GiB) than is available (8.0 GiB)"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * MIB // 2, "1.5 MiB"),
        (GIB, "1.0 GiB"),
        (5000 * GIB, "5000.0 GiB"),
    ],
)
def test_sizes_in_words(size_bytes: int, text: str) -> None:
    assert binary_size(size_bytes) == text


# --- who must go ---


def candidate(path: str, keep_alive_ns: int, *, busy: bool = False) -> Candidate:
    return Candidate(f"key {ord('~') - ord(path[1]):03}", Path(path), keep_alive_ns, busy)


IN_ORDER = [
    candidate("/d", 0),
    candidate("/b", MINUTE),
    candidate("/c", MINUTE),
    candidate("/a", 5 * MINUTE),
    candidate("/e", FOREVER),
    candidate("/z", 0, busy=True),
    candidate("/x", MINUTE, busy=True),
    candidate("/y", MINUTE, busy=True),
    candidate("/w", FOREVER, busy=True),
]
"""R-28: idle ones first; among them and among the busy ones the shortest keep-alive, then the path."""


@pytest.mark.parametrize("seed", range(5))
def test_r28_the_order_of_victims(seed: int) -> None:
    left = list(IN_ORDER)
    random.Random(seed).shuffle(left)
    gone = []
    while (victim := choose_victim(left)) is not None:
        left.remove(victim)
        gone.append(victim)
    assert gone == IN_ORDER


@pytest.mark.parametrize(("setting", "gpus", "most"), [(0, 0, 3), (0, 1, 3), (0, 4, 12), (1, 4, 1), (7, 0, 7)])
def test_how_many_models_may_be_loaded(setting: int, gpus: int, most: int) -> None:
    assert max_loaded(setting, gpus) == most


# --- threads ---


@pytest.mark.parametrize(
    ("cores", "busy", "options", "threads"),
    [
        pytest.param(2, (0.0, 0.0), {}, 0, id="nobody else: as many as the engine chooses"),
        pytest.param(2, (1.0, 1.0), {}, 1, id="one of two cores taken"),
        pytest.param(8, (1.1, 1.4), {}, 7, id="one of eight"),
        pytest.param(8, (0.2, 3.0), {}, 0, id="who has just come may go again"),
        pytest.param(2, (5.0, 5.0), {}, 1, id="one at least"),
        pytest.param(8, (4.0, 4.0), {"num_thread": 6}, 6, id="as asked"),
    ],
)
def test_threads_for_the_cores_that_are_left(
    cores: int, busy: tuple[float, float], options: dict[str, Any], threads: int
) -> None:
    machine = replace(CPU, cores=cores, busy_cores=busy)
    assert wanted(machine=machine, **options).plan.threads == threads


@pytest.mark.parametrize(
    ("gpus", "busy", "threads"),
    [
        pytest.param((), (0.0, 0.0), 4, id="a thread for each of ours"),
        pytest.param((), (1.0, 1.0), 3, id="that is left"),
        pytest.param((CARD,), (1.0, 1.0), 4, id="with a GPU it hardly matters who else is busy"),
    ],
)
def test_the_engine_is_told_of_cores_that_are_not_ours(
    gpus: tuple[Gpu, ...], busy: tuple[float, float], threads: int
) -> None:
    """In a container that has 4 of 64 it would start 64 threads, which wait for one another."""
    machine = replace(CPU, cores=4, is_confined=True, gpus=gpus, busy_cores=busy)
    assert wanted(machine=machine).plan.threads == threads


@pytest.mark.parametrize(
    ("loaded", "now", "wrong"),
    [
        pytest.param((0.0, 0.0), (1.0, 1.0), True, id="too many"),
        pytest.param((1.0, 1.0), (0.0, 0.1), True, id="too few"),
        pytest.param((1.0, 1.0), (0.0, 1.0), False, id="gone for a moment"),
        pytest.param((0.0, 0.0), (0.0, 1.0), False, id="there for a moment"),
        pytest.param((0.0, 0.0), (0.6, 0.6), False, id="half a core is no reason"),
    ],
)
def test_when_threads_are_wrong(loaded: tuple[float, float], now: tuple[float, float], wrong: bool) -> None:
    before, after = (wanted(machine=replace(CPU, cores=2, busy_cores=busy)) for busy in (loaded, now))
    assert has_wrong_threads(before, after) is wrong
    assert not must_reload(before, after), "for an engine in use it is no reason"

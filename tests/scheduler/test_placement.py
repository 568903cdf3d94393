"""Which GPUs a model goes to, and what follows from it: on the load plan, and in what an engine is started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.config import Settings
from llamero.engines import Endpoint
from llamero.engines.devices import Gpu
from llamero.engines.llamacpp import arguments, parameters
from llamero.options import merge_options
from llamero.scheduler.placement import Cards, available, batch, choose, visible
from llamero.scheduler.plan import Defaults, Machine, ModelFacts, Wanted, want
from llamero.scheduler.shape import Shape
from tests.scheduler.world import GIB, facts

MIB = 2**20


def card(name: str, free_gib: float, *, total_gib: float = 0, **more: Any) -> Gpu:
    place = name.lstrip("CUDAROmVulkanMTL")
    return Gpu(name, f"a {name}", int((total_gib or free_gib) * GIB), int(free_gib * GIB), **{"id": place} | more)


SMALL, LARGE = card("CUDA0", 8), card("CUDA1", 24)
RADEON = card("ROCm0", 16)
RADEONS = (RADEON, card("ROCm1", 20))
APU = card("ROCm0", 90, is_integrated=True)
ARC = card("Vulkan0", 16)
METAL = card("MTL0", 30, is_integrated=True)
TWO = (SMALL, LARGE)

LLAMA = facts("llama", size_gib=10, train_ctx_tokens=131_072, layers=32, embedding_length=4096, heads=32)
SEEING = replace(LLAMA, projectors=(Path("/p"),), projector_bytes=GIB // 2)
RAM_GIB = 64
ONE_SLOT = Defaults(slots=1)


def planned(
    *gpus: Gpu,
    model: ModelFacts = LLAMA,
    defaults: Defaults = ONE_SLOT,
    machine: dict[str, Any] | None = None,
    **options: Any,
) -> Wanted:
    sizes = {"ram_available_bytes": RAM_GIB * GIB, "ram_total_bytes": RAM_GIB * GIB}
    return want(
        model, merge_options({"num_ctx": 4096}, options), None, Machine(gpus=gpus, **sizes | (machine or {})), defaults
    )


def flags(wanted: Wanted) -> str:
    return " ".join(arguments(wanted.plan, Endpoint("secret", socket="/s"))) + " "


def names(wanted: Wanted) -> str:
    return " ".join(wanted.plan.placement.gpus)


# --- what is free ---


@pytest.mark.parametrize(
    ("gpu", "used_gib", "overhead_gib", "ram_gib", "free_gib"),
    [
        pytest.param(card("CUDA0", 20, total_gib=24), 0, 0, 8, 20, id="R-34 as reported"),
        pytest.param(card("CUDA0", 20, total_gib=24), 10, 0, 8, 14, id="R-34 without what our engines use"),
        pytest.param(card("CUDA0", 5, total_gib=24), 10, 0, 8, 5, id="R-34 others use more"),
        pytest.param(card("CUDA0", 20, total_gib=24), 30, 0, 8, 0, id="R-34 never below nothing"),
        pytest.param(card("CUDA0", 20, total_gib=24), 0, 3, 8, 17, id="OLLAMA_GPU_OVERHEAD"),
        pytest.param(card("CUDA0", 2, total_gib=24), 0, 3, 8, 0, id="more overhead than there is"),
        pytest.param(card("ROCm0", 20, total_gib=24, is_integrated=True), 0, 0, 8, 8, id="R-35 integrated"),
        pytest.param(card("ROCm0", 6, total_gib=24, is_integrated=True), 0, 0, 8, 6, id="R-35 integrated, less free"),
    ],
)
def test_what_is_free_on_a_card(gpu: Gpu, used_gib: int, overhead_gib: int, ram_gib: int, free_gib: int) -> None:
    other = card("CUDA7", 1)
    found, untouched = available(
        (gpu, other), {gpu.name: used_gib * GIB}, overhead_bytes=overhead_gib * GIB, ram_available_bytes=ram_gib * GIB
    )
    assert found.free_bytes == free_gib * GIB
    assert found.total_bytes == gpu.total_bytes - overhead_gib * GIB
    assert untouched.free_bytes == max(0, GIB - overhead_gib * GIB)


# --- where it goes ---


@pytest.mark.parametrize(
    ("gpus", "predicted_gib", "options", "chosen"),
    [
        pytest.param((), 5, {}, "", id="there is none"),
        pytest.param((SMALL,), 99, {}, "CUDA0", id="there is one"),
        pytest.param(TWO, 5, {}, "CUDA1", id="R-36 of those that it fits the one with most left"),
        pytest.param(
            (replace(SMALL, free_bytes=24 * GIB), replace(LARGE, free_bytes=9 * GIB)),
            5,
            {},
            "CUDA0",
            id="R-36 left now",
        ),
        pytest.param(TWO, 19.2, {}, "CUDA1", id="R-36 four fifths"),
        pytest.param(TWO, 19.3, {}, "CUDA0 CUDA1", id="R-37 more than four fifths of any"),
        pytest.param(TWO, 5, {"spread": True}, "CUDA0 CUDA1", id="R-37 OLLAMA_SCHED_SPREAD"),
        pytest.param((APU, RADEONS[1], SMALL), 5, {}, "ROCm1", id="R-36 discrete before integrated"),
        pytest.param((APU, SMALL), 50, {}, "ROCm0", id="R-36 integrated where nothing else fits"),
        pytest.param((*TWO, *RADEONS), 99, {}, "ROCm0 ROCm1", id="R-37 the library with most, never two"),
        pytest.param((APU, *TWO), 99, {}, "CUDA0 CUDA1", id="R-37 a library with a discrete card"),
        pytest.param(TWO, 5, {"main_gpu": 0}, "CUDA0", id="R-38 named"),
        pytest.param(TWO, 99, {"main_gpu": 1}, "CUDA1", id="R-38 named, though it does not fit"),
        pytest.param((*TWO, *RADEONS), 5, {"main_gpu": 1}, "CUDA1", id="R-38 of the cards with that place the best"),
        pytest.param((*TWO, RADEON), 5, {"main_gpu": 1, "spread": True}, "CUDA1", id="R-38 named, whatever is spread"),
        pytest.param((LARGE, SMALL), 5, {"main_gpu": 0}, "CUDA0", id="R-38 in the library's order"),
        pytest.param(TWO, 5, {"main_gpu": 2}, "CUDA0 CUDA1", id="R-38 there is none: the best library"),
        pytest.param(TWO, 5, {"main_gpu": -1}, "CUDA0 CUDA1", id="R-38 below the first"),
    ],
)
def test_where_a_model_goes(gpus: tuple[Gpu, ...], predicted_gib: float, options: dict[str, Any], chosen: str) -> None:
    settings = {"main_gpu": None, "spread": False} | options
    found = choose(gpus, predicted_bytes=int(predicted_gib * GIB), **settings)
    assert " ".join(gpu.name for gpu in found.gpus) == chosen
    assert len(found.libraries) <= 1
    asked = settings["main_gpu"]
    assert found.warning == (f"main_gpu {asked}: there is no such GPU" if asked in (2, -1) else "")


def test_r36_one_card_is_all_that_the_engine_sees() -> None:
    wanted = planned(*TWO)
    assert names(wanted) == "CUDA1"
    assert "--split-mode none --main-gpu 0 " in flags(wanted)
    assert wanted.plan.placement.visible == (("CUDA_VISIBLE_DEVICES", "1"),)
    settings = parameters(wanted.plan, Endpoint("secret", socket="/s"))
    assert (settings["main_gpu"], settings["split_mode"]) == (0, "LLAMA_SPLIT_MODE_NONE")
    assert settings["fit_params"]


@pytest.mark.parametrize(
    ("weights_gib", "gpus", "windows", "cards"),
    [
        pytest.param(5.6, (10, 10), 2, "CUDA0", id="as many windows as there is room for on one card"),
        pytest.param(5.6, (10,), 2, "CUDA0", id="the same beside none"),
        pytest.param(5.6, (10, 24), 5, "CUDA1", id="on the better card"),
        pytest.param(12, (10, 10), 4, "CUDA0 CUDA1", id="what fits none has all of them"),
    ],
)
def test_automatic_slots_never_send_a_model_to_more_cards(
    weights_gib: float, gpus: tuple[float, ...], windows: int, cards: str
) -> None:
    """A window of this model takes half a GiB; the second bound is half of the weights (scheduler §9.5)."""
    model = replace(LLAMA, size_bytes=int(weights_gib * GIB), kv_heads_min=8, shape=Shape(kv=64 * 1024))
    wanted = planned(*(card(f"CUDA{n}", size) for n, size in enumerate(gpus)), model=model, defaults=Defaults())
    assert wanted.plan.pool_tokens == windows * 4096
    assert names(wanted) == cards


@pytest.mark.parametrize(
    "how", [{"defaults": Defaults(slots=1, spread=True)}, {"model": replace(LLAMA, size_bytes=99 * GIB)}]
)
def test_r37_several_cards_are_split_by_the_engine(how: dict[str, Any]) -> None:
    wanted = planned(*TWO, RADEON, **how)
    assert names(wanted) == "CUDA0 CUDA1"
    assert "--main-gpu" not in flags(wanted)
    assert "--split-mode" not in flags(wanted)
    assert dict(wanted.plan.placement.visible) == {"CUDA_VISIBLE_DEVICES": "0,1", "ROCR_VISIBLE_DEVICES": "-1"}


def test_r38_a_card_that_there_is_not_is_named_and_passed_on() -> None:
    wanted = planned(*TWO, main_gpu=5)
    assert wanted.warnings == ("main_gpu 5: there is no such GPU",)
    assert "--main-gpu 5 " in flags(wanted)
    assert "--split-mode" not in flags(wanted)  # with it the engine would refuse
    assert planned(main_gpu=0).warnings == ()
    assert "--main-gpu" not in flags(planned(main_gpu=0))


def test_r39_num_gpu_zero_keeps_everything_on_the_cpu() -> None:
    """What the engine then takes of the GPU is nothing: see `tests/engines/test_memory.py` on its own report."""
    wanted = planned(*TWO, model=SEEING, num_gpu=0)
    assert names(wanted) == ""
    line = flags(wanted)
    assert " -ngl 0 " in line
    assert "--device none " in line
    assert "--load-mode none " in line
    assert "--no-mmproj-offload " in line
    assert "--main-gpu" not in line
    assert wanted.plan.placement.visible == (("CUDA_VISIBLE_DEVICES", "-1"),)
    assert not parameters(wanted.plan, Endpoint("secret", socket="/s"))["fit_params"]


def test_without_gpus_nothing_is_said_of_them() -> None:
    wanted = planned(model=SEEING)
    assert wanted.plan.placement.visible == ()
    for flag in ("-ngl", "--device", "--main-gpu", "--split-mode", "--no-mmproj-offload", "--fit-target"):
        assert flag not in flags(wanted)


# --- what the engine sees ---

ALL = (*TWO, *RADEONS, ARC)


@pytest.mark.parametrize(
    ("chosen", "gpus", "system", "variables"),
    [
        pytest.param((LARGE,), TWO, "linux", {"CUDA_VISIBLE_DEVICES": "1"}, id="one CUDA card"),
        pytest.param(TWO, TWO, "linux", {"CUDA_VISIBLE_DEVICES": "0,1"}, id="all of them"),
        pytest.param(
            (card("CUDA0", 8, id="GPU-8f"),),
            TWO,
            "linux",
            {"CUDA_VISIBLE_DEVICES": "GPU-8f"},
            id="by its unfiltered id",
        ),
        pytest.param(RADEONS, RADEONS, "linux", {"ROCR_VISIBLE_DEVICES": "0,1"}, id="ROCm"),
        pytest.param((RADEON,), RADEONS, "win32", {"HIP_VISIBLE_DEVICES": "0"}, id="ROCm on Windows"),
        pytest.param((ARC,), (ARC,), "linux", {"GGML_VK_VISIBLE_DEVICES": "0"}, id="one Vulkan card"),
        pytest.param((ARC, card("Vulkan1", 4)), (ARC, card("Vulkan1", 4)), "linux", {}, id="several Vulkan cards"),
        pytest.param((METAL,), (METAL,), "darwin", {}, id="Metal"),
        pytest.param(
            (SMALL,),
            ALL,
            "linux",
            {"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": ""},
            id="other libraries are hidden",
        ),
        pytest.param(
            (),
            ALL,
            "linux",
            {"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": ""},
            id="all are",
        ),
    ],
)
def test_what_makes_cards_visible(
    chosen: tuple[Gpu, ...], gpus: tuple[Gpu, ...], system: str, variables: dict[str, str]
) -> None:
    assert dict(visible(chosen, gpus, system)) == variables


# --- flash attention ---


def cuda(compute: tuple[int, int] | None, level: int = 12) -> Gpu:
    return card("CUDA0", 20, compute=compute, cuda_level=level)


@pytest.mark.parametrize(
    ("setting", "gpus", "flag"),
    [
        pytest.param("", (), "auto", id="R-43 CPU"),
        pytest.param("", (cuda((8, 9)),), "auto", id="R-43 a card of today"),
        pytest.param("", (cuda((6, 0)),), "auto", id="R-43 the oldest that can"),
        pytest.param("", (cuda((5, 2)),), "off", id="R-43 older"),
        pytest.param("", (cuda((7, 2)),), "off", id="R-43 the one in between that cannot"),
        pytest.param("", (cuda((7, 0)),), "auto", id="R-43 beside it"),
        pytest.param("", (cuda((8, 9), level=6),), "off", id="R-43 an old driver"),
        pytest.param("", (cuda((8, 9), level=7),), "auto", id="R-43 the oldest driver that can"),
        pytest.param("", (cuda(None, level=0),), "auto", id="R-43 nothing known"),
        pytest.param("", (APU,), "auto", id="R-43 ROCm"),
        pytest.param("", (METAL,), "auto", id="R-43 Metal"),
        pytest.param("1", (cuda((5, 2)),), "on", id="R-43 on, whatever the card"),
        pytest.param("0", (cuda((8, 9)),), "off", id="R-43 off"),
        pytest.param("random", (), "on", id="R-43 any word is on"),
    ],
)
def test_flash_attention(setting: str, gpus: tuple[Gpu, ...], flag: str) -> None:
    defaults = replace(Defaults.of(Settings.from_env({"OLLAMA_FLASH_ATTENTION": setting, "HOME": "/"})), slots=1)
    assert f"--flash-attn {flag} " in flags(planned(*gpus, defaults=defaults))


def test_one_card_that_cannot_is_enough() -> None:
    """R-43: of those that are used."""
    spread = Defaults(slots=1, spread=True)
    old = replace(SMALL, compute=(5, 0))
    assert "--flash-attn off " in flags(planned(old, LARGE, defaults=spread))
    assert "--flash-attn auto " in flags(planned(old, LARGE))


# --- batch ---


@pytest.mark.parametrize(
    ("ctx", "predicted_gib", "free_gib", "tokens"),
    [
        pytest.param(4, 1, 24, 512, id="R-42 a small context"),
        pytest.param(4096, 1, 24, 512, id="R-42 the last small one"),
        pytest.param(4097, 1, 24, 1024, id="R-42 a larger one"),
        pytest.param(32_768, 1, 24, 1024, id="R-42 the last of these"),
        pytest.param(32_769, 1, 24, 2048, id="R-42 a large one"),
        pytest.param(131_072, 8, 14, 2048, id="R-42 worked example: 8 of 14 GiB"),
        pytest.param(131_072, 8, 11, 1024, id="R-42 worked example: 8 of 11 GiB"),
        pytest.param(131_072, 8, 10, 512, id="R-42 not even that"),
        pytest.param(131_072, 6, 10, 2048, id="R-42 just three fifths, and the surcharge fits just so"),
        pytest.param(131_072, 6.1, 10, 1024, id="R-42 more than three fifths"),
        pytest.param(8192, 7.5, 10, 512, id="R-42 three quarters, but no room for the surcharge"),
        pytest.param(8192, 7.2, 10, 1024, id="R-42 room for it"),
        pytest.param(131_072, 99, 0, 2048, id="R-42 memory that is not known fits"),
    ],
)
def test_the_batch_follows_context_and_memory(ctx: int, predicted_gib: float, free_gib: float, tokens: int) -> None:
    cards = Cards((card("CUDA0", free_gib),) if free_gib else ())
    assert batch(ctx, cards, flash=None, predicted_bytes=int(predicted_gib * GIB)) == tokens


@pytest.mark.parametrize(
    ("gpu", "ctx", "flash", "tokens"),
    [
        pytest.param(card("CUDA0", 24), 65_536, False, 512, id="R-42 no flash attention"),
        pytest.param(card("CUDA0", 8), 65_536, False, 256, id="R-42 nor much memory"),
        pytest.param(card("CUDA0", 8), 4096, False, 512, id="R-42 a small context"),
        pytest.param(card("ROCm0", 24), 65_536, False, 2048, id="R-42 CUDA only"),
        pytest.param(card("CUDA0", 24), 65_536, True, 2048, id="R-42 flash attention"),
    ],
)
def test_the_batch_without_flash_attention(gpu: Gpu, ctx: int, flash: bool, tokens: int) -> None:
    assert batch(ctx, Cards((gpu,)), flash=flash, predicted_bytes=GIB) == tokens


@pytest.mark.parametrize(
    ("options", "model", "tokens"),
    [
        pytest.param({"num_batch": 100}, LLAMA, 100, id="R-42 as given"),
        pytest.param({"num_ctx": 512}, facts("e", is_embedder=True), 512, id="R-42 an embedder's window"),
        pytest.param({"num_ctx": 8192}, facts("e", is_embedder=True), 2048, id="R-42 at most"),
        pytest.param({"num_ctx": 8192}, facts("m"), 1024, id="R-42 chosen"),
    ],
)
def test_who_decides_about_the_batch(options: dict[str, Any], model: ModelFacts, tokens: int) -> None:
    assert f"-b {tokens} -ub {tokens} " in flags(planned(SMALL, model=model, **options))


# --- the type of the cache ---


@pytest.mark.parametrize(
    ("setting", "type_"), [("q8_0", "q8_0"), ("Q4_0", "q4_0"), ("BF16", "bf16"), ("f16", "f16"), ("", ""), ("q9", "")]
)
def test_r44_the_type_of_the_cache(setting: str, type_: str) -> None:
    settings = Settings.from_env({"OLLAMA_KV_CACHE_TYPE": setting, "HOME": "/"})
    line = flags(planned(defaults=Defaults.of(settings)))
    assert (f"--cache-type-k {type_} --cache-type-v {type_} " in line) == bool(type_)
    assert ("--cache-type" in line) == bool(type_)
    assert any("OLLAMA_KV_CACHE_TYPE" in warning for warning in settings.warnings) == (setting == "q9")


@pytest.mark.parametrize(
    ("shape", "defaults", "lacks"),
    [
        (Shape(head=80), {"kv_type": "q8_0"}, "heads that it divides"),
        (Shape(head=64), {"kv_type": "q8_0", "flash_attention": False}, "flash attention"),
        (Shape(head=64), {"kv_type": "q8_0"}, ""),
        (Shape(head=80), {"kv_type": "bf16", "flash_attention": False}, ""),
        (Shape(head=80, is_causal=False), {"kv_type": "q8_0"}, ""),
    ],
    ids=["blocks", "no flash attention", "both", "no blocks", "no cache"],
)
def test_a_type_that_the_engine_would_refuse_is_left_out_and_named(
    shape: Shape, defaults: dict[str, Any], lacks: str
) -> None:
    wanted = planned(model=replace(LLAMA, shape=shape), defaults=Defaults(slots=1, **defaults))
    asked = defaults["kv_type"]
    assert wanted.plan.kv_type == ("" if lacks else asked)
    assert wanted.warnings == ((f"OLLAMA_KV_CACHE_TYPE {asked} has no effect: it needs {lacks}",) if lacks else ())


# --- how weights are read ---

WINDOWS, MAC = {"system": "win32"}, {"system": "darwin"}
TIGHT = {"ram_available_bytes": 17 * GIB}


@pytest.mark.parametrize(
    ("gpus", "machine", "options", "mode"),
    [
        pytest.param((), {}, {}, "none", id="R-45 a CPU"),
        pytest.param((LARGE,), {}, {"num_gpu": 0}, "none", id="R-45 a CPU, on purpose"),
        pytest.param((LARGE,), {}, {}, "", id="R-45 a GPU, and memory"),
        pytest.param((LARGE,), TIGHT, {}, "none", id="R-45 mapping would push others out"),
        pytest.param((LARGE,), {"ram_available_bytes": 18 * GIB}, {}, "", id="R-45 just enough"),
        pytest.param(
            (LARGE,), {"ram_available_bytes": 18 * GIB, "mapped_bytes": GIB}, {}, "none", id="R-45 others map too"
        ),
        pytest.param(
            (LARGE,),
            {"ram_available_bytes": 18 * GIB, "ram_total_bytes": 100 * GIB},
            {},
            "none",
            id="R-45 a tenth of much memory",
        ),
        pytest.param((card("CUDA0", 11),), TIGHT, {}, "", id="R-45 not all of it fits the card"),
        pytest.param((LARGE,), WINDOWS, {}, "none", id="R-45 CUDA on Windows"),
        pytest.param((RADEON,), WINDOWS, {}, "", id="R-45 ROCm on Windows"),
        pytest.param((METAL,), MAC, {}, "", id="R-45 Metal"),
        pytest.param((METAL,), MAC, {"num_gpu": 5}, "none", id="R-45 Metal, some layers"),
        pytest.param((card("MTL0", 9, is_integrated=True),), MAC, {}, "none", id="R-45 Metal, more than there is"),
        pytest.param((APU,), {}, {}, "dio", id="R-45 integrated"),
        pytest.param((APU,), {}, {"use_mmap": False}, "dio", id="R-45 past the cache, before all else"),
        pytest.param((card("Vulkan0", 30, is_integrated=True),), {}, {}, "", id="R-45 integrated, in Vulkan"),
        pytest.param((), {}, {"use_mmap": True}, "", id="R-45 asked for"),
        pytest.param((LARGE,), {}, {"use_mmap": False}, "none", id="R-45 asked not to"),
    ],
)
def test_how_weights_are_read(
    gpus: tuple[Gpu, ...], machine: dict[str, Any], options: dict[str, Any], mode: str
) -> None:
    wanted = planned(*gpus, machine=machine, **options)
    assert (f"--load-mode {mode} " in flags(wanted)) if mode else "--load-mode" not in flags(wanted)
    setting = parameters(wanted.plan, Endpoint("secret", socket="/s"))["load_mode"]
    assert (
        setting
        == {"": "LLAMA_LOAD_MODE_AUTO", "none": "LLAMA_LOAD_MODE_NONE", "dio": "LLAMA_LOAD_MODE_DIRECT_IO"}[mode]
    )


# --- projectors ---


@pytest.mark.parametrize(
    ("gpus", "options", "on_gpu"),
    [
        pytest.param((LARGE,), {}, True, id="there is room"),
        pytest.param((card("CUDA0", 1.5),), {}, True, id="just so"),
        pytest.param((card("CUDA0", 1.4),), {}, False, id="none"),
        pytest.param((LARGE,), {"num_gpu": 20}, False, id="some layers stay on the CPU"),
        pytest.param((LARGE,), {"num_gpu": 33}, True, id="all layers"),
        pytest.param((LARGE,), {"num_gpu": 0}, False, id="all layers on the CPU"),
    ],
)
def test_where_a_projector_goes(gpus: tuple[Gpu, ...], options: dict[str, Any], on_gpu: bool) -> None:
    wanted = planned(*gpus, model=SEEING, **options)
    assert ("--no-mmproj-offload " not in flags(wanted)) is on_gpu
    assert parameters(wanted.plan, Endpoint("secret", socket="/s"))["mmproj_use_gpu"] is on_gpu
    assert ("--fit-target 1536 " in flags(wanted)) is on_gpu, "the layers leave room for it"


def test_a_projector_beside_several_cards_needs_room_on_each() -> None:
    huge = replace(SEEING, size_bytes=99 * GIB)
    assert "--no-mmproj-offload " in flags(planned(LARGE, card("CUDA0", 1), model=huge))
    assert "--no-mmproj-offload " not in flags(planned(LARGE, SMALL, model=huge))


@pytest.mark.parametrize(("value", "flag"), [("2048", "2048"), ("512,1024", "512,1024"), ("1/2", "1,2")])
def test_an_operators_own_margin_comes_first(value: str, flag: str) -> None:
    settings = Settings.from_env({"LLAMA_ARG_FIT_TARGET": value, "HOME": "/"})
    wanted = planned(LARGE, model=SEEING, defaults=Defaults.of(settings))
    assert f"--fit-target {flag} " in flags(wanted)
    assert settings.warnings == ()


def test_an_operator_may_fit_layers_himself() -> None:
    settings = Settings.from_env({"LLAMA_ARG_FIT": "off", "LLAMA_ARG_FIT_TARGET": "much", "HOME": "/"})
    wanted = planned(LARGE, defaults=Defaults.of(settings))
    assert not parameters(wanted.plan, Endpoint("secret", socket="/s"))["fit_params"]
    assert any("LLAMA_ARG_FIT_TARGET" in warning for warning in settings.warnings)


@pytest.mark.parametrize(("family", "flag"), [("qwen2vl", "--image-min-tokens 1024 "), ("gemma3", "")])
def test_families_that_need_pictures_of_some_size(family: str, flag: str) -> None:
    line = flags(planned(model=replace(SEEING, family=family)))
    assert (flag or "--mmproj") in line
    assert ("--image-min-tokens" in line) == bool(flag)
    assert "--image-min-tokens" not in flags(planned(model=replace(LLAMA, family=family)))

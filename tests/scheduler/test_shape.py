"""How wide a model is, read off headers of many families."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.gguf import Gguf, read_header
from llamero.scheduler.shape import Shape, shape_of
from tests.gguf_files import TensorSpec, Typed, gguf_file

LAYERS = 6
WIDTH = 64
HEAD = 16
ONE_LAYER = 2 * 2 * HEAD
"""Keys and values of two heads."""

PARTS = {
    "a": ("attn_output.weight",),
    "s": ("ssm_conv1d.weight",),
    "b": ("attn_output.weight", "ssm_conv1d.weight"),
    "c": ("shortconv.conv.weight",),
    "w": ("time_mix_key.weight",),
}


def header(family: str, figures: dict[str, Any] | None = None, *, layers: int = LAYERS, each: str = "") -> Gguf:
    """Four heads, two of them with keys and values. `each` has a letter for each layer."""
    known = {
        "block_count": layers,
        "embedding_length": WIDTH,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        **(figures or {}),
    }
    names = [f"blk.{layer}.{part}" for layer, letter in enumerate(each or "a" * layers) for part in PARTS[letter]]
    figures = {f"{family}.{key}": value for key, value in known.items() if value is not None}
    return read_header(
        gguf_file({"general.architecture": family, **figures}, [TensorSpec(name, (8, 8)) for name in names])
    )


def shape(family: str, figures: dict[str, Any] | None = None, **more: Any) -> Shape:
    return shape_of(header(family, figures, **more))


WINDOW = {"attention.sliding_window": 512}


@pytest.mark.parametrize(
    ("family", "figures", "whole", "windowed"),
    [
        pytest.param("llama", {}, 6, 0, id="no windows"),
        pytest.param("llama", WINDOW, 6, 0, id="a family that does not use its window"),
        pytest.param("gemma2", WINDOW, 3, 3, id="every second"),
        pytest.param("gemma3", WINDOW, 1, 5, id="every sixth"),
        pytest.param("gemma3", {}, 6, 0, id="no window in the file"),
        pytest.param("gpt-oss", WINDOW, 3, 3, id="gpt-oss"),
        pytest.param("cohere2", WINDOW, 1, 5, id="every fourth, of six"),
        pytest.param("smallthinker", WINDOW, 2, 4, id="the first of four"),
        pytest.param("llama4", {}, 1, 5, id="a window that no file names"),
        pytest.param("llama4", {"attention.sliding_window": 0}, 6, 0, id="none of it"),
        pytest.param("gemma3", WINDOW | {"attention.sliding_window_pattern": 3}, 2, 4, id="the file's own period"),
        pytest.param(
            "gemma4",
            WINDOW | {"attention.sliding_window_pattern": Typed("[bool]", [True, True, False, True, True, False])},
            2,
            4,
            id="the file's own pattern",
        ),
        pytest.param(
            "gemma4",
            WINDOW
            | {
                "attention.sliding_window_pattern": Typed("[bool]", [True, False, True, False, True, False]),
                "attention.shared_kv_layers": 2,
            },
            2,
            2,
            id="layers that use what others keep",
        ),
        pytest.param(
            "gemma4", WINDOW | {"attention.sliding_window_pattern": Typed("[bool]", [True, True])}, 4, 2, id="cut"
        ),
    ],
)
def test_which_layers_see_the_whole_context(family: str, figures: dict[str, Any], whole: int, windowed: int) -> None:
    found = shape(family, figures)
    assert (found.kv, found.window_kv) == (whole * ONE_LAYER, windowed * ONE_LAYER)


def test_windows_may_have_heads_of_their_own_size() -> None:
    sizes = {"key_length": 64, "value_length": 64, "key_length_swa": 32, "value_length_swa": 32}
    found = shape("gemma3", WINDOW | {f"attention.{name}": size for name, size in sizes.items()})
    assert (found.kv, found.window_kv) == (1 * 2 * 128, 5 * 2 * 64)


def test_gemma3n_keeps_keys_and_values_in_twenty_layers() -> None:
    found = shape("gemma3n", WINDOW, layers=30)
    assert (found.kv, found.window_kv) == (4 * ONE_LAYER, 16 * ONE_LAYER)


@pytest.mark.parametrize(
    ("figures", "kv"),
    [
        pytest.param({}, 6 * ONE_LAYER, id="one number for all"),
        pytest.param({"attention.head_count_kv": Typed("[i32]", [4, 0, 2, 0, 0, 1])}, 7 * 2 * HEAD, id="one for each"),
        pytest.param({"attention.head_count_kv": Typed("[i32]", [4, 2])}, (4 + 5 * 2) * 2 * HEAD, id="too few"),
        pytest.param({"attention.head_count_kv": None}, 6 * 2 * ONE_LAYER, id="as many as heads"),
        pytest.param({"attention.head_count_kv": None, "attention.head_count": None}, 0, id="unknown"),
        pytest.param({"attention.key_length": 24, "attention.value_length": 8}, 6 * 2 * 32, id="of two lengths"),
        pytest.param({"attention.causal": False}, 0, id="an encoder"),
        pytest.param(
            {
                "attention.head_count_kv": 1,
                "attention.key_length": 576,
                "attention.value_length": 512,
                "attention.key_length_mla": 192,
            },
            6 * 576,
            id="latent attention: values are a part of the keys",
        ),
    ],
)
def test_keys_and_values(figures: dict[str, Any], kv: int) -> None:
    assert shape("llama", figures).kv == kv


MAMBA = {"ssm.inner_size": 256, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 2}
ONE_MAMBA = 3 * (256 + 2 * 2 * 16) + 256 * 16


@pytest.mark.parametrize(
    ("figures", "each", "kv", "state"),
    [
        pytest.param(MAMBA, "ssassa", 2, 4 * ONE_MAMBA, id="some layers attend"),
        pytest.param(MAMBA, "ssssss", 0, 6 * ONE_MAMBA, id="none does"),
        pytest.param(MAMBA, "bbbbbb", 6, 6 * ONE_MAMBA, id="each does both"),
        pytest.param({"shortconv.l_cache": 3}, "ccacca", 2, 4 * 2 * WIDTH, id="short convolutions"),
        pytest.param({"wkv.head_size": 32}, "wwwwww", 0, 6 * WIDTH * (2 + 32), id="RWKV"),
    ],
)
def test_recurrent_layers_keep_a_state(figures: dict[str, Any], each: str, kv: int, state: int) -> None:
    found = shape("hybrid", figures, each=each)
    assert (found.kv, found.state) == (kv * ONE_LAYER, state)


def test_hostile_figures_make_no_work() -> None:
    """What `gguf.check_model` refuses has not been checked yet when a header is only read."""
    found = shape("llama", {"attention.shared_kv_layers": 2**31, "expert_used_count": 2**31}, each="a")
    assert found.kv == 0

"""Converted checkpoints give the answers of the originals: the engine against truths in float32.

Ten models come with a recorded truth. It shows that `forward.py` computes right, which then is the truth for what no
recorded model has: the first Gemma, biases, other rotations, windows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llamero.build.convert.conversion import convert
from tests.build.convert.asking import TOLERANCE, answer, reference, worst
from tests.build.convert.forward import next_token
from tests.build.convert.tiny_decoder import NAMES, TinyDecoder


@pytest.mark.parametrize("name", NAMES)
async def test_the_next_token_is_as_likely_as_in_the_original(name: str, tmp_path: Path) -> None:
    """partly S-85: Mixtral, Mistral and Qwen 3 are among them."""
    model = TinyDecoder.load(name)
    convert(model.origin, tmp_path / "model.gguf")
    difference = worst(await answer(tmp_path / "model.gguf", model.prompt), reference(model.reference))
    print(f"{name}: {difference:.4f}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_our_own_truth_is_the_recorded_one(name: str) -> None:
    model = TinyDecoder.load(name)
    found = next_token(model.config, model.tensors, model.prompt)
    assert worst(found, reference(model.reference), top=10) < 1e-3


Variant = Callable[[], TinyDecoder]


def gemma() -> TinyDecoder:
    model = TinyDecoder.load("gemma2")
    model.without(lambda name: "pre_feedforward" in name or "post_feedforward" in name)
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "layer_types", "sliding_window"):
        del model.config[key]
    model.config |= {"architectures": ["GemmaForCausalLM"], "hidden_act": "gelu", "hidden_activation": None}
    return model


def gemma_with_one_key_head() -> TinyDecoder:
    model = gemma()
    model.config["num_key_value_heads"] = 1
    for name in model.tensors:
        if "k_proj" in name or "v_proj" in name:
            model.tensors[name] = model.tensors[name][:32]
    return model


def scaled_rotation(**parameters: object) -> Variant:
    def make() -> TinyDecoder:
        model = TinyDecoder.load("llama")
        model.config["rope_parameters"] = {"rope_theta": 10_000.0, **parameters}
        return model

    return make


def llama_with_biases() -> TinyDecoder:
    model = TinyDecoder.load("llama")
    model.config |= {"attention_bias": True, "mlp_bias": True}
    for name in [name for name in model.tensors if name.endswith("_proj.weight")]:
        model.add(name.replace(".weight", ".bias"), model.tensors[name].shape[0])
    return model


def llama_with_narrow_heads() -> TinyDecoder:
    model = TinyDecoder.load("llama")
    model.config["head_dim"] = 8
    for name, values in model.tensors.items():
        if "q_proj" in name or "k_proj" in name or "v_proj" in name:
            model.tensors[name] = values[: len(values) // 2]
        if "o_proj" in name:
            model.tensors[name] = np.ascontiguousarray(values[:, :32])
    return model


def mistral_with_a_window_as_long_as_the_prompt() -> TinyDecoder:
    model = TinyDecoder.load("mistral")
    model.config["sliding_window"] = len(model.prompt)
    return model


def phi3_with_two_sets_of_factors(original: int) -> Variant:
    def make() -> TinyDecoder:
        model = TinyDecoder.load("phi3")
        model.config["original_max_position_embeddings"] = original
        model.config["rope_parameters"] = {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": original,
            "short_factor": [1 + 0.1 * number for number in range(8)],
            "long_factor": [2.0 + number for number in range(8)],
        }
        return model

    return make


def phi4_with_still_dimensions() -> TinyDecoder:
    model = TinyDecoder.load("phi3")
    model.config["rope_parameters"]["partial_rotary_factor"] = 0.75
    return model


def gemma2_with_a_short_window() -> TinyDecoder:
    model = TinyDecoder.load("gemma2")
    model.config["sliding_window"] = 7
    return model


def gemma3_with_another_rhythm() -> TinyDecoder:
    model = TinyDecoder.load("gemma3")
    model.config |= {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"] * 3}
    return model


def gemma3_with_slower_global_rotation() -> TinyDecoder:
    model = TinyDecoder.load("gemma3")
    model.config["rope_parameters"]["full_attention"] |= {"rope_type": "linear", "factor": 8.0}
    return model


def qwen2_with_an_output_matrix() -> TinyDecoder:
    model = TinyDecoder.load("qwen2")
    model.config["tie_word_embeddings"] = False
    model.tensors["lm_head.weight"] = model.tensors["model.embed_tokens.weight"][::-1].copy()
    return model


VARIANTS: dict[str, Variant] = {
    "gemma": gemma,
    "gemma, one key head": gemma_with_one_key_head,
    "rotation: linear": scaled_rotation(rope_type="linear", factor=4.0),
    "rotation: dynamic": scaled_rotation(rope_type="dynamic", factor=4.0),
    "rotation: yarn": scaled_rotation(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    "rotation: yarn, its own magnitude": scaled_rotation(
        rope_type="yarn", factor=16.0, original_max_position_embeddings=128, attention_factor=0.8
    ),
    "llama: biases": llama_with_biases,
    "llama: narrow heads": llama_with_narrow_heads,
    "mistral: window": mistral_with_a_window_as_long_as_the_prompt,
    "phi3: short factors": phi3_with_two_sets_of_factors(1024),
    "phi3: long factors": phi3_with_two_sets_of_factors(128),
    "phi4: still dimensions": phi4_with_still_dimensions,
    "gemma2: short window": gemma2_with_a_short_window,
    "gemma3: rhythm": gemma3_with_another_rhythm,
    "gemma3: slower global rotation": gemma3_with_slower_global_rotation,
    "qwen2: output matrix": qwen2_with_an_output_matrix,
}


@pytest.mark.parametrize("name", VARIANTS)
async def test_what_no_recorded_model_has_is_computed_alike(name: str, tmp_path: Path) -> None:
    model = VARIANTS[name]()
    convert(model.write(tmp_path / "checkpoint"), tmp_path / "model.gguf")
    truth = next_token(model.config, model.tensors, model.prompt)
    difference = worst(await answer(tmp_path / "model.gguf", model.prompt), truth)
    print(f"{name}: {difference:.4f}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
async def test_a_source_of_16_bits_gives_the_answers_of_its_own_values(dtype: str, tmp_path: Path) -> None:
    model = TinyDecoder.load("qwen3")
    model.dtype = dtype
    for name, values in model.tensors.items():
        cut = values.astype("f2").astype("f4") if dtype == "F16" else (values.view("<u4") & 0xFFFF0000).view("<f4")
        model.tensors[name] = cut
    convert(model.write(tmp_path / "checkpoint"), tmp_path / "model.gguf")
    truth = next_token(model.config, model.tensors, model.prompt)
    difference = worst(await answer(tmp_path / "model.gguf", model.prompt), truth)
    print(f"qwen3 in {dtype}: {difference:.4f}")
    assert difference <= TOLERANCE

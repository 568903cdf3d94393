"""What all decoders share: names, sizes, completeness, types, shards, 8-bit sources, memory.

Whether the answers are right is shown in `test_truth.py`.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from llamero.build.convert import convert_in_child
from llamero.build.convert.conversion import convert
from llamero.errors import BadRequest
from tests.build.convert.asking import TOLERANCE, answer, worst
from tests.build.convert.forward import next_token
from tests.build.convert.reading import metadata, tensors, types
from tests.build.convert.tiny_bert import pack
from tests.build.convert.tiny_decoder import NAMES, TinyDecoder
from tests.build.convert.tiny_fp8 import pack_fp8, quantized

Q, K = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"


@pytest.fixture
def llama() -> TinyDecoder:
    return TinyDecoder.load("llama")


@pytest.fixture
def converted(tmp_path: Path) -> Callable[[TinyDecoder], Path]:
    def run(model: TinyDecoder) -> Path:
        convert(model.write(tmp_path / "checkpoint"), tmp_path / "model.gguf")
        return tmp_path / "model.gguf"

    return run


# --- keys ---


def test_sizes_are_told_in_the_engines_words(llama: TinyDecoder, converted) -> None:
    found = metadata(converted(llama))
    assert {key: value for key, value in found.items() if not key.startswith("tokenizer.")} == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "llama 103K",
        "general.size_label": "103K",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 2048,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.vocab_size": 459,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 500_000.0,
    }


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("meta-llama/Llama-3.2-1B", "Llama-3.2-1B"),
        ("/home/someone/out/my-model/", "my-model"),
        ("", "llama 103K"),
        (None, "llama 103K"),
    ],
)
def test_a_model_is_called_what_its_author_called_it(llama: TinyDecoder, converted, said: Any, name: str) -> None:
    llama.config["_name_or_path"] = said
    assert metadata(converted(llama))["general.name"] == name


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_matrices_keep_16_bits_and_vectors_have_32(llama: TinyDecoder, converted, dtype: str) -> None:
    """partly S-83: the other tests that name it are about the dimensions and duplicates."""
    llama.dtype = dtype
    path = converted(llama)
    wide = "BF16" if dtype == "BF16" else "F16"
    assert types(path) == {
        name: "F32" if "_norm." in name or name.startswith("rope_freqs") else wide for name in types(path)
    }
    assert metadata(path)["general.file_type"] == {"BF16": 32, "F16": 1}[wide]


def test_dimensions_are_reversed_and_all_values_are_there(llama: TinyDecoder, converted) -> None:
    """partly S-83"""
    path = converted(llama)
    shapes = {tensor.name: tensor.shape.tolist() for tensor in GGUFReader(path).tensors}
    assert (shapes["blk.0.ffn_up.weight"], shapes["blk.0.ffn_down.weight"]) == ([64, 128], [128, 64])
    np.testing.assert_allclose(
        tensors(path)["blk.1.ffn_up.weight"], llama.tensors["model.layers.1.mlp.up_proj.weight"], rtol=1e-3, atol=1e-6
    )


# --- how values change ---


def test_rows_of_each_head_alternate_between_its_halves(llama: TinyDecoder, converted) -> None:
    for name in (Q, K):
        rows = llama.tensors[name].shape[0]
        llama.tensors[name] = np.repeat(np.arange(rows, dtype="f4")[:, None], 64, axis=1)
    found = tensors(converted(llama))
    head = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]
    for name, heads in (("blk.0.attn_q.weight", 4), ("blk.0.attn_k.weight", 2)):
        assert found[name][:, 0].tolist() == [16 * number + row for number in range(heads) for row in head]


def test_values_and_other_families_keep_the_order_of_their_rows(converted) -> None:
    model = TinyDecoder.load("qwen3")
    model.tensors[Q] = np.repeat(np.arange(128, dtype="f4")[:, None], 64, axis=1)
    assert tensors(converted(model))["blk.0.attn_q.weight"][:, 0].tolist() == list(range(128))


def test_experts_are_stacked_by_their_numbers(converted) -> None:
    """partly S-85: w1 is the gate, w2 comes down, w3 goes up."""
    model = TinyDecoder.load("mixtral")
    for expert in range(4):
        for matrix, mark in (("w1", 1), ("w2", 2), ("w3", 3)):
            name = f"model.layers.1.block_sparse_moe.experts.{expert}.{matrix}.weight"
            model.tensors[name] = np.full_like(model.tensors[name], 10 * mark + expert)
    path = converted(model)
    found = tensors(path)
    for kind, mark, shape in (("gate", 1, (128, 64)), ("down", 2, (64, 128)), ("up", 3, (128, 64))):
        stack = found[f"blk.1.ffn_{kind}_exps.weight"]
        assert stack.shape == (4, *shape)
        assert stack[:, 0, 0].tolist() == [10 * mark + expert for expert in range(4)]
    assert types(path)["blk.1.ffn_gate_inp.weight"] == "F32", "the router stays exact"
    assert {key: metadata(path)[f"llama.{key}"] for key in ("expert_count", "expert_used_count")} == {
        "expert_count": 4,
        "expert_used_count": 2,
    }


def test_experts_of_different_types_are_refused(converted) -> None:
    model = TinyDecoder.load("mixtral")
    name = "model.layers.0.block_sparse_moe.experts.2.w1.weight"
    model.files["second.safetensors"] = pack({name: model.tensors.pop(name)}, "BF16")
    with pytest.raises(BadRequest, match=r"the tensors that make 'blk\.0\.ffn_gate_exps\.weight' have different types"):
        converted(model)


def test_norms_of_gemma_are_stored_whole(converted) -> None:
    model = TinyDecoder.load("gemma3")
    model.tensors["model.norm.weight"] = np.full(64, 0.25, "f4")
    model.tensors["model.layers.2.self_attn.k_norm.weight"] = np.full(32, -0.5, "f4")
    found = tensors(converted(model))
    assert set(found["output_norm.weight"]) == {1.25}
    assert set(found["blk.2.attn_k_norm.weight"]) == {0.5}


def test_a_tied_output_matrix_is_not_stored_twice(llama: TinyDecoder, converted) -> None:
    llama.tensors["lm_head.weight"] = llama.tensors["model.embed_tokens.weight"]
    assert "output.weight" not in tensors(converted(llama))


def test_frequencies_that_follow_from_the_config_may_lie_in_the_file(llama: TinyDecoder, converted) -> None:
    llama.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, "f4")
    converted(llama)


def test_older_names_of_the_rotation_mean_the_same(llama: TinyDecoder, converted, tmp_path: Path) -> None:
    newer = converted(llama).read_bytes()
    rope = llama.config.pop("rope_parameters")
    llama.config["rope_theta"] = rope.pop("rope_theta")
    llama.config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    assert converted(llama).read_bytes() == newer


def test_older_words_for_the_rhythm_of_gemma_mean_the_same(converted) -> None:
    model = TinyDecoder.load("gemma3")
    model.config["layer_types"] = (["sliding_attention"] * 2 + ["full_attention"]) * 2
    model.config["rope_parameters"] = {
        "full_attention": {"rope_theta": 500_000.0, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 5_000.0, "rope_type": "default"},
    }
    newer = converted(model).read_bytes()
    for key in ("layer_types", "rope_parameters", "_sliding_window_pattern"):
        del model.config[key]
    model.config |= {
        "sliding_window_pattern": 3,
        "rope_theta": 500_000.0,
        "rope_scaling": {"type": "linear", "factor": 8.0},
        "rope_local_base_freq": 5_000.0,
    }
    assert converted(model).read_bytes() == newer


# --- what is missing, left over, or of another shape ---


@pytest.mark.parametrize("name", [name for name in NAMES if name != "qwen2-sharded"])
def test_every_weight_is_needed(name: str, converted) -> None:
    model = TinyDecoder.load(name)
    whole = dict(model.tensors)
    for unwanted in whole:
        model.tensors = {name: values for name, values in whole.items() if name != unwanted}
        if unwanted == "lm_head.weight":
            assert not model.config["tie_word_embeddings"]
        with pytest.raises(BadRequest, match=f"tensor '{unwanted}' is missing"):
            converted(model)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.2.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight_packed",
        "transformer.h.0.ln_1.weight",
        "vision_tower.vision_model.post_layernorm.weight",
    ],
)
def test_a_weight_without_a_place_is_named(llama: TinyDecoder, converted, tmp_path: Path, name: str) -> None:
    llama.tensors[name] = np.ones(64, "f4")
    with pytest.raises(BadRequest, match=f"unexpected tensor '{name}'"):
        converted(llama)
    assert not (tmp_path / "model.gguf").exists()


def test_one_weight_under_two_names_is_refused(llama: TinyDecoder, converted) -> None:
    """partly S-83"""
    llama.tensors["language_model.model.norm.weight"] = llama.tensors["model.norm.weight"]
    with pytest.raises(BadRequest, match=r"duplicate tensor name 'model\.norm\.weight' was found for this model"):
        converted(llama)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("intermediate_size", 96, r"mlp.gate_proj.weight' has shape \[128, 64\], config.json calls for \[96, 64\]"),
        ("hidden_size", 128, r"embed_tokens.weight' has shape \[459, 64\], config.json calls for \[459, 128\]"),
        ("vocab_size", 460, r"embed_tokens.weight' has shape \[459, 64\], config.json calls for \[460, 64\]"),
        ("num_key_value_heads", 4, r"k_proj.weight' has shape \[32, 64\], config.json calls for \[64, 64\]"),
        ("head_dim", 32, r"q_proj.weight' has shape \[64, 64\], config.json calls for \[128, 64\]"),
        ("num_hidden_layers", 3, r"tensor 'model.layers.2.input_layernorm.weight' is missing"),
        ("num_hidden_layers", 10_000, r"tensor 'model.layers.2.input_layernorm.weight' is missing"),
        ("num_hidden_layers", 1, r"unexpected tensor 'model.layers.1."),
        ("attention_bias", True, r"q_proj.bias' is missing"),
        ("mlp_bias", True, r"gate_proj.bias' is missing"),
        ("tie_word_embeddings", False, r"'lm_head.weight' is missing"),
    ],
)
def test_tensors_that_contradict_the_config_are_named(
    llama: TinyDecoder, converted, key: str, value: Any, message: str
) -> None:
    llama.config[key] = value
    with pytest.raises(BadRequest, match=message):
        converted(llama)


# --- config.json ---

COUNTS = [
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
]
NOT_COUNTS = [0, -1, 1.0, 2.5, "64", True, [64], {}, 10**30, float("nan"), float("inf")]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=str)
@pytest.mark.parametrize("key", [*COUNTS, "num_key_value_heads", "head_dim"])
def test_a_size_that_cannot_be_is_refused_by_name(llama: TinyDecoder, converted, key: str, value: Any) -> None:
    llama.config[key] = value
    with pytest.raises(BadRequest, match=f"config.json: '{key}' must be an integer from 1 to"):
        converted(llama)


@pytest.mark.parametrize("key", sorted({*COUNTS, "vocab_size"} - {"max_position_embeddings"}))
def test_a_size_that_is_missing_is_named(llama: TinyDecoder, converted, key: str) -> None:
    del llama.config[key]
    with pytest.raises(BadRequest, match=f"'{key}' must be an integer"):
        converted(llama)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"num_attention_heads": 5, "head_dim": None}, "'num_attention_heads' 5 does not divide"),
        ("llama", {"num_key_value_heads": 3}, "'num_key_value_heads' 3 does not divide the 4 heads"),
        ("llama", {"head_dim": 15}, "'head_dim' 15 is odd"),
        ("llama", {"rms_norm_eps": 0}, "'rms_norm_eps' must be a number between 0 and 1"),
        ("llama", {"rms_norm_eps": float("nan")}, "'rms_norm_eps'"),
        ("llama", {"rms_norm_eps": "small"}, "'rms_norm_eps'"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ("llama", {"attention_bias": "yes"}, "'attention_bias' must be true or false"),
        ("llama", {"tie_word_embeddings": 1}, "'tie_word_embeddings' must be true or false"),
        ("llama", {"rope_parameters": []}, "'rope_parameters' must be an object"),
        ("llama", {"rope_parameters": {"rope_type": 3}}, "'rope_type' must be a text"),
        ("llama", {"rope_parameters": {"rope_type": "mrope"}}, "rope_type 'mrope' is not supported"),
        ("llama", {"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not supported"),
        ("llama", {"rope_parameters": {"rope_theta": 0}}, "'rope_theta' must be a number above 0"),
        ("llama", {"rope_parameters": {"rope_theta": -1e4}}, "'rope_theta'"),
        ("llama", {"rope_parameters": {"rope_theta": 1e300}}, "'rope_theta'"),
        ("llama", {"rope_parameters": {"rope_theta": 10**400}}, "'rope_theta'"),
        ("llama", {"rope_parameters": {"rope_theta": True}}, "'rope_theta'"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "'factor' must be a number above 0"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0}}, "'factor'"),
        ("llama", {"rope_parameters": LLAMA3 | {"factor": None}}, "'factor'"),
        ("llama", {"rope_parameters": LLAMA3 | {"low_freq_factor": -1}}, "'low_freq_factor'"),
        ("llama", {"rope_parameters": LLAMA3 | {"high_freq_factor": 1}}, "must be above 'low_freq_factor'"),
        ("llama", {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 0.5}}, "'original_max_position"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4, "beta_fast": 8}}, "beta_fast '8'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4, "truncate": False}}, "truncate 'False'"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "'partial_rotary_factor' below 1"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 7}}, "'partial_rotary_factor' must be"),
        ("llama", {"quantization_config": 4}, "'quantization_config' must be an object"),
        ("qwen2", {"rope_parameters": LLAMA3}, "rope_type 'llama3' is not supported"),
        ("gemma2", {"rope_parameters": {"rope_type": "yarn", "factor": 2}}, "rope_type 'yarn' is not supported"),
        (
            "gemma3",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2}}},
            "rope_type 'linear' is not supported",
        ),
        ("mistral", {"sliding_window": -1}, "'sliding_window' must be an integer"),
        ("mixtral", {"num_local_experts": 0}, "'num_local_experts' must be an integer from 1 to 512"),
        ("mixtral", {"num_local_experts": 10**9}, "'num_local_experts'"),
        ("mixtral", {"num_local_experts": 5}, r"gate.weight' has shape \[4, 64\]"),
        ("mixtral", {"num_experts_per_tok": 5}, "'num_experts_per_tok' must be an integer from 1 to 4"),
        ("qwen3", {"attention_bias": True}, "attention_bias 'True' is not supported"),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": "no"}, "'use_sliding_window' must be true or false"),
        ("qwen3moe", {"decoder_sparse_step": 2}, "decoder_sparse_step '2' is not supported"),
        ("qwen3moe", {"mlp_only_layers": [1]}, r"mlp_only_layers '\[1\]' is not supported"),
        ("qwen3moe", {"norm_topk_prob": False}, "norm_topk_prob 'False' is not supported"),
        ("qwen3moe", {"num_local_experts": None}, "'num_experts' must be an integer"),
        ("qwen3moe", {"moe_intermediate_size": None}, "'moe_intermediate_size' must be an integer"),
        ("gemma2", {"query_pre_attn_scalar": 144}, "query_pre_attn_scalar '144' is not supported"),
        ("gemma2", {"attn_logit_softcapping": -5}, "'attn_logit_softcapping' must be a number above 0"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "these 'layer_types' are not supported"),
        ("gemma2", {"layer_types": [1, 2]}, "'layer_types' must be a list of texts"),
        ("gemma2", {"tie_word_embeddings": False}, "tie_word_embeddings 'False'|lm_head"),
        ("gemma2", {"hidden_activation": "relu"}, "hidden_activation 'relu' is not supported"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention"] * 3}, "these 'layer_types'"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping '30.0' is not supported"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention 'True'"),
        ("gemma3", {"rope_parameters": {}, "rope_local_base_freq": 0}, "'rope_local_base_freq' must be a number"),
        ("gemma3", {"sliding_window": 1 << 40}, "'sliding_window' must be an integer"),
        ("phi3", {"head_dim": 32}, "'head_dim' times 'num_attention_heads' must be 'hidden_size'"),
        ("phi3", {"rope_parameters": {"rope_type": "yarn", "factor": 2}}, "rope_type 'yarn' is not supported"),
        ("phi3", {"rope_parameters": {"rope_type": "su"}}, "'long_factor' must be a list of 8 numbers"),
        ("phi3", {"rope_parameters": {"rope_type": "su", "long_factor": [1.0] * 7}}, "'long_factor' must be a list"),
        ("phi3", {"rope_parameters": {"rope_type": "su", "long_factor": [0.0] * 8}}, "'long_factor' must hold numbers"),
        ("phi3", {"rope_parameters": {"rope_type": "su", "long_factor": ["1"] * 8}}, "'long_factor' must hold numbers"),
    ],
)  # fmt: skip
def test_a_setting_that_the_engine_cannot_honour_is_refused_by_name(
    converted, name: str, change: dict[str, Any], message: str
) -> None:
    model = TinyDecoder.load(name)
    model.config |= change
    with pytest.raises(BadRequest, match=message):
        converted(model)


def test_a_window_that_the_engine_does_not_mind_is_a_warning(tmp_path: Path) -> None:
    model = TinyDecoder.load("mistral")
    model.config["sliding_window"] = 1024
    heard: list[str] = []
    folder = model.write(tmp_path / "checkpoint")
    convert_in_child(folder, tmp_path / "model.gguf", lambda *_: None, warn=heard.append)
    assert "config.json: sliding_window 1024 has no effect, attention sees the whole context" in heard


def test_a_window_as_long_as_the_context_or_switched_off_is_none(tmp_path: Path) -> None:
    for name, change in (
        ("mistral", {"sliding_window": 2048}),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}),
        ("qwen2", {"sliding_window": 8}),
    ):
        model = TinyDecoder.load(name)
        model.config |= change
        warnings = convert(model.write(tmp_path / name), tmp_path / "model.gguf")
        assert not [text for text in warnings if "sliding_window" in text]


# --- shards ---


@pytest.fixture
def shards(llama: TinyDecoder) -> TinyDecoder:
    """The tiny Llama in three files with an index."""
    names = sorted(llama.tensors)
    files = {f"model-0000{number}-of-00003.safetensors": names[number - 1 :: 3] for number in (1, 2, 3)}
    for file, content in files.items():
        llama.files[file] = pack({name: llama.tensors[name] for name in content})
    index = {name: file for file, content in files.items() for name in content}
    llama.files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    return llama


def written(model: TinyDecoder, folder: Path) -> Path:
    """With the files of its own, and without the one that holds everything."""
    model.write(folder)
    (folder / "model.safetensors").unlink()
    return folder


def test_shards_together_give_the_same_file(shards: TinyDecoder, tmp_path: Path) -> None:
    convert(shards.origin, tmp_path / "one.gguf")
    convert(written(shards, tmp_path / "checkpoint"), tmp_path / "three.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "three.gguf").read_bytes()


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_shard_is_named(shards: TinyDecoder, tmp_path: Path, with_index: bool) -> None:
    folder = written(shards, tmp_path / "checkpoint")
    (folder / "model-00002-of-00003.safetensors").unlink()
    if not with_index:
        (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(BadRequest, match=r"'model-00002-of-00003\.safetensors' of the checkpoint is missing"):
        convert(folder, tmp_path / "model.gguf")


def test_a_tensor_that_only_the_index_has_is_named(shards: TinyDecoder, tmp_path: Path) -> None:
    index = json.loads(shards.files["model.safetensors.index.json"])
    index["weight_map"]["model.extra"] = "model-00001-of-00003.safetensors"
    shards.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(BadRequest, match=r"'model\.extra' is missing: the index has it, no file does"):
        convert(written(shards, tmp_path / "checkpoint"), tmp_path / "model.gguf")


@pytest.mark.parametrize("index", ['{"weight_map": []}', '{"weight_map": {"x": 1}}', "[]", "{"])
def test_an_index_that_is_none_is_refused(shards: TinyDecoder, tmp_path: Path, index: str) -> None:
    shards.files["model.safetensors.index.json"] = index.encode()
    with pytest.raises(BadRequest, match=r"model\.safetensors\.index\.json"):
        convert(written(shards, tmp_path / "checkpoint"), tmp_path / "model.gguf")


def test_an_index_cannot_reach_out_of_the_folder(shards: TinyDecoder, tmp_path: Path) -> None:
    (tmp_path / "outside.safetensors").write_bytes(pack({"x": np.ones(1, "f4")}))
    index = {"weight_map": {"x": "../outside.safetensors"}}
    shards.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(BadRequest, match=r"'\.\./outside\.safetensors' of the checkpoint is missing"):
        convert(written(shards, tmp_path / "checkpoint"), tmp_path / "model.gguf")


def test_the_publishers_own_copy_of_the_weights_is_left_alone(llama: TinyDecoder, converted) -> None:
    alone = converted(llama).read_bytes()
    llama.files["consolidated.safetensors"] = pack({"layers.0.attention.wq.weight": np.ones((2, 2), "f4")})
    assert converted(llama).read_bytes() == alone


# --- 8-bit sources ---


@pytest.fixture
def fp8() -> TinyDecoder:
    """A tiny model as DeepSeek and Qwen publish: 8-bit matrices of blocks, here of 16 x 48, each with a scale."""
    model = TinyDecoder.load("qwen3")
    model.config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 48]}
    model.files["model.safetensors"] = pack_fp8(model.tensors, block=(16, 48))
    return model


async def test_a_checkpoint_of_scaled_8_bit_floats_answers_as_its_values_do(fp8: TinyDecoder, converted) -> None:
    """partly S-84: that such a model becomes Q8_0 is decided by who asked for the conversion."""
    fp8.files["model.safetensors"] = pack_fp8(fp8.tensors, block=(16, 48), even=True)
    path = converted(fp8)
    fp8.tensors = {name: quantized(values, (16, 48), even=True)[2] for name, values in fp8.tensors.items()}
    assert metadata(path)["qwen3.source_quantization"] == "hf_fp8"
    assert metadata(path)["general.file_type"] == 32
    found = tensors(path)["blk.0.ffn_up.weight"]
    np.testing.assert_array_equal(found, fp8.tensors["model.layers.0.mlp.up_proj.weight"])
    truth = next_token(fp8.config, fp8.tensors, fp8.prompt)
    difference = worst(await answer(path, fp8.prompt), truth)
    print(f"qwen3 in F8_E4M3: {difference:.4f}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize(
    ("block", "suffix", "description"),
    [
        ((16, 48), "_scale_inv", {"weight_block_size": [16, 48]}),
        ((16, 48), "_scale", {"config_groups": {"group_0": {"weights": {"block_structure": [16, 48]}}}}),
        ((16, 48), ".scale", {"weight_block_size": [16, 48]}),
        ((16, 48), ".scale_inv", {"weight_block_size": [16, 48]}),
        ((1, 1 << 20), "_scale", {}),
        ((1 << 20, 1 << 20), "_scale", {}),
    ],
)
def test_scales_are_found_under_all_their_names(
    llama: TinyDecoder, converted, block: tuple[int, int], suffix: str, description: dict[str, Any]
) -> None:
    llama.config["quantization_config"] = description
    llama.files["model.safetensors"] = pack_fp8(llama.tensors, block=block, suffix=suffix)
    name = "model.layers.1.mlp.down_proj.weight"
    wanted = quantized(llama.tensors[name], block)[2]
    np.testing.assert_allclose(tensors(converted(llama))["blk.1.ffn_down.weight"], wanted, rtol=1 / 256)


def test_a_missing_scale_is_named(fp8: TinyDecoder, converted) -> None:
    """partly S-84"""
    fp8.files["model.safetensors"] = pack_fp8(fp8.tensors, block=(16, 48), without_scale=K)
    with pytest.raises(BadRequest, match=f"tensor '{K}' has 8-bit values, and its scale is missing"):
        converted(fp8)


@pytest.mark.parametrize("size", [None, [16, 16], [128, 128]])
def test_a_scale_of_another_shape_is_named(fp8: TinyDecoder, converted, size: Any) -> None:
    fp8.config["quantization_config"]["weight_block_size"] = size
    with pytest.raises(BadRequest, match=r"tensor '\S+' of shape \[\d+, \d+\] does not fit its scale of shape"):
        converted(fp8)


@pytest.mark.parametrize("size", [[0, 16], [16], "16", [16.0, 48], [1 << 40, 1]])
def test_a_block_size_that_cannot_be_is_refused(fp8: TinyDecoder, converted, size: Any) -> None:
    fp8.config["quantization_config"]["weight_block_size"] = size
    with pytest.raises(BadRequest, match="the block size of the quantization must be two integers"):
        converted(fp8)


def test_scales_for_other_engines_are_left_out(fp8: TinyDecoder, converted) -> None:
    plain = converted(fp8).read_bytes()
    extra = {"model.layers.0.mlp.up_proj.input_scale": np.ones(1, "f4")}
    fp8.files["model.safetensors"] = pack_fp8(fp8.tensors | extra, block=(16, 48))
    found = tensors(converted(fp8))
    assert len(found) == plain.count(b".weight")


# --- memory ---


def test_stacking_experts_needs_the_memory_of_no_stack(tmp_path: Path) -> None:
    """partly S-85. The largest tensor of the checkpoint is an expert's matrix, the largest of the GGUF all of them."""
    model = TinyDecoder.load("mixtral")
    model.config |= {"num_local_experts": 8, "intermediate_size": 8192, "num_hidden_layers": 1}
    model.without(lambda name: "layers." in name and ("experts" in name or "layers.1" in name or "gate" in name))
    model.add("model.layers.0.block_sparse_moe.gate.weight", 8, 64)
    for expert in range(8):
        for matrix, shape in (("w1", (8192, 64)), ("w2", (64, 8192)), ("w3", (8192, 64))):
            model.tensors[f"model.layers.0.block_sparse_moe.experts.{expert}.{matrix}.weight"] = np.ones(shape, "f4")
    folder = model.write(tmp_path / "checkpoint")
    largest_source = max(values.nbytes for values in model.tensors.values())
    model.tensors.clear()
    convert(folder, tmp_path / "warm-up.gguf")
    tracemalloc.start()
    convert(folder, tmp_path / "model.gguf")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    largest_output = max(int(tensor.n_bytes) for tensor in GGUFReader(tmp_path / "model.gguf").tensors)
    assert (largest_source, largest_output) == (2 << 20, 8 << 20)
    assert peak_bytes < 2 * largest_source

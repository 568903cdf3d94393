"""LoRA adapters: the engine with base and adapter answers as the merged model would."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero.build.convert import convert_adapter_in_child
from llamero.build.convert.adapter import convert_adapter
from llamero.build.convert.conversion import convert
from llamero.build.convert.safetensors import read_safetensors
from llamero.errors import BadRequest, Cancelled
from tests.build.convert.asking import TOLERANCE, answer, reference, worst
from tests.build.convert.forward import next_token
from tests.build.convert.reading import metadata, tensors, types
from tests.build.convert.tiny_bert import pack
from tests.build.convert.tiny_decoder import DATA, TinyDecoder

RECORDED = DATA / "hf-tiny-lora"
PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}
RANK = 4


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The tiny Llama, converted."""
    convert(DATA / "hf-tiny" / "llama", tmp_path / "base.gguf")
    return tmp_path / "base.gguf"


def recorded() -> dict[str, np.ndarray]:
    stored = read_safetensors(RECORDED / "adapter_model.safetensors")
    return {name: tensor.bits() for name, tensor in stored.items()}


def write_adapter(folder: Path, values: dict[str, np.ndarray], config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(pack(values))
    return folder


async def test_the_recorded_adapter_gives_the_recorded_answer(base: Path, tmp_path: Path) -> None:
    convert_adapter_in_child(RECORDED, base, tmp_path / "adapter.gguf", lambda completed, total: None)
    description = json.loads((RECORDED / "reference.json").read_text())
    prompt = description["prompt_tokens"]
    for adapters, key in (((tmp_path / "adapter.gguf",), "next_token_top10"), ((), "base_next_token_top10")):
        difference = worst(await answer(base, prompt, adapters=adapters), reference(description, key))
        print(f"{key}: {difference:.4f}")
        assert difference <= TOLERANCE


def test_the_file_says_what_it_is_and_how_strong(base: Path, tmp_path: Path) -> None:
    convert_adapter(RECORDED, base, tmp_path / "adapter.gguf")
    assert metadata(tmp_path / "adapter.gguf") == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.version": "v0.2",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }


def test_pairs_have_the_names_and_shapes_that_the_engine_looks_for(base: Path, tmp_path: Path) -> None:
    convert_adapter(RECORDED, base, tmp_path / "adapter.gguf")
    found = tensors(tmp_path / "adapter.gguf")
    assert {name: values.shape for name, values in found.items()} == {
        f"blk.{block}.{name}": shape
        for block in range(2)
        for name, shape in {
            "attn_q.weight.lora_a": (4, 64),
            "attn_q.weight.lora_b": (64, 4),
            "attn_v.weight.lora_a": (4, 64),
            "attn_v.weight.lora_b": (32, 4),
            "ffn_down.weight.lora_a": (4, 128),
            "ffn_down.weight.lora_b": (64, 4),
        }.items()
    }


def test_rows_of_b_lie_as_rows_of_the_merged_matrix_do(tmp_path: Path) -> None:
    """The reference program reorders A instead: then these two would differ."""
    model = TinyDecoder.load("llama")
    adapter = {
        name: values for name, values in random_adapter(model, 3).items() if "q_proj" in name or "k_proj" in name
    }
    merge(model, adapter)
    convert(model.origin, tmp_path / "base.gguf")
    convert(model.write(tmp_path / "merged"), tmp_path / "merged.gguf")
    convert_adapter(write_adapter(tmp_path / "lora", adapter), tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    base, merged, pair = (tensors(tmp_path / f"{name}.gguf") for name in ("base", "merged", "adapter"))
    for name in ("blk.0.attn_q.weight", "blk.1.attn_k.weight"):
        change = 2 * pair[f"{name}.lora_b"] @ pair[f"{name}.lora_a"]
        assert np.abs(change).max() > 0.1
        np.testing.assert_allclose(base[name] + change, merged[name], atol=2e-3)


# --- every family ---


def random_adapter(model: TinyDecoder, seed: int) -> dict[str, np.ndarray]:
    """A pair for every matrix of every block, but for routers."""
    random = np.random.default_rng(seed)
    pairs = {}
    for name, values in model.tensors.items():
        if ".layers." in name and values.ndim == 2 and ".gate." not in name:
            module = PREFIX + name.removesuffix(".weight")
            rows, columns = values.shape
            pairs[f"{module}.lora_A.weight"] = (random.normal(size=(RANK, columns)) * 0.05).astype("f4")
            pairs[f"{module}.lora_B.weight"] = (random.normal(size=(rows, RANK)) * 0.3).astype("f4")
    return pairs


def merge(model: TinyDecoder, adapter: dict[str, np.ndarray], scale: float = 8 / RANK) -> None:
    for name, a in adapter.items():
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            change = scale * adapter[f"{module}.lora_B.weight"] @ a
            target = f"{module.removeprefix(PREFIX)}.weight"
            model.tensors[target] = (model.tensors[target] + change).astype("f4")


FAMILIES = ["llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3"]


@pytest.mark.parametrize("name", FAMILIES)
async def test_an_adapter_for_every_matrix_answers_like_the_merged_model(name: str, tmp_path: Path) -> None:
    model = TinyDecoder.load(name)
    adapter = random_adapter(model, seed=11)
    convert(model.origin, tmp_path / "base.gguf")
    convert_adapter(write_adapter(tmp_path / "lora", adapter), tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    before = next_token(model.config, model.tensors, model.prompt)
    merge(model, adapter)
    truth = next_token(model.config, model.tensors, model.prompt)
    assert worst(before, truth) > 10 * TOLERANCE, "the adapter must matter"
    found = await answer(tmp_path / "base.gguf", model.prompt, adapters=(tmp_path / "adapter.gguf",), count=50)
    difference = worst(found, truth)
    print(f"{name} with an adapter: {difference:.4f}")
    assert difference <= TOLERANCE


# --- other ways of writing one ---


def test_mlx_names_and_its_own_scale_are_understood(base: Path, tmp_path: Path) -> None:
    turned = {
        name.removeprefix(PREFIX)
        .replace("lora_A.weight", "lora_a")
        .replace("lora_B.weight", "lora_b"): np.ascontiguousarray(values.T)
        for name, values in recorded().items()
    }
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 2.0}}
    convert_adapter(write_adapter(tmp_path / "mlx", turned, config), base, tmp_path / "mlx.gguf")
    convert_adapter(RECORDED, base, tmp_path / "peft.gguf")
    assert (tmp_path / "mlx.gguf").read_bytes() == (tmp_path / "peft.gguf").read_bytes()


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        (CONFIG, 8.0),
        (CONFIG | {"lora_alpha": 0.5}, 0.5),
        (CONFIG | {"use_rslora": True}, 8.0 * math.sqrt(RANK)),
        (CONFIG | {"r": 64, "rank_pattern": {"q_proj": 4}}, 8.0),
        ({"lora_parameters": {"alpha": 3}}, 3.0),
        ({"lora_parameters": {"scale": 20.0}}, 80.0),
    ],
)
def test_the_strength_is_what_the_engine_divides_by_the_rank(
    base: Path, tmp_path: Path, config: dict[str, Any], alpha: float
) -> None:
    convert_adapter(write_adapter(tmp_path / "lora", recorded(), config), base, tmp_path / "adapter.gguf")
    assert metadata(tmp_path / "adapter.gguf")["adapter.lora.alpha"] == alpha


def test_names_as_a_training_run_keeps_them_are_known(base: Path, tmp_path: Path) -> None:
    renamed = {name.replace(".weight", ".default.weight"): values for name, values in recorded().items()}
    convert_adapter(write_adapter(tmp_path / "lora", renamed), base, tmp_path / "adapter.gguf")
    assert len(tensors(tmp_path / "adapter.gguf")) == len(renamed)


def test_an_adapter_in_brain_floats_stays_in_them(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", {})
    (folder / "adapter_model.safetensors").write_bytes(pack(recorded(), "BF16"))
    convert_adapter(folder, base, tmp_path / "adapter.gguf")
    assert set(types(tmp_path / "adapter.gguf").values()) == {"BF16"}
    assert metadata(tmp_path / "adapter.gguf")["general.file_type"] == 32


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"modules_to_save": ["lm_head", "embed_tokens"]},
            r"modules_to_save \(lm_head, embed_tokens\) is not supported",
        ),
        ({"alpha_pattern": {"q_proj": 16}}, r"alpha_pattern \(q_proj\) is not supported"),
        ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices \(1, 2\)"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported"),
        ({"bias": "all"}, "bias 'all' is not supported"),
        ({"use_dora": True}, "use_dora 'True' is not supported"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_bias": True}, "lora_bias"),
        ({"lora_alpha": None}, "'lora_alpha' must be a number above 0"),
        ({"lora_alpha": -8}, "'lora_alpha'"),
        ({"lora_alpha": 1e300}, "'lora_alpha'"),
        ({"lora_alpha": "8"}, "'lora_alpha'"),
        ({"lora_alpha": float("nan")}, "'lora_alpha'"),
        ({"use_rslora": "yes"}, "'use_rslora' must be true or false"),
        ({"lora_parameters": 5}, "'lora_parameters' must be an object"),
        ({"lora_parameters": {"scale": 0}}, "'scale'"),
    ],
)
def test_what_goes_beyond_two_thin_matrices_is_refused_by_name(
    base: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_adapter(tmp_path / "lora", recorded(), CONFIG | change)
    with pytest.raises(BadRequest, match=rf"adapter_config.json: {message}"):
        convert_adapter(folder, base, tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()


Q = f"{PREFIX}model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{Q}.lora_magnitude_vector": np.ones(64, "f4")}, "'.*lora_magnitude_vector' is not supported"),
        ({f"{Q}.weight": np.ones((64, 64), "f4")}, "q_proj.weight' is not supported"),
        ({f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((4, 459), "f4")}, "lora_embedding_A' is not"),
        ({f"{Q}.lora_B.weight": np.ones((64, 5), "f4")}, "the two matrices of 'model.layers.0.*' differ in rank"),
        ({f"{Q}.lora_B.weight": np.ones((32, 4), "f4")}, r"shapes \[4, 64\] and \[32, 4\], the base model calls for"),
        ({f"{Q}.lora_A.weight": np.ones(4, "f4")}, "q_proj.lora_A.weight' is not supported"),
        ({f"{Q}.lora_A.default.weight": np.ones((4, 64), "f4")}, "duplicate tensor name '.*q_proj.lora_A"),
        ({f"{Q}.lora_A.weight": None}, "only one of the two matrices of 'model.layers.0.self_attn.q_proj'"),
        (
            {
                f"{PREFIX}model.layers.7.mlp.up_proj.lora_A.weight": np.ones((4, 64), "f4"),
                f"{PREFIX}model.layers.7.mlp.up_proj.lora_B.weight": np.ones((128, 4), "f4"),
            },
            "changes 'model.layers.7.mlp.up_proj', which is not supported",
        ),
        (
            {
                f"{PREFIX}lm_head.lora_A.weight": np.ones((4, 64), "f4"),
                f"{PREFIX}lm_head.lora_B.weight": np.ones((459, 4), "f4"),
            },
            "changes 'lm_head', which the base model does not have",
        ),
        (
            {
                f"{PREFIX}vision_tower.x.lora_A.weight": np.ones((4, 64), "f4"),
                f"{PREFIX}vision_tower.x.lora_B.weight": np.ones((64, 4), "f4"),
            },
            "changes 'vision_tower.x', which is not supported",
        ),
    ],
)
def test_tensors_that_have_no_place_are_named(base: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = {name: value for name, value in (recorded() | change).items() if value is not None}
    with pytest.raises(BadRequest, match=message):
        convert_adapter(write_adapter(tmp_path / "lora", values), base, tmp_path / "adapter.gguf")


def test_all_experts_of_a_block_must_be_changed_together(tmp_path: Path) -> None:
    model = TinyDecoder.load("mixtral")
    convert(model.origin, tmp_path / "base.gguf")
    some = {
        name: values
        for name, values in random_adapter(model, 1).items()
        if "layers.0.block_sparse_moe.experts.1" in name
    }
    with pytest.raises(BadRequest, match=r"only some of the experts of 'blk.0.ffn_gate_exps.weight'"):
        convert_adapter(write_adapter(tmp_path / "lora", some), tmp_path / "base.gguf", tmp_path / "adapter.gguf")


def test_different_ranks_cannot_share_a_scale_by_their_root(base: Path, tmp_path: Path) -> None:
    values = recorded() | {f"{Q}.lora_A.weight": np.ones((2, 64), "f4"), f"{Q}.lora_B.weight": np.ones((64, 2), "f4")}
    folder = write_adapter(tmp_path / "lora", values, CONFIG | {"use_rslora": True})
    with pytest.raises(BadRequest, match=r"matrices of ranks \[2, 4\] are not supported"):
        convert_adapter(folder, base, tmp_path / "adapter.gguf")


def test_a_folder_without_a_description_is_no_adapter(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", recorded())
    (folder / "adapter_config.json").unlink()
    with pytest.raises(BadRequest, match=r"adapter_config\.json is missing"):
        convert_adapter(folder, base, tmp_path / "adapter.gguf")


def test_a_base_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    projector = DATA / "vision-tiny" / "mmproj.gguf"
    with pytest.raises(BadRequest, match='unsupported architecture "clip"'):
        convert_adapter(RECORDED, projector, tmp_path / "adapter.gguf")


@pytest.mark.parametrize(
    ("content", "message"), [(b"not a model", "invalid file magic"), (b"", "unexpected end of file")]
)
def test_a_base_that_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "base.gguf").write_bytes(content)
    with pytest.raises(BadRequest, match=message):
        convert_adapter_in_child(RECORDED, tmp_path / "base.gguf", tmp_path / "adapter.gguf", lambda *_: None)


def test_an_adapter_for_a_model_of_other_sizes_says_so(tmp_path: Path) -> None:
    convert(DATA / "hf-tiny" / "qwen3", tmp_path / "base.gguf")
    with pytest.raises(BadRequest, match=r"'model.layers.0.self_attn.q_proj' have shapes .* calls for"):
        convert_adapter(RECORDED, tmp_path / "base.gguf", tmp_path / "adapter.gguf")


def test_a_cancelled_conversion_leaves_no_file(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        convert_adapter_in_child(RECORDED, base, tmp_path / "a.gguf", lambda *_: None, cancelled=lambda: True)
    assert not (tmp_path / "a.gguf").exists()

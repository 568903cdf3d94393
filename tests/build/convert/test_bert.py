"""BERT checkpoints become GGUF files. Whether the vectors are right is tested where the engine runs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, ReaderTensor

from llamero.build.convert.conversion import convert
from llamero.errors import BadRequest
from tests.build.convert.tiny_bert import BLOCKS, CONTEXT, HEADS, INNER, WIDTH, TinyBert, bert_tensors, pack


@pytest.fixture
def converted(tmp_path: Path):
    def run(bert: TinyBert) -> GGUFReader:
        output = tmp_path / "out.gguf"
        convert(bert.write(tmp_path / "checkpoint"), output)
        return GGUFReader(output)

    return run


def metadata(reader: GGUFReader) -> dict[str, Any]:
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def tensors(reader: GGUFReader) -> dict[str, ReaderTensor]:
    return {tensor.name: tensor for tensor in reader.tensors}


def bfloat16(tensor: ReaderTensor) -> np.ndarray:
    return (tensor.data.view("<u2").astype("<u4") << 16).view("<f4")


def test_the_architecture_is_described_in_the_engines_words(bert: TinyBert, converted) -> None:
    found = metadata(converted(bert))
    vocabulary = {key for key in found if key.startswith("tokenizer.")}
    assert {key: value for key, value in found.items() if key not in vocabulary} == {
        "general.architecture": "bert",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "bert.attention.causal": False,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": pytest.approx(1e-12),
        "bert.block_count": BLOCKS,
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": INNER,
        "bert.pooling_type": 1,
    }
    assert found["tokenizer.ggml.token_type_count"] == 2


SAME_VALUES = {
    "token_embd.weight": "embeddings.word_embeddings.weight",
    "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    "token_embd_norm.weight": "embeddings.LayerNorm.weight",
    "token_embd_norm.bias": "embeddings.LayerNorm.bias",
    **{
        f"blk.{block}.{ours}.{part}": f"encoder.layer.{block}.{theirs}.{part}"
        for block in range(BLOCKS)
        for part in ("weight", "bias")
        for ours, theirs in {
            "attn_q": "attention.self.query",
            "attn_k": "attention.self.key",
            "attn_v": "attention.self.value",
            "attn_output": "attention.output.dense",
            "attn_output_norm": "attention.output.LayerNorm",
            "ffn_up": "intermediate.dense",
            "ffn_down": "output.dense",
            "layer_output_norm": "output.LayerNorm",
        }.items()
    },
}


def test_every_tensor_keeps_its_values_under_the_engines_name(bert: TinyBert, converted) -> None:
    found = tensors(converted(bert))
    assert found.keys() == SAME_VALUES.keys(), "the pooler and the position ids are left out"
    for ours, theirs in SAME_VALUES.items():
        np.testing.assert_allclose(found[ours].data, bert.tensors[theirs], rtol=1e-3, err_msg=ours)


def test_matrices_are_half_precision_and_vectors_are_not(bert: TinyBert, converted) -> None:
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors(converted(bert)).items()}
    full = {name for name, kind in kinds.items() if kind == "F32"}
    assert set(kinds.values()) == {"F32", "F16"}
    assert {"position_embd.weight", "token_types.weight"} <= full
    assert {name for name in kinds if name.endswith(".bias") or "_norm." in name} <= full
    assert not {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"} & full


def test_a_bfloat16_source_keeps_its_bits_in_matrices_and_is_widened_in_vectors(bert: TinyBert, converted) -> None:
    """partly S-83: dims are reversed too; the create endpoint is not part of it."""
    bert.dtype = "BF16"
    found = tensors(converted(bert))
    up, norm = found["blk.0.ffn_up.weight"], found["token_embd_norm.weight"]
    assert (up.tensor_type.name, norm.tensor_type.name) == ("BF16", "F32")
    assert list(up.shape) == [WIDTH, INNER], "row length first"
    np.testing.assert_allclose(bfloat16(up), bert.tensors["encoder.layer.0.intermediate.dense.weight"], rtol=1e-2)
    np.testing.assert_allclose(norm.data, bert.tensors["embeddings.LayerNorm.weight"], rtol=1e-2)


def test_a_half_precision_source_is_widened_in_vectors(bert: TinyBert, converted) -> None:
    bert.dtype = "F16"
    found = tensors(converted(bert))
    np.testing.assert_array_equal(
        found["token_embd_norm.bias"].data, bert.tensors["embeddings.LayerNorm.bias"].astype("f2").astype("f4")
    )
    np.testing.assert_array_equal(
        found["blk.0.attn_q.weight"].data, bert.tensors["encoder.layer.0.attention.self.query.weight"].astype("f2")
    )


def test_tensors_may_be_spread_over_several_files(bert: TinyBert, converted) -> None:
    names = sorted(bert.tensors)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        bert.files[f"model-0000{number}-of-00002.safetensors"] = pack({name: bert.tensors[name] for name in part})
    bert.files["model.safetensors"] = pack({"pooler.other.weight": np.zeros((2, 2), "f4")})
    assert tensors(converted(bert)).keys() == SAME_VALUES.keys()


def test_equal_checkpoints_give_equal_bytes(bert: TinyBert, tmp_path: Path) -> None:
    folder = bert.write(tmp_path / "checkpoint")
    convert(folder, tmp_path / "a.gguf")
    convert(folder, tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_nothing_of_a_dropped_tensor_reaches_the_file(bert: TinyBert, tmp_path: Path) -> None:
    """partly X-28: the canary lies between tensors that are taken over."""
    canary = np.full((4, 4), -1234.5678, "f4")
    bert.tensors = {"pooler.canary.weight": canary, **bert.tensors, "pooler.last.weight": canary}
    convert(bert.write(tmp_path / "checkpoint"), tmp_path / "out.gguf")
    content = (tmp_path / "out.gguf").read_bytes()
    for trace in (canary.tobytes(), canary.astype("f2").tobytes()):
        assert trace[:8] not in content


def test_memory_stays_below_twice_the_largest_tensor(bert: TinyBert, tmp_path: Path) -> None:
    bert.config |= {"hidden_size": 512, "intermediate_size": 2048}
    bert.tensors = bert_tensors(width=512, inner=2048)
    folder = bert.write(tmp_path / "checkpoint")
    largest_bytes = max(values.nbytes for values in bert.tensors.values())
    bert.tensors.clear()
    convert(folder, tmp_path / "warm-up.gguf")  # imports and caches are not what is measured
    tracemalloc.start()
    convert(folder, tmp_path / "out.gguf")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest_bytes == 4 * 1024 * 1024
    assert peak_bytes < 2 * largest_bytes


MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def modules(*kinds: str) -> list[dict[str, str]]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}
    return [{"type": f"sentence_transformers.models.{kind}", "path": paths[kind]} for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "modes", "pooling", "normalized"),
    [
        (["Transformer", "Pooling", "Normalize"], MEAN, 1, True),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True}, 2, False),
        (["Transformer", "Pooling"], {"pooling_mode_lasttoken": True}, 3, False),
        (["Transformer"], {}, 1, False),
    ],
)
def test_pooling_and_normalisation_come_from_modules_json(
    bert: TinyBert, converted, kinds: list[str], modes: dict[str, bool], pooling: int, normalized: bool
) -> None:
    bert.files |= {"modules.json": modules(*kinds), "1_Pooling/config.json": modes}
    found = metadata(converted(bert))
    assert (found["bert.pooling_type"], found["bert.normalize_embeddings"]) == (pooling, normalized)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": modules("Transformer", "Dense")}, "module 'Dense' is not supported"),
        ({"modules.json": modules("Pooling")}, "pooling without a mode is not supported"),
        (
            {"modules.json": modules("Pooling"), "1_Pooling/config.json": {"pooling_mode_max_tokens": True}},
            "pooling max_tokens is not supported",
        ),
        (
            {"modules.json": modules("Pooling"), "1_Pooling/config.json": MEAN | {"pooling_mode_cls_token": True}},
            "pooling mean_tokens \\+ cls_token is not supported",
        ),
        ({"modules.json": {"0": "Pooling"}}, "modules.json is not a list of modules"),
        ({"modules.json": "[{"}, "modules.json is not valid JSON"),
        ({"modules.json": [{"type": "x.Pooling", "path": "../.."}]}, "file path must be relative"),
        ({"modules.json": [{"type": "x.Pooling", "path": "/etc"}]}, "file path must be relative"),
    ],
)
def test_what_sentence_models_add_and_the_engine_lacks_is_refused(
    bert: TinyBert, converted, files: dict[str, Any], message: str
) -> None:
    bert.files |= files
    with pytest.raises(BadRequest, match=message):
        converted(bert)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", -8),
        ("hidden_size", "8"),
        ("hidden_size", 8.0),
        ("hidden_size", True),
        ("hidden_size", 10**30),
        ("hidden_size", None),
        ("hidden_size", [8]),
        ("num_hidden_layers", 10_001),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("intermediate_size", 0),
        ("max_position_embeddings", 1 << 31),
        ("type_vocab_size", 0),
        ("vocab_size", 1 << 23),
        ("vocab_size", 9),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", "tiny"),
        ("layer_norm_eps", 1.5),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_a_config_value_that_cannot_be_is_refused_by_name(bert: TinyBert, converted, key: str, value: Any) -> None:
    bert.config[key] = value
    words = {"vocab_size": "config.json", "num_attention_heads": "attention"}
    with pytest.raises(BadRequest, match=words.get(key, key)):
        converted(bert)


def test_a_missing_tensor_is_named(bert: TinyBert, converted) -> None:
    del bert.tensors["encoder.layer.1.output.dense.bias"]
    with pytest.raises(BadRequest, match=r"tensor 'blk\.1\.ffn_down\.bias' is missing"):
        converted(bert)


def test_a_block_beyond_the_configured_number_is_refused(bert: TinyBert, converted) -> None:
    bert.config["num_hidden_layers"] = 1
    with pytest.raises(BadRequest, match=r"tensor 'blk\.1\.\w+\.bias' is beyond what config\.json describes"):
        converted(bert)


@pytest.mark.parametrize(
    "name", ["classifier.weight", "encoder.layer.0.output.dense.scale", "encoder.layer.0.gate.weight", "weight"]
)
def test_a_tensor_that_no_rule_knows_is_refused(bert: TinyBert, converted, name: str) -> None:
    bert.tensors[name] = np.zeros((2, 2), "f4")
    with pytest.raises(BadRequest, match=f"unexpected tensor '{name}'"):
        converted(bert)


def test_values_beyond_half_precision_are_refused(bert: TinyBert, converted, tmp_path: Path) -> None:
    bert.tensors["encoder.layer.0.output.dense.weight"][3, 5] = 70_000.0
    with pytest.raises(BadRequest, match=r"'blk\.0\.ffn_down\.weight' has values beyond the range of F16"):
        converted(bert)
    assert not (tmp_path / "out.gguf").exists(), "nothing half-written"

"""A model that sees becomes two files, and sees as before.

`tests/data/vision-tiny` is such a model in the engine's form. The tests write it as publishers do, convert it back, and
compare.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from gguf import GGUFReader
from PIL import Image

from llamero.build.convert import convert_in_child, projector_path
from llamero.build.convert.conversion import convert
from llamero.errors import BadRequest, Cancelled
from tests.build.convert.reading import metadata
from tests.build.convert.tiny_bert import pack
from tests.engines.starting import real_engine

ORIGINAL = Path(__file__).parents[2] / "data" / "vision-tiny"

TEXT_MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
TOWER_MODULES = {
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
ONCE = {
    "token_embd.weight": "language_model.model.embed_tokens.weight",
    "output_norm.weight": "language_model.model.norm.weight",
    "v.patch_embd.weight": "vision_tower.vision_model.embeddings.patch_embedding.weight",
    "v.patch_embd.bias": "vision_tower.vision_model.embeddings.patch_embedding.bias",
    "v.position_embd.weight": "vision_tower.vision_model.embeddings.position_embedding.weight",
    "v.post_ln.weight": "vision_tower.vision_model.post_layernorm.weight",
    "v.post_ln.bias": "vision_tower.vision_model.post_layernorm.bias",
    "mm.input_projection.weight": "multi_modal_projector.mm_input_projection_weight",
    "mm.soft_emb_norm.weight": "multi_modal_projector.mm_soft_emb_norm.weight",
}
CONFIG = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "mm_tokens_per_image": 16,
    "text_config": {
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "sliding_window": 64,
        "vocab_size": 600,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 112,
        "patch_size": 14,
    },
}


def published_name(name: str) -> str:
    if name in ONCE:
        return ONCE[name]
    *tower, _, block, module, last = name.split(".")
    if tower:
        return f"vision_tower.vision_model.encoder.layers.{block}.{TOWER_MODULES[module]}.{last}"
    return f"language_model.model.layers.{block}.{TEXT_MODULES[module]}.{last}"


def published_values(name: str, values: np.ndarray) -> np.ndarray:
    # Gemma's own norms are kept as their distance from one; those of its eyes are not
    around_one = name.endswith("norm.weight")
    return values.astype("f4") - 1 if around_one else values


def originals() -> dict[str, np.ndarray]:
    readers = [GGUFReader(ORIGINAL / f"{part}.gguf") for part in ("model", "mmproj")]
    return {tensor.name: tensor.data for reader in readers for tensor in reader.tensors}


def piece_model(keys: dict[str, Any]) -> bytes:
    """A `tokenizer.model` with the tokens of a GGUF."""

    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 1 << 14
        length = bytes([len(content) & 127 | 128, len(content) >> 7])
        return bytes([number << 3 | 2]) + length + content

    tokens = zip(*(keys[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type")), strict=True)
    pieces = (
        field(1, field(1, token.encode()) + struct.pack("<Bf", 2 << 3 | 5, score) + bytes([3 << 3, kind]))
        for token, score, kind in tokens
    )
    byte_pairs, no_dummy_prefix, spaces_stay = bytes([3 << 3, 2]), bytes([3 << 3, 0]), bytes([4 << 3, 0])
    return b"".join(pieces) + field(2, byte_pairs) + field(3, no_dummy_prefix + spaces_stay)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The tiny model as its publisher would have put it on a hub."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    tensors = {published_name(name): published_values(name, values) for name, values in originals().items()}
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.model").write_bytes(piece_model(metadata(ORIGINAL / "model.gguf")))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "pad_token": "<unk>"}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    (folder / "model.safetensors").write_bytes(pack(tensors))
    return folder


def change(folder: Path, part: str = "", **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(values)
    (folder / "config.json").write_text(json.dumps(config))


def files(output: Path) -> Iterator[tuple[Path, Path]]:
    """The converted files with their originals."""
    yield output, ORIGINAL / "model.gguf"
    yield projector_path(output), ORIGINAL / "mmproj.gguf"


def test_both_files_have_the_tensors_of_the_originals(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    convert(checkpoint, output)
    for converted, original in files(output):
        found, wanted = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (converted, original))
        assert found.keys() == wanted.keys()
        for name, tensor in found.items():
            assert tensor.tensor_type == wanted[name].tensor_type, name
            assert tensor.shape.tolist() == wanted[name].shape.tolist(), name
            np.testing.assert_allclose(tensor.data, wanted[name].data, rtol=1e-6, atol=1e-6, err_msg=name)


def test_both_files_have_the_keys_of_the_originals(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    convert(checkpoint, output)
    for converted, original in files(output):
        found, wanted = metadata(converted), metadata(original)
        named = ("general.name", "general.finetune", "general.basename", "general.size_label")
        assert {key: found.get(key) for key in wanted if key not in named} == {
            key: pytest.approx(value) if isinstance(value, float) else value
            for key, value in wanted.items()
            if key not in named
        }


async def test_two_pictures_get_the_answers_of_the_original(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    convert_in_child(checkpoint, output, lambda completed, total: None)
    pictures = [
        np.full((112, 112, 3), (255, 0, 0), "u1"),
        np.random.default_rng(1).integers(0, 255, (90, 150, 3), "u1"),
    ]
    answers = []
    for model, projector in ((output, projector_path(output)), (ORIGINAL / "model.gguf", ORIGINAL / "mmproj.gguf")):
        async with real_engine(model, projectors=(projector,)) as engine:
            answers.append([await _looked_at(engine, picture) for picture in pictures])
    converted, original = answers
    assert original[0] != original[1], "the pictures must matter"
    for ours, theirs in zip(converted, original, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


async def _looked_at(engine: Any, picture: np.ndarray) -> dict[int, float]:
    buffer = io.BytesIO()
    Image.fromarray(picture.astype("u1")).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 5,
    }
    connector = aiohttp.UnixConnector(engine.endpoint.socket)
    headers = {"Authorization": f"Bearer {engine.endpoint.secret}"}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.post(f"{engine.endpoint.url}/v1/chat/completions", json=body) as response,
    ):
        reply = await response.json()
        assert response.status == 200, reply
    return {item["id"]: item["logprob"] for item in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


def test_newer_names_and_a_pooling_head_are_known(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "model.safetensors"
    tensors = {published_name(name): published_values(name, values) for name, values in originals().items()}
    renamed = {name.replace("language_model.model.", "language_model."): values for name, values in tensors.items()}
    path.write_bytes(
        pack(
            {f"model.{name}": values for name, values in renamed.items()}
            | {"lm_head.weight": tensors["language_model.model.embed_tokens.weight"]}
            | {"model.vision_tower.vision_model.head.probe": np.zeros((1, 1, 64), "f4")}
        )
    )
    output = tmp_path / "model.gguf"
    convert(checkpoint, output)
    for converted, original in files(output):
        assert {tensor.name for tensor in GGUFReader(converted).tensors} == {
            tensor.name for tensor in GGUFReader(original).tensors
        }


def test_brain_floats_become_half_floats_in_what_sees(checkpoint: Path, tmp_path: Path) -> None:
    tensors = {published_name(name): published_values(name, values) for name, values in originals().items()}
    (checkpoint / "model.safetensors").write_bytes(pack(tensors, "BF16"))
    output = tmp_path / "model.gguf"
    convert(checkpoint, output)
    text, eyes = ({tensor.tensor_type.name for tensor in GGUFReader(path).tensors} for path, _ in files(output))
    assert (text, eyes) == ({"BF16", "F32"}, {"F16", "F32"})
    assert [metadata(path)["general.file_type"] for path, _ in files(output)] == [32, 1]


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision_config", {"image_size": 0}, "'image_size' must be an integer from 1"),
        ("vision_config", {"image_size": 113}, "'patch_size' 14 does not divide 'image_size' 113"),
        ("vision_config", {"patch_size": 1 << 30}, "'patch_size' must be an integer"),
        ("vision_config", {"num_hidden_layers": 3}, r"layers\.2\.\S+ is missing"),
        ("vision_config", {"num_hidden_layers": 1}, r"unexpected tensor 'vision_tower.\S+layers\.1"),
        (
            "vision_config",
            {"hidden_size": 32},
            r"patch_embedding.weight' has shape \[64, 3, 14, 14\], config.json calls",
        ),
        ("vision_config", {"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ("", {"mm_tokens_per_image": 15}, "'mm_tokens_per_image' 15 does not fit 8 x 8 patches"),
        ("", {"vision_config": 7}, "'vision_config' must be an object"),
        ("", {"vision_config": None}, "'hidden_size' must be an integer"),
        ("", {"text_config": []}, "'text_config' must be an object"),
    ],
)
def test_eyes_that_contradict_their_description_are_refused_and_no_file_remains(
    checkpoint: Path, tmp_path: Path, part: str, values: dict[str, Any], message: str
) -> None:
    change(checkpoint, part, **values)
    output = tmp_path / "model.gguf"
    with pytest.raises(BadRequest, match=message):
        convert(checkpoint, output)
    assert not any(path.exists() for path, _ in files(output))


def test_a_picture_setting_that_cannot_be_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "preprocessor_config.json").write_text('{"image_std": [0, 0, 0]}')
    with pytest.raises(BadRequest, match=r"preprocessor_config.json: 'image_std' must hold numbers above 0"):
        convert(checkpoint, tmp_path / "model.gguf")


def test_a_model_that_should_see_and_has_no_eyes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    tensors = {
        published_name(name): values for name, values in originals().items() if not name.startswith(("v.", "mm."))
    }
    (checkpoint / "model.safetensors").write_bytes(pack(tensors))
    with pytest.raises(BadRequest, match="'vision_config', and no tensor belongs to it"):
        convert(checkpoint, tmp_path / "model.gguf")


def test_a_listener_that_goes_away_leaves_neither_file(checkpoint: Path, tmp_path: Path) -> None:
    def gone(completed: int, total: int) -> None:
        if completed == total:
            raise Cancelled

    output = tmp_path / "model.gguf"
    with pytest.raises(Cancelled):
        convert_in_child(checkpoint, output, gone)
    assert not any(path.exists() for path, _ in files(output))


def test_progress_goes_on_from_the_first_file_to_the_second(checkpoint: Path, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    output = tmp_path / "model.gguf"
    convert(checkpoint, output, lambda completed, total: reported.append((completed, total)))
    tensors = [tensor for path, _ in files(output) for tensor in GGUFReader(path).tensors]
    assert [completed for completed, _ in reported] == sorted(completed for completed, _ in reported)
    assert reported[-1] == (sum(int(tensor.n_bytes) for tensor in tensors),) * 2

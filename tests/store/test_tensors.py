"""What is known about a model stored as tensors, from headers and `config.json` alone (store-registry §7.5)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BlobNotFound, InvalidModelFile
from llamero.names import Digest, ModelName
from llamero.store import Model, Store
from llamero.store.tensors import MAX_HEADER_BYTES, Tensor
from tests import model_folders, tensor_models
from tests.tensor_models import CONFIG, PLAIN, safetensors


def resolve(store: Store) -> Model:
    return store.resolve(ModelName.parse("m"))


def test_tensors_counts_and_level(store: Store, root: Path) -> None:
    tensor_models.add(root, "m")
    model = resolve(store)
    assert model.tensors is not None
    assert model.tensors.tensors == (
        Tensor("model.embed_tokens.weight", "BF16", (10, 64)),
        Tensor("w", "INT4", (32, 64)),
    )
    details = model.details()
    assert (details.format, details.family, details.parameter_size, details.quantization_level) == (
        "safetensors",
        "qwen3",
        "3K",
        "INT4",
    )
    assert (model.context_length, model.embedding_length) == (4096, 64)
    assert model.model_info() == {
        "general.architecture": "qwen3",
        "general.parameter_count": 10 * 64 + 32 * 64,
        "qwen3.context_length": 4096,
        "qwen3.embedding_length": 64,
        "qwen3.block_count": 1,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
    }


def test_the_models_own_config_comes_first(store: Store, root: Path) -> None:
    told = {"model_family": "mine", "model_type": "7B", "file_type": "mxfp8", "context_length": 99, "base_name": "Base"}
    tensor_models.add(root, "m", config=told)
    model = resolve(store)
    details = model.details()
    assert (details.family, details.parameter_size, details.quantization_level) == ("mine", "7B", "mxfp8")
    assert model.context_length == 99
    assert model.model_info()["general.basename"] == "Base"


@pytest.mark.parametrize(
    ("level", "words", "values"), [("int4", 2, 16), ("nvfp4", 2, 16), ("mxfp4", 2, 16), ("int8", 2, 8), ("mxfp8", 2, 8)]
)
def test_packed_values_are_counted_as_before(store: Store, root: Path, level: str, words: int, values: int) -> None:
    content = safetensors({"w": ("U32", [3, words]), "w.scale": ("U8", [3, 1])}, {"quant_type": level})
    tensor_models.add(root, "m", [content])
    model = resolve(store)
    assert model.tensors is not None
    assert model.tensors.tensors == (Tensor("w", level.upper(), (3, values)),)


def test_a_model_of_several_kinds_has_its_counts_one_level_down(store: Store, root: Path) -> None:
    tensor_models.add(root, "m", files={"config.json": {"model_type": "gemma3", "text_config": CONFIG}})
    info = resolve(store).model_info()
    assert (info["general.architecture"], info["gemma3.context_length"]) == ("gemma3", 4096)


@pytest.mark.parametrize(
    "files",
    [{}, {"config.json": {}}, {"config.json": {"model_type": 7, "hidden_size": "x", "num_hidden_layers": True}}],
)
def test_what_the_config_does_not_say_is_left_out(store: Store, root: Path, files: dict[str, Any]) -> None:
    tensor_models.add(root, "m", files=files)
    assert resolve(store).model_info() == {"general.parameter_count": 2688}


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def entry(**fields: Any) -> bytes:
    return header(json.dumps({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]} | fields}).encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01\x02", id="no length"),
        pytest.param(struct.pack("<Q", 1 << 60), id="a length beyond everything"),
        pytest.param(header(b" " * (MAX_HEADER_BYTES + 1)), id="a header beyond the limit"),
        pytest.param(header(b'{"w":'), id="no JSON"),
        pytest.param(header(b"[" * 100_000), id="deep JSON"),
        pytest.param(header(b"[]"), id="no object"),
        pytest.param(header(b'{"w": 1}'), id="no tensor"),
        pytest.param(entry(dtype=1), id="a type that is no text"),
        pytest.param(entry(shape=None), id="no shape"),
        pytest.param(entry(shape=[-1]), id="a negative size"),
        pytest.param(entry(shape=[True]), id="a size that is no number"),
        pytest.param(entry(shape=[1 << 50]), id="a size beyond everything"),
        pytest.param(entry(shape=[1] * 9), id="too many dimensions"),
    ],
)
def test_a_broken_tensor_hides_nothing_but_itself(store: Store, root: Path, content: bytes) -> None:
    tensor_models.add(root, "m", [PLAIN, content])
    model = resolve(store)
    with pytest.raises(InvalidModelFile, match=f"layer {Digest.of(content).short} is no readable tensor") as error:
        model.model_info()
    assert error.value.status == 500
    assert model.details().format == "safetensors"
    assert [summary.name.display for summary in store.list()] == ["m:latest"]


def test_a_broken_config_and_a_missing_tensor(store: Store, root: Path) -> None:
    tensor_models.add(root, "m", files={"config.json": b"{"})
    with pytest.raises(InvalidModelFile, match="is no readable JSON"):
        resolve(store).model_info()
    tensor_models.add(root, "m")
    store.blobs.path(Digest.of(PLAIN)).unlink()
    with pytest.raises(BlobNotFound):
        resolve(store).model_info()
    assert store.list()


def test_a_gguf_model_has_no_such_tensors(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"")
    assert resolve(store).tensors is None

"""What the store promises, through the API: names, files on the disk, what show and list say (store-registry §10)."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest

from llamero import gguf
from tests import model_folders
from tests.gguf_files import Typed, gguf_file, llama_metadata, llama_tensors, tiny_llama
from tests.running import Server
from tests.server.test_create_api import create, generate, made, show, upload

HF_TINY = Path(__file__).parents[1] / "data" / "hf-tiny"

NAMED = re.compile(
    r"blobs(/sha256-[0-9a-f]{64}(-partial(-\d+)?|\.tmp)?|/sha256-\d+)?|manifests(/[^/]+){0,4}|\.llamero(/.*)?"
)
"""Everything that may lie in a models folder (store-registry §2)."""


def hf(architecture: str) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in (HF_TINY / architecture).iterdir() if path.name != "reference.json"
    }


def strays(root: Path) -> list[str]:
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return [path for path in paths if not NAMED.fullmatch(path)]


def test_s24_nothing_else_lies_in_the_folder(empty_server: Server) -> None:
    """S-24: after uploads, good and bad creates, copies and deletes."""
    server = empty_server
    files = upload(server, {"m.gguf": tiny_llama()})
    made(server, "a", files=files, system="s")
    assert create(server, "b", files=upload(server, {"x.gguf": b"GGUF"})).status == 400
    assert create(server, "c", files={"x.gguf": f"sha256:{'0' * 64}"}).status == 400
    assert server.post(f"/api/blobs/sha256:{'1' * 64}", b"other content").status == 400
    server.post("/api/copy", {"source": "a", "destination": "host:5000/ns/copy:tag"})
    server.call("DELETE", "/api/delete", {"model": "a"})
    assert strays(server.models) == []
    assert not list((server.models / ".llamero" / "tmp").iterdir())


@pytest.mark.parametrize("typed", ["nosuch", "NoSuch:7b", "host/ns/nosuch"])
def test_s63_the_name_comes_back_as_it_was_typed(empty_server: Server, typed: str) -> None:
    """S-63"""
    reply = empty_server.call("DELETE", "/api/delete", {"model": typed})
    assert (reply.status, reply.json()) == (404, {"error": f"model '{typed}' not found"})


def test_s91_a_file_of_version_1_is_read_and_not_created_from(empty_server: Server) -> None:
    """S-91, with the tables of the reader's own tests."""
    old = gguf_file({"general.architecture": "llama"}, version=1)
    assert gguf.read_header(old).version == 1
    reply = create(empty_server, files=upload(empty_server, {"m.gguf": old}))
    assert reply.status == 400
    assert reply.json()["error"].startswith("invalid model file: ")
    model_folders.add(empty_server.models, "stored", old)
    assert show(empty_server, "stored")["model_info"]["general.architecture"] == "llama"


@pytest.mark.engine
@pytest.mark.parametrize("architecture", ["mistral", "mixtral", "qwen3", "gemma3"])
def test_s85_a_published_folder_becomes_a_model_that_runs(empty_server: Server, architecture: str) -> None:
    """S-85, together with the truth of `build/convert/test_truth.py` and the roles in `test_decoder.py`."""
    made(empty_server, files=upload(empty_server, hf(architecture)))
    assert generate(empty_server, "made").status == 200


def test_s83_types_and_dimensions_of_a_bf16_source(empty_server: Server) -> None:
    """S-83"""
    config = hf("qwen2")
    made(empty_server, files=upload(empty_server, as_bf16(config)))
    tensors = {tensor["name"]: tensor for tensor in show(empty_server)["tensors"]}
    assert tensors["blk.0.ffn_up.weight"]["type"] == "BF16"
    assert tensors["blk.0.attn_norm.weight"]["type"] == tensors["blk.0.attn_q.bias"]["type"] == "F32"
    rows, columns = shape_of(config["model.safetensors"], "model.layers.0.mlp.up_proj.weight")
    assert tensors["blk.0.ffn_up.weight"]["shape"] == [columns, rows]
    twice = config | {"model-2.safetensors": config["model.safetensors"]}
    reply = create(empty_server, "twice", files=upload(empty_server, twice))
    assert reply.status == 400
    assert "duplicate tensor name" in reply.json()["error"]


def shape_of(file: bytes, name: str) -> list[int]:
    (size,) = struct.unpack_from("<Q", file)
    shape: list[int] = json.loads(file[8 : 8 + size])[name]["shape"]
    return shape


def as_bf16(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same checkpoint with its weights cut to bfloat16: the upper half of every float32."""
    import numpy as np

    raw = files["model.safetensors"]
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    data, out, position = raw[8 + size :], [], 0
    for name, entry in sorted(
        ((name, entry) for name, entry in header.items() if name != "__metadata__"),
        key=lambda item: item[1]["data_offsets"],
    ):
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32", name
        bits = (np.frombuffer(data[begin:end], "<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": entry["shape"], "data_offsets": [position, position + len(bits)]}
        position += len(bits)
        out.append(bits)
    head = json.dumps(header).encode()
    return files | {"model.safetensors": struct.pack("<Q", len(head)) + head + b"".join(out)}


def test_show_of_a_gguf(empty_server: Server) -> None:
    """S-93, S-94"""
    tokens = ["<unk>", "a", "b"]
    metadata = llama_metadata() | {
        "general.name": "hidden",
        "tokenizer.chat_template": "hidden",
        "llama.attention.layer_norm_rms_epsilon": Typed("f32", 1e-5),
        "tokenizer.ggml.tokens": tokens,
        "llama.empty": Typed("[u32]", []),
    }
    tensors = llama_tensors()
    content = gguf_file(metadata, tensors)
    model_folders.add(empty_server.models, "m", content)
    brief, full = show(empty_server, "m"), show(empty_server, "m", verbose=True)
    for shown in (brief, full):
        info = shown["model_info"]
        assert not {"general.name", "tokenizer.chat_template"} & info.keys()
        assert info["llama.attention.layer_norm_rms_epsilon"] == 1e-05
        assert info["general.parameter_count"] == sum(tensor.elements for tensor in gguf.read_header(content).tensors)
        described = {tensor["name"]: (tensor["type"], tensor["shape"]) for tensor in shown["tensors"]}
        assert described == {tensor.name: (tensor.type, list(tensor.shape)) for tensor in tensors}
    assert (brief["model_info"]["tokenizer.ggml.tokens"], brief["model_info"]["llama.empty"]) == (None, [])
    assert full["model_info"]["tokenizer.ggml.tokens"] == tokens


def test_s101_show_is_never_stale(empty_server: Server) -> None:
    """S-101"""
    model_folders.add(empty_server.models, "m", tiny_llama(), system="one")
    assert show(empty_server, "m")["system"] == show(empty_server, "m", verbose=True)["system"] == "one"
    assert show(empty_server, "m", system="asked")["system"] == "asked"
    assert show(empty_server, "m")["system"] == "one"
    lines = show(empty_server, "m", options={"top_k": 7})["modelfile"]
    assert "PARAMETER top_k 7" in lines
    assert "top_k" not in show(empty_server, "m")["modelfile"]
    model_folders.add(empty_server.models, "m", tiny_llama(), system="two")
    assert show(empty_server, "m")["system"] == show(empty_server, "m", verbose=True)["system"] == "two"
    arrays = show(empty_server, "m", verbose=True)["model_info"]
    assert arrays != show(empty_server, "m")["model_info"]


def test_s97_the_list(empty_server: Server) -> None:
    """S-97: the newest first, by whole seconds; then by name. Sizes are those that the manifests state."""
    times = {"older": 1_000_000_000.9, "b": 1_000_000_001.1, "a": 1_000_000_001.9, "newest": 1_000_000_002.0}
    for name, at in times.items():
        manifest = model_folders.add(empty_server.models, name, tiny_llama(), system=name)
        os.utime(manifest, (at, at))
    models = empty_server.get("/api/tags").json()["models"]
    assert [model["name"] for model in models] == ["newest:latest", "a:latest", "b:latest", "older:latest"]
    stated = json.loads(model_folders.manifest_path(empty_server.models, "a").read_bytes())
    assert models[1]["size"] == stated["config"]["size"] + sum(layer["size"] for layer in stated["layers"])
    head = empty_server.call("HEAD", "/api/tags")
    assert (head.status, head.body) == (200, b"")

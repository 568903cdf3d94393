"""Models stored as tensors on a real server: all but run (store-registry §6.8, last paragraph)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.names import Digest
from tests import model_folders as folder
from tests import tensor_models
from tests.cli.conftest import Ollama, command
from tests.registry.upload_registry import UploadRegistry
from tests.running import Server, running

KEPT = "kept"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It has such a model, and shares it."""
    place = tmp_path_factory.mktemp("tensors")
    tensor_models.add(place / "models", KEPT)
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("other")
    with running(place, place / "models") as server:
        yield server


@pytest.fixture
def ollama(shared: Server, tmp_path: Path) -> Ollama:
    return command(shared.host, tmp_path)


def raw(server: Server, name: str) -> bytes:
    return folder.manifest_path(server.models, name).read_bytes()


def content(server: Server, names: set[str]) -> dict[str, bytes]:
    return {name: (server.models / "blobs" / name).read_bytes() for name in names}


def test_list_and_show(shared: Server, ollama: Ollama) -> None:
    (entry,) = [each for each in shared.get("/api/tags").json()["models"] if each["name"] == f"{KEPT}:latest"]
    assert entry["details"] == {
        "parent_model": "",
        "format": "safetensors",
        "family": "qwen3",
        "families": None,
        "parameter_size": "3K",
        "quantization_level": "INT4",
        "context_length": 4096,
        "embedding_length": 64,
    }
    shown = shared.post("/api/show", {"model": KEPT}).json()
    assert shown["modelfile"].splitlines()[1] == f"FROM {KEPT}:latest"
    assert shown["model_info"]["general.parameter_count"] == 2688
    assert "tensors" not in shown
    assert shared.post("/api/show", {"model": KEPT, "verbose": True}).json()["tensors"] == [
        {"name": "model.embed_tokens.weight", "type": "BF16", "shape": [10, 64]},
        {"name": "w", "type": "INT4", "shape": [32, 64]},
    ]
    assert ollama("show", KEPT).out == (
        "  Model\n"
        "    architecture        qwen3     \n"
        "    parameters          3K        \n"
        "    context length      4096      \n"
        "    embedding length    64        \n"
        "    quantization        INT4      \n"
        "    requires            0.14.0    \n"
        "\n  Capabilities\n    completion    \n\n"
    )


def test_copy_rename_and_delete(shared: Server, ollama: Ollama) -> None:
    before = folder.blobs(shared.models)
    assert ollama("cp", KEPT, "copy").status == 0
    assert ollama("mv", "copy", "moved").status == 0
    assert raw(shared, "moved") == raw(shared, KEPT)
    assert ollama("rm", "moved").status == 0
    assert folder.blobs(shared.models) == before


def test_a_model_made_from_it(shared: Server, ollama: Ollama) -> None:
    reply = shared.post("/api/create", {"model": "kind", "from": KEPT, "system": "Be kind."})
    assert reply.lines()[-1] == {"status": "success"}
    kept, kind = (shared.post("/api/show", {"model": name, "verbose": True}).json() for name in (KEPT, "kind"))
    assert (kind["system"], kind["tensors"], kind["model_info"]) == ("Be kind.", kept["tensors"], kept["model_info"])
    assert kind["details"]["format"] == "safetensors"
    assert ollama("rm", "kind").status == 0


def test_doctor_finds_it_sound(ollama: Ollama) -> None:
    ran = ollama("doctor", "--store")
    assert (ran.status, ran.out.split()[:2]) == (0, ["ok", f"{KEPT}:latest"])


def test_pull(shared: Server, other: Server) -> None:
    name = f"{shared.host}/library/{KEPT}"
    pulled = other.post("/api/pull", {"model": name, "insecure": True})
    assert pulled.lines()[-1] == {"status": "success"}
    assert raw(other, name) == raw(shared, KEPT)
    assert content(other, folder.blobs(other.models)) == content(shared, folder.blobs(shared.models))
    other.call("DELETE", "/api/delete", {"model": name})
    assert folder.blobs(other.models) == set()


def test_export_and_import(shared: Server, other: Server, ollama: Ollama, tmp_path: Path) -> None:
    archive = tmp_path / "kept.tar"
    assert ollama("export", KEPT, str(archive)).status == 0
    there = command(other.host, tmp_path)
    assert there("import", str(archive)).status == 0
    assert raw(other, KEPT) == raw(shared, KEPT)
    assert folder.blobs(other.models) == folder.blobs(shared.models)
    assert there("rm", KEPT).status == 0


async def test_push(shared: Server) -> None:
    async with UploadRegistry() as registry:
        name = f"{registry.host}/me/pushed"
        tensor_models.add(shared.models, name)
        reply = await asyncio.to_thread(shared.post, "/api/push", {"model": name, "insecure": True})
        assert reply.lines()[-1] == {"status": "success"}
        assert registry.manifests["me/pushed", "latest"][1] == raw(shared, name)
        assert ("me/pushed", str(Digest.of(tensor_models.PACKED))) in registry.blobs


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"prompt": "hi"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/api/embed", {"input": "hi"}),
    ],
)
def test_it_is_not_run_and_that_is_said(shared: Server, path: str, body: dict[str, object]) -> None:
    reply = shared.post(path, {"model": KEPT, **body})
    assert (reply.status, reply.error) == (
        400,
        f'"{KEPT}:latest" is stored as safetensors, which cannot be run',
    )


def test_it_cannot_be_quantized(shared: Server) -> None:
    reply = shared.post("/api/create", {"model": "small", "from": KEPT, "quantize": "q4_0"})
    assert reply.lines()[-1] == {"error": "there is no model to quantize"}

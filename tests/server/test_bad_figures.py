"""Options and files whose figures make no sense, on a real server: brought into bounds and named, or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.engines.devices import read_memory
from tests import model_folders
from tests.gguf_files import TensorSpec, gguf_file, llama_metadata, llama_tensors, tiny_llama
from tests.running import Server, running

GIB = 2**30
F32_BYTES = 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one tiny model, `m`, and `vast`, which does not say how long its context was."""
    folder = tmp_path_factory.mktemp("figures")
    model_folders.add(folder / "models", "m", tiny_llama())
    model_folders.add(folder / "models", "vast", tiny_llama({"llama.context_length": 2**31 - 1}))
    with running(folder, folder / "models") as server:
        yield server


@pytest.mark.engine
@pytest.mark.parametrize(
    ("option", "value", "is_named"),
    [
        ("num_ctx", -(2**63), True),
        ("num_ctx", 2**63 - 1, True),
        ("num_ctx", 1e300, True),
        ("num_batch", -1, True),
        ("num_batch", 1, True),
        ("num_batch", 1e300, True),
        ("num_thread", -1, True),
        ("num_thread", 2**62, True),
        ("num_gpu", 10**9, False),
        ("num_gpu", -(10**9), True),
        ("main_gpu", 10**9, True),
        ("main_gpu", -1, True),
        ("num_keep", 2**62, False),
        ("draft_num_predict", 2**62, True),
        ("num_predict", -(2**62), False),
    ],
)
def test_absurd_figures_are_brought_into_bounds(tiny: Server, option: str, value: Any, is_named: bool) -> None:
    """And named, where the answer would be another one. `num_gpu: 999` is how people say: all layers."""
    options = {"num_predict": 2, option: value, "stop": ["\\n"]}
    reply = tiny.post("/api/generate", {"model": "m", "prompt": "hi", "raw": True, "stream": False, "options": options})
    assert reply.status == 200, reply.body
    assert any(option in warning for warning in reply.json().get("warnings", [])) is is_named


@pytest.mark.parametrize("option", ["num_ctx", "num_batch", "num_thread", "num_gpu", "main_gpu"])
@pytest.mark.parametrize("value", ["many", [1], {}, True])
def test_figures_that_are_none(tiny: Server, option: str, value: Any) -> None:
    reply = tiny.post("/api/generate", {"model": "m", "prompt": "hi", "options": {option: value}})
    assert (reply.status, reply.error) == (400, f'option "{option}" must be of type integer')


@pytest.mark.parametrize("options", [{"num_ctx": 10**9}, {"num_ctx": 10**9, "num_batch": 10**9}])
def test_a_context_that_no_memory_holds_is_refused(tiny: Server, options: dict[str, Any]) -> None:
    reply = tiny.post("/api/generate", {"model": "vast", "prompt": "hi", "options": options})
    assert reply.status == 500
    assert_told(reply.error, least_gib=100)


def test_a_model_larger_than_memory_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """R-32, with the figures. Other models are neither stopped for it nor in its way."""
    size_bytes = 2 * read_memory().total_bytes // GIB * GIB
    write_hole(tmp_path / "models", "huge", size_bytes)
    model_folders.add(tmp_path / "models", "m", tiny_llama())
    with running(tmp_path, tmp_path / "models") as server:
        for path in ("/api/generate", "/api/chat", "/v1/completions"):
            reply = server.post(
                path, {"model": "huge", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
            )
            assert reply.status == 500
            assert "model requires more system memory" in str(reply.body)
        assert_told(server.post("/api/generate", {"model": "huge"}).error, least_gib=size_bytes / GIB)
        assert server.engines() == []
        assert server.post("/api/generate", {"model": "m"}).json()["done_reason"] == "load"
        assert server.loaded() == ["m:latest"]


def assert_told(error: str, *, least_gib: float) -> None:
    pattern = r"model requires more system memory \(([\d.]+) GiB\) than is available \(([\d.]+) GiB\)"
    found = re.fullmatch(pattern, error)
    assert found, error
    assert float(found[1]) >= least_gib > 0.9 * float(found[2])


def write_hole(models: Path, name: str, size_bytes: int) -> None:
    """A model whose file says that it has so many bytes. Only the first of them are on the disk."""
    hole = TensorSpec("hole.weight", (2**20, size_bytes // 2**20 // F32_BYTES), data=b"")
    manifest = model_folders.add(models, name, gguf_file(llama_metadata(), [*llama_tensors(), hole]))
    document = json.loads(manifest.read_text())
    (weights,) = document["layers"]
    blob = models / "blobs" / weights["digest"].replace(":", "-")
    weights["size"] = blob.stat().st_size + size_bytes
    manifest.write_text(json.dumps(document))
    with blob.open("r+b") as file:
        file.truncate(weights["size"])

"""`/api/ps` and `ollama ps`: what an engine reports of its memory, as people see it (scheduler §8.5, §17)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import model_folders
from tests.fake_llama_server import install
from tests.gguf_files import tiny_llama
from tests.running import OLLAMA, Server, clean_environment, running

MIB = 2**20


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server whose engine prints what a test wants, and the folder of its script."""
    folder = tmp_path_factory.mktemp("ps")
    model_folders.add(folder / "models", "m", tiny_llama())
    model_folders.add(folder / "models", "n", tiny_llama({"general.name": "other"}))
    program = install(folder)
    with running(folder, folder / "models", LLAMERO_LLAMA_SERVER=str(program)) as server:
        yield server, folder


def environment_of(server: Server) -> dict[str, str]:
    return clean_environment(server.home, OLLAMA_HOST=f"127.0.0.1:{server.port}")


def buffer(name: str, mib: int, kind: str = "model") -> str:
    return f"load_tensors: {name} {kind} buffer size = {mib}.00 MiB"


ALL_ON_GPU = "load_tensors: offloaded 2/2 layers to GPU"


@pytest.mark.parametrize(
    ("lines", "size_mib", "vram_mib", "text"),
    [
        pytest.param([buffer("CPU", 100)], 100, 0, "100% CPU", id="R-67 on the CPU"),
        pytest.param([buffer("CPU", 9), buffer("CUDA0", 91), ALL_ON_GPU], 91, 91, "100% GPU", id="R-67 on the GPU"),
        pytest.param([buffer("CPU", 48), buffer("CUDA0", 52)], 100, 52, "48%/52% CPU/GPU", id="R-67 on both"),
        pytest.param(
            [buffer("CUDA0", 40), buffer("CUDA1", 12), buffer("CUDA_Host", 48)],
            100,
            52,
            "48%/52% CPU/GPU",
            id="R-67 on several",
        ),
    ],
)
def test_where_a_model_is(
    scripted: tuple[Server, Path], lines: list[str], size_mib: int, vram_mib: int, text: str
) -> None:
    """The fourth case, `Unknown`, is for other servers' figures: `tests/cli/test_models.py`."""
    server, folder = scripted
    server.unload_all()
    install(folder, {"prints": lines})
    server.post("/api/generate", {"model": "m"})
    (entry,) = server.get("/api/ps").json()["models"]
    assert (entry["size"], entry["size_vram"]) == (size_mib * MIB, vram_mib * MIB)
    table = subprocess.run(
        [OLLAMA, "ps"], env=environment_of(server), capture_output=True, text=True, check=True
    ).stdout
    assert f"    {text}    " in table.splitlines()[1]


def test_r67_fields_and_order(scripted: tuple[Server, Path]) -> None:
    """Later expiry first."""
    server, folder = scripted
    server.unload_all()
    install(folder)
    server.post("/api/generate", {"model": "m", "keep_alive": 600})
    server.post("/api/generate", {"model": "n", "keep_alive": 60, "options": {"num_ctx": 64}})
    entries = server.get("/api/ps").json()["models"]
    assert [entry["name"] for entry in entries] == ["m:latest", "n:latest"]
    for entry, seconds in zip(entries, (600, 60), strict=True):
        left = datetime.fromisoformat(entry["expires_at"]) - datetime.now(UTC)
        assert seconds - 10 < left.total_seconds() <= seconds
        assert entry["model"] == entry["name"]
        assert set(entry) == set("name model size digest details expires_at size_vram context_length".split())
        details = "parent_model format family families parameter_size quantization_level"
        assert set(entry["details"]) == set(details.split())
    assert [entry["context_length"] for entry in entries] == [128, 64]
    server.post("/api/generate", {"model": "n", "keep_alive": 6000})
    assert server.loaded() == ["n:latest", "m:latest"]

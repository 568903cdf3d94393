"""`import`: what a file is, told by its content, and what it is called then (cli §3.16, store-registry GAP-02)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.names import Digest
from tests.cli.conftest import Ollama, command
from tests.gguf_files import gguf_file, tiny_llama
from tests.running import Server, running

WEIGHTS = tiny_llama()
PROJECTOR = gguf_file({"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True})
LM_STUDIO = ".lmstudio/models/publisher/repo"


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("imports")
    with running(folder, folder / "models") as server:
        yield server


@pytest.fixture
def here(shared_server: Server) -> Server:
    for name in listed(shared_server):
        shared_server.call("DELETE", "/api/delete", {"model": name})
    return shared_server


@pytest.fixture
def ours(here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ollama:
    monkeypatch.chdir(tmp_path)
    return command(here.host, tmp_path)


def listed(server: Server) -> list[str]:
    return sorted(model["name"] for model in server.get("/api/tags").json()["models"])


def blob(server: Server, content: bytes) -> Path:
    return server.models / "blobs" / Digest.of(content).file_name


@pytest.mark.parametrize(
    ("file", "flags", "name", "stored"),
    [
        ("My Model.gguf", (), "my-model", "my-model:latest"),
        ("Qwen3-8B-Q4_K_M.gguf", (), "qwen3-8b:q4_k_m", "qwen3-8b:q4_k_m"),
        ("no-suffix", (), "no-suffix", "no-suffix:latest"),
        ("x.gguf", ("--as", "ns/y:z"), "ns/y:z", "ns/y:z"),
    ],
)
def test_a_gguf_is_known_by_its_content_and_called_as_its_file(
    here: Server, ours: Ollama, tmp_path: Path, file: str, flags: tuple[str, ...], name: str, stored: str
) -> None:
    (tmp_path / file).write_bytes(WEIGHTS)
    ran = ours("import", f"./{file}", *flags)
    assert (ran.status, ran.out) == (0, f"imported '{name}'\n")
    assert listed(here) == [stored]
    assert not blob(here, WEIGHTS).is_symlink()


def test_in_place(here: Server, ours: Ollama, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(WEIGHTS)
    assert ours("import", "m.gguf", "--in-place").status == 0
    assert blob(here, WEIGHTS).readlink() == file


@pytest.mark.parametrize(
    ("content", "flags", "error"),
    [
        (None, (), "open x.gguf: No such file or directory"),
        (b"text", ("--in-place",), "--in-place is for GGUF files, and x.gguf is none"),
        (WEIGHTS, ("--as", "../x"), "invalid model name"),
        (WEIGHTS[:500], (), "invalid model file: unexpected end of file"),
    ],
    ids=["missing", "no GGUF", "name", "cut off"],
)
def test_what_cannot_be_imported(
    here: Server, ours: Ollama, tmp_path: Path, content: bytes | None, flags: tuple[str, ...], error: str
) -> None:
    if content is not None:
        (tmp_path / "x.gguf").write_bytes(content)
    ran = ours("import", "x.gguf", *flags)
    assert (ran.status, ran.out, listed(here)) == (1, "", [])
    assert ran.err.splitlines()[-1] == f"Error: {error}"


def test_one_file_is_needed(ours: Ollama) -> None:
    ran = ours("import")
    assert (ran.status, ran.err) == (1, "Error: accepts 1 arg(s), received 0\n")


def test_one_of_another_program_with_its_projector(here: Server, ours: Ollama, tmp_path: Path) -> None:
    folder = tmp_path / LM_STUDIO
    folder.mkdir(parents=True)
    for name, content in {"see-Q8_0": WEIGHTS, "mmproj-see-F16": PROJECTOR}.items():
        (folder / f"{name}.gguf").write_bytes(content)
    before = {path: path.stat() for path in folder.iterdir()}
    ran = ours("import", "--scan", "see:q8_0")
    assert (ran.status, ran.out) == (0, "imported 'see:q8_0'\n")
    assert blob(here, WEIGHTS).readlink() == folder / "see-Q8_0.gguf"
    assert blob(here, PROJECTOR).readlink() == folder / "mmproj-see-F16.gguf"
    assert "projector_info" in here.post("/api/show", {"model": "see:q8_0"}).json()
    assert ours("rm", "see:q8_0").status == 0
    assert {path: (path.stat()[:7], path.stat().st_mtime_ns) for path in before} == {
        path: (status[:7], status.st_mtime_ns) for path, status in before.items()
    }


def test_the_hubs_link_is_followed_to_its_end(here: Server, ours: Ollama, tmp_path: Path) -> None:
    """The hub removes the links of a commit that was superseded, and keeps the file."""
    root = tmp_path / ".cache/huggingface/hub/models--org--repo"
    content, link = root / "blobs" / "0123", root / "snapshots" / "c0ffee" / "m-Q4_0.gguf"
    for path in (content, link):
        path.parent.mkdir(parents=True)
    content.write_bytes(WEIGHTS)
    link.symlink_to(os.path.relpath(content, link.parent))
    assert ours("import", "--scan", "m:q4_0", "--as", "mine").out == "imported 'mine'\n"
    assert blob(here, WEIGHTS).readlink() == content
    assert listed(here) == ["mine:latest"]

"""Files of the user that become blobs without a copy, on a real server of the same user (store-registry GAP-02)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.names import Digest, ModelName
from llamero.store import Store
from tests import model_folders
from tests.cli.conftest import Ollama, command
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.gguf_files import tiny_llama
from tests.running import Server, running

WEIGHTS = tiny_llama()
DIGEST = Digest.of(WEIGHTS)
MIB = 1 << 20


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("placing")
    with running(folder, folder / "models") as server:
        yield server


@pytest.fixture
def here(shared_server: Server) -> Server:
    """The same process for all tests, without a model."""
    for model in shared_server.get("/api/tags").json()["models"]:
        shared_server.call("DELETE", "/api/delete", {"model": model["name"]})
    return shared_server


@pytest.fixture
def ours(here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ollama:
    monkeypatch.chdir(tmp_path)
    return command(here.host, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(WEIGHTS)
    (tmp_path / "Modelfile").write_text(f"FROM {path}\n")
    return path


def blob(server: Server, digest: Digest = DIGEST) -> Path:
    return server.models / "blobs" / digest.file_name


def uploads(server: Server) -> int:
    return server.log.read_text().count('POST     "/api/blobs/')


# --- what is linked ------------------------------------------------------------------------------------------------


def test_a_file_on_the_same_disk_is_not_sent(here: Server, ours: Ollama, file: Path) -> None:
    before = uploads(here)
    ran = ours("create", "m")
    assert (ran.status, ran.out) == (0, "")
    assert "reading mine.gguf 100%" in ran.err
    assert uploads(here) == before
    assert blob(here).read_bytes() == WEIGHTS
    assert not blob(here).is_symlink()


def test_in_place_the_blob_is_a_link(here: Server, ours: Ollama, file: Path) -> None:
    assert ours("create", "m", "--in-place").status == 0
    assert blob(here).readlink() == file
    assert ours("show", "m", "--modelfile").out.startswith("# Modelfile generated")


@pytest.mark.parametrize("flags", [(), ("--in-place",)], ids=["linked", "in place"])
def test_deleting_the_model_leaves_the_file(here: Server, ours: Ollama, file: Path, flags: tuple[str, ...]) -> None:
    """Partly S-102"""
    before = file.stat()
    assert ours("create", "m", *flags).status == 0
    assert ours("create", "n", *flags).status == 0
    assert ours("rm", "m", "n").status == 0
    assert not os.path.lexists(blob(here))
    assert file.read_bytes() == WEIGHTS
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)


def test_adapters_are_linked_too(here: Server, ours: Ollama, file: Path, tmp_path: Path) -> None:
    adapter = tiny_llama({"general.type": "adapter", "adapter.type": "lora"})
    (tmp_path / "adapter.gguf").write_bytes(adapter)
    (tmp_path / "Modelfile").write_text("FROM ./mine.gguf\nADAPTER ./adapter.gguf\n")
    before = uploads(here)
    assert ours("create", "m", "--in-place").status == 0
    assert uploads(here) == before
    assert blob(here, Digest.of(adapter)).readlink() == tmp_path / "adapter.gguf"


def test_what_is_no_gguf_is_never_taken_in_place(here: Server, ours: Ollama, tmp_path: Path) -> None:
    """A conversion reads such files once: a blob that is a link to one would be of no use."""
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuch"]}')
    (tmp_path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    assert ours("create", "m", "--in-place").status == 1
    assert not any(path.is_symlink() for path in (here.models / "blobs").iterdir())


def test_a_file_that_changes_later_is_told_with_each_answer(here: Server, ours: Ollama, file: Path) -> None:
    """Warned, checked again, and refused when it is no model any more: no crash, and the others go on."""
    assert ours("create", "m", "--in-place").status == 0
    file.write_bytes(WEIGHTS[:1000])
    for _ in range(2):
        reply = here.post("/api/generate", {"model": "m", "prompt": "hi"})
        assert reply.status == 500
        assert reply.error.startswith("invalid model file: ")
        assert reply.error.endswith("mine.gguf in place, and that file was changed: create the model again")
    file.unlink()
    gone = here.post("/api/generate", {"model": "m", "prompt": "hi"})
    assert (gone.status, gone.error) == (500, "the model uses mine.gguf in place, and that file is gone")
    assert here.get("/api/tags").json()["models"][0]["name"] == "m:latest"
    assert ours("rm", "m").status == 0


def test_a_model_that_is_created_again_is_sound_again(here: Server, ours: Ollama, file: Path) -> None:
    assert ours("create", "m", "--in-place").status == 0
    changed = tiny_llama({"general.name": "changed"})
    file.write_bytes(changed)
    assert "that file was changed" in Store(here.models).source_warnings(Store(here.models).resolve(M))[0]
    assert ours("create", "m", "--in-place").status == 0
    store = Store(here.models)
    assert store.resolve(M).weights_digest == Digest.of(changed)
    assert store.source_warnings(store.resolve(M)) == ()
    assert not os.path.lexists(blob(here))


M = ModelName.parse("m")


# --- what is sent --------------------------------------------------------------------------------------------------


def scripted(server: ScriptedServer, folder: str) -> None:
    """A server that says that its models are there, and has no blob."""
    server.replies |= {
        "GET /api/llamero/store": Reply(json={"models": folder}),
        f"HEAD /api/blobs/{DIGEST}": Reply(404),
        f"POST /api/blobs/{DIGEST}": Reply(201),
        "POST /api/create": Reply(lines=[{"status": "success"}]),
    }


IN_PLACE_REFUSED = "Error: --in-place needs a server on this machine whose models folder is yours"


@pytest.mark.parametrize("models", ["{tmp}/no/such/folder", "relative", ""])
def test_a_folder_that_is_not_the_users_gets_nothing(
    ollama: Ollama, server: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch, models: str
) -> None:
    """Another machine behind a tunnel, or another user's server: as if it had not told where its models are."""
    monkeypatch.chdir(file.parent)
    scripted(server, models.format(tmp=file.parent))
    before = model_folders.tree(file.parent)
    ran = ollama("create", "m")
    assert (ran.status, model_folders.tree(file.parent)) == (0, before)
    assert f"POST /api/blobs/{DIGEST}" in server.routes
    refused = ollama("create", "m", "--in-place")
    assert (refused.status, refused.err.splitlines()[-1]) == (1, IN_PLACE_REFUSED)


def test_where_linking_fails_the_file_is_sent(
    ollama: Ollama, server: ScriptedServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "blobs").write_text("a file in the place of the folder")
    scripted(server, str(tmp_path / "models"))
    assert ollama("create", "m").status == 0
    assert f"POST /api/blobs/{DIGEST}" in server.routes
    refused = ollama("create", "m", "--in-place")
    assert (refused.status, refused.err.splitlines()[-1].split(":")[:2]) == (1, ["Error", " link file"])


def test_a_server_that_does_not_tell_gets_the_file(
    ollama: Ollama, server: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock Ollama: it answers 404."""
    monkeypatch.chdir(file.parent)
    scripted(server, "")
    del server.replies["GET /api/llamero/store"]
    assert ollama("create", "m").status == 0
    assert f"POST /api/blobs/{DIGEST}" in server.routes


def test_another_users_folder_gets_nothing(
    ollama: Ollama, server: ScriptedServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    models = tmp_path / "theirs"
    (models / "blobs").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(models / "blobs", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    scripted(server, str(models))
    assert ollama("create", "m").status == 0
    assert list((models / "blobs").iterdir()) == []
    assert f"POST /api/blobs/{DIGEST}" in server.routes


def test_what_a_tunnel_leads_to_gets_the_file_although_a_folder_of_that_name_is_here(
    ollama: Ollama, server: ScriptedServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    (tmp_path / "models").mkdir()
    scripted(server, str(tmp_path / "models"))
    assert ollama("create", "m").status == 0
    assert f"POST /api/blobs/{DIGEST}" in server.routes


# --- with the engine -----------------------------------------------------------------------------------------------


def disk_bytes(folder: Path) -> int:
    """Of everything below, each file counted once."""
    found = {status.st_ino: status.st_blocks * 512 for path in folder.rglob("*") if (status := path.lstat())}
    return sum(found.values())


def test_s102_import_in_place_takes_no_disk_and_runs(tmp_path: Path, smollm2_gguf: Path) -> None:
    """S-102: laid out as the Hugging Face cache has it. The other program needs a name that opens and whose content
    has its digest; and it may remove it."""
    home = tmp_path / "home"
    content = home / ".cache/huggingface/hub/models--org--SmolLM2/blobs/0123"
    content.parent.mkdir(parents=True)
    content.write_bytes(smollm2_gguf.read_bytes())
    snapshot = content.parents[1] / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "SmolLM2-135M-Q4_1.gguf").symlink_to("../../blobs/0123")
    with running(tmp_path, tmp_path / "models") as server:
        run = command(server.host, home)
        before = disk_bytes(tmp_path)
        took = run("import", "--scan", "smollm2-135m:q4_1", "--as", "small")
        assert (took.status, took.out) == (0, "imported 'small'\n")
        assert disk_bytes(tmp_path) - before < MIB
        asked = {
            "model": "small",
            "prompt": "Say hi.",
            "options": {"num_predict": 4, "temperature": 0},
            "stream": False,
        }
        answer = server.post("/api/generate", asked).json()
        assert answer["response"]
        assert "warnings" not in answer

        (blob_path,) = [path for path in (server.models / "blobs").iterdir() if path.is_symlink()]
        assert Digest.of(blob_path.read_bytes()).file_name == blob_path.name

        os.utime(content, (1_000_000_000, 1_000_000_000))  # changed, and sound all the same
        changed = server.post("/api/generate", asked)
        text = "the model uses 0123 in place, and that file was changed: create the model again"
        assert changed.json()["warnings"] == [text]
        assert changed.headers["Llamero-Warning"] == text
        assert changed.json()["response"] == answer["response"]

        assert run("rm", "small").status == 0
        assert content.read_bytes() == smollm2_gguf.read_bytes()
        assert (snapshot / "SmolLM2-135M-Q4_1.gguf").is_symlink()

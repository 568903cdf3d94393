"""Models on disk through the API: list, show, create, copy, delete, blobs, pull (native-api §3.4 to §3.16)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server

M = "smollm2:135m"
E = "all-minilm:22m"
BASE_DETAILS = {"parent_model", "format", "family", "families", "parameter_size", "quantization_level"}


def create(server: Server, **body: Any) -> Reply:
    return server.post("/api/create", {"stream": False, **body})


def tags(server: Server) -> dict[str, Any]:
    return {model["name"]: model for model in server.get("/api/tags").json()["models"]}


def delete(server: Server, name: str) -> Reply:
    return server.call("DELETE", "/api/delete", {"model": name})


def upload(server: Server, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert server.post(f"/api/blobs/{digest}", data).status in (200, 201)
    return digest


def test_n43_an_empty_server_has_no_models(empty_server: Server) -> None:
    assert empty_server.get("/api/tags").body == b'{"models":[]}'
    assert empty_server.get("/api/ps").body == b'{"models":[]}'


def test_n44_an_entry_of_tags(server: Server) -> None:
    entry = tags(server)[M]
    assert entry["name"] == entry["model"] == M
    assert isinstance(entry["size"], int)
    assert len(bytes.fromhex(entry["digest"])) == 32
    assert set(entry["details"]) == BASE_DETAILS | {"context_length", "embedding_length"}
    assert entry["capabilities"] == ["completion"]
    assert tags(server)[E]["capabilities"] == ["embedding"]
    assert "expires_at" not in entry


def test_n45_newest_first(server: Server) -> None:
    create(server, model="older", **{"from": M})
    create(server, model="newer", **{"from": M})
    manifests = server.models / "manifests" / "registry.ollama.ai" / "library"
    os.utime(manifests / "older" / "latest", (1e9, 1e9))
    names = [model["name"] for model in server.get("/api/tags").json()["models"]]
    assert names[0] == "newer:latest"
    assert names[-1] == "older:latest"


def test_how_much_of_the_context_the_last_answer_took(server: Server) -> None:
    """Told only as long as it is true (cli G-22)."""
    server.unload_all()
    body = {"model": M, "messages": [{"role": "user", "content": "Hi"}], "stream": False, "options": {"num_predict": 4}}
    answer = server.post("/api/chat", body).json()
    (entry,) = server.get("/api/ps").json()["models"]
    assert entry["context_used"] == answer["prompt_eval_count"] + answer["eval_count"] > 4
    server.unload_all()
    server.post("/api/generate", {"model": M})
    (entry,) = server.get("/api/ps").json()["models"]
    assert "context_used" not in entry


def test_n46_n47_models_in_memory(server: Server) -> None:
    """N-46 fields, N-47 the later expiry first."""
    server.unload_all()
    server.post("/api/generate", {"model": M, "keep_alive": "5m"})
    server.post("/api/embed", {"model": E, "keep_alive": "10m"})
    first, second = server.get("/api/ps").json()["models"]
    assert [first["name"], second["name"]] == [E, M]
    fields = {"name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"}
    assert set(first) == set(second) == fields
    assert second["digest"] == tags(server)[M]["digest"]
    assert second["size"] > 98_000_000
    assert (second["size_vram"], second["context_length"]) == (0, 4096)
    assert set(second["details"]) == BASE_DETAILS
    server.unload_all()


def test_n48_n49_n52_show(server: Server) -> None:
    """N-48 fields, N-49 arrays only when verbose, N-52 the older name of the field."""
    server.unload_all()
    shown = server.post("/api/show", {"name": M}).json()
    assert list(shown) == [
        "license",
        "modelfile",
        "template",
        "details",
        "model_info",
        "tensors",
        "capabilities",
        "modified_at",
    ]
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert shown["model_info"]["general.parameter_count"] == 134515008
    assert "tokenizer.chat_template" not in shown["model_info"]
    assert "<|im_start|>" in shown["template"]
    verbose = server.post("/api/show", {"model": M, "verbose": True}).json()
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == 49152
    assert server.loaded() == []


def test_n50_n51_parameters_and_system_of_show(server: Server) -> None:
    """N-50 the text of parameters, N-51 a system that is only shown."""
    create(server, model="tuned", parameters={"stop": ["a", "b"], "top_p": 0.9}, **{"from": M})
    shown = server.post("/api/show", {"model": "tuned", "system": "S"}).json()
    assert shown["parameters"].splitlines() == [
        'stop                           "a"',
        'stop                           "b"',
        "top_p                          0.9",
    ]
    assert shown["system"] == "S"
    assert "system" not in server.post("/api/show", {"model": "tuned"}).json()


def test_n40_names_that_differ_by_case_are_one_model(server: Server) -> None:
    """N-40; partly S-05: pull is another matter."""
    create(server, model="cased:TAG", **{"from": M})
    create(server, model="Cased:tag", system="x", **{"from": M})
    server.post("/api/copy", {"source": M, "destination": "CASED:tag"})
    assert [name for name in tags(server) if name.lower() == "cased:tag"] == ["cased:TAG"]


def test_n112_s09_s10_s11_blobs(server: Server) -> None:
    """N-112, S-09, S-10, S-11."""
    data = os.urandom(100_000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = f"/api/blobs/{digest}"
    assert (server.call("HEAD", path).status, server.call("HEAD", path).body) == (404, b"")
    assert (server.post(path, data).status, server.post(path, b"ignored").status) == (201, 200)
    assert server.call("HEAD", path).status == 200
    assert server.call("HEAD", path.replace(":", "%3A")).status == 200
    stored = server.models / "blobs" / digest.replace(":", "-")
    assert stored.read_bytes() == data
    assert stored.stat().st_mode & 0o777 == 0o644
    other = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    refused = server.post(f"/api/blobs/{other}", data[:10])
    real = f"sha256:{hashlib.sha256(data[:10]).hexdigest()}"
    assert (refused.status, refused.error) == (400, f'digest mismatch, expected "{other}", got "{real}"')
    assert server.call("HEAD", f"/api/blobs/{real}").status == 404
    for bad in ("sha256:" + "a" * 63, "sha512:" + "a" * 64, "sha256:" + "g" * 64):
        assert server.post(f"/api/blobs/{bad}", b"x").error == "invalid digest format"
        head = server.call("HEAD", f"/api/blobs/{bad}")
        assert (head.status, head.body) == (400, b"")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param({}, "neither 'from' or 'files' was specified", id="N-113, S-73"),
        pytest.param({"files": {}}, "unknown type", id="S-73 empty"),
        pytest.param({"files": {"/abs.gguf": "sha256:" + "0" * 64}}, "file path must be relative", id="N-114"),
        pytest.param({"files": {"a.gguf": ""}}, "invalid digest format", id="N-114 digest"),
        pytest.param({"files": {"a.gguf": "sha256:" + "0" * 64}}, f'blob "sha256:{"0" * 64}" not found', id="missing"),
    ],
)
def test_creates_that_cannot_be_meant(server: Server, body: dict[str, Any], error: str) -> None:
    reply = create(server, model="bad", **body)
    assert (reply.status, reply.error, reply.content_type) == (400, error, "application/json")
    assert "bad:latest" not in tags(server)


def test_n115_create_streams_its_steps(server: Server) -> None:
    reply = server.post("/api/create", {"model": "made", "from": M, "system": "Be brief."})
    assert reply.content_type == "application/x-ndjson"
    statuses = [line["status"] for line in reply.lines()]
    assert statuses[-2:] == ["writing manifest", "success"]
    assert any(status.startswith("using existing layer sha256:") for status in statuses)
    assert any(status.startswith("creating new layer sha256:") for status in statuses)
    assert create(server, model="made", **{"from": M}).json() == {"status": "success"}


def test_a_model_made_from_an_uploaded_gguf_runs(server: Server) -> None:
    """The file is kept as it is (partly S-65), and its metadata is what show says."""
    data = tiny_llama()
    digest = upload(server, data)
    reply = create(server, model="tiny", files={"tiny.gguf": digest}, parameters={"num_ctx": 64})
    assert reply.json() == {"status": "success"}
    shown = server.post("/api/show", {"model": "tiny"}).json()
    assert shown["details"]["format"] == "gguf"
    assert f"FROM {server.models / 'blobs' / digest.replace(':', '-')}" in shown["modelfile"]
    ask = {"model": "tiny", "prompt": "a", "raw": True, "options": {"num_predict": 2}, "keep_alive": 0}
    answer = server.post("/api/generate", ask)
    assert answer.status == 200
    assert answer.lines()[-1]["done"] is True
    assert delete(server, "tiny").status == 200
    assert not (server.models / "blobs" / digest.replace(":", "-")).exists()


@pytest.mark.parametrize("size", [0, 4, 8, 23])
def test_truncated_ggufs_are_refused(server: Server, size: int) -> None:
    """Partly X-21: the upload side."""
    digest = upload(server, tiny_llama()[:size])
    reply = create(server, model="cut", files={"m.gguf": digest})
    assert reply.status == 400
    assert "cut:latest" not in tags(server)


def test_n117_s60_copy_and_delete(server: Server) -> None:
    """N-117, S-60, partly S-61 (the API's side)."""
    copied = server.post("/api/copy", {"source": M, "destination": "twin"})
    assert (copied.status, copied.body, copied.headers["Content-Length"]) == (200, b"", "0")
    assert tags(server)["twin:latest"]["digest"] == tags(server)[M]["digest"]
    removed = delete(server, "twin")
    assert (removed.status, removed.body) == (200, b"")
    assert "twin:latest" not in tags(server)
    assert server.post("/api/generate", {"model": M}).json()["done_reason"] == "load"
    server.post("/api/copy", {"source": M, "destination": "twin"})
    assert server.call("DELETE", "/api/delete", {"name": "twin"}).status == 200


def test_parents_parameters_are_inherited(server: Server) -> None:
    """T-30, S-68: merged per key, lists replaced; a child without SYSTEM keeps its parent's."""
    create(server, model="base", parameters={"stop": ["a"], "top_k": 1}, system="S", **{"from": M})
    create(server, model="child", parameters={"stop": ["b"]}, **{"from": "base"})
    shown = server.post("/api/show", {"model": "child"}).json()
    assert shown["parameters"].split() == ["stop", '"b"', "top_k", "1"]
    assert shown["system"] == "S"
    assert shown["details"]["parent_model"] == "base:latest"


def test_a_go_template_that_a_user_gave_is_used_on_every_way(server: Server) -> None:
    create(server, model="templated", template="{{ .System }} {{ .Prompt }}!", **{"from": M})
    for path, body in (
        ("/api/chat", {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]}),
        ("/api/generate", {"system": "S", "prompt": "hi"}),
    ):
        shown = server.post(path, {"model": "templated", "_debug_render_only": True, **body}).json()
        assert shown["_debug_info"]["rendered_template"] == "S hi!"
    assert server.post("/api/show", {"model": "templated"}).json()["template"] == "{{ .System }} {{ .Prompt }}!"


def test_pulling_what_is_here_transfers_nothing(server: Server) -> None:
    """A starter whose blobs are all here: the steps of a pull, each layer complete at once."""
    lines = server.post("/api/pull", {"model": M}).lines()
    assert lines[0] == {"status": "pulling manifest"}
    layers = [line for line in lines if line["status"].startswith("pulling ") and "digest" in line]
    assert layers
    assert all(line["completed"] == line["total"] for line in layers)
    assert [line["status"] for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert server.post("/api/pull", {"model": M, "stream": False}).json() == {"status": "success"}


def test_pulling_what_no_starter_is(server: Server) -> None:
    streamed = server.post("/api/pull", {"model": "nope"})
    first, second = streamed.lines()
    assert (streamed.status, first) == (200, {"status": "pulling manifest"})
    assert second["error"].startswith("pull model manifest: ")
    whole = server.post("/api/pull", {"model": "nope", "stream": False})
    assert (whole.status, whole.error) == (500, second["error"])


def test_s99_a_broken_model_does_not_hide_the_others(start_server: Any) -> None:
    own = start_server()
    create(own, model="broken", system="something unique", **{"from": M})
    manifest = json.loads((own.models / "manifests/registry.ollama.ai/library/broken/latest").read_bytes())
    (own.models / "blobs" / manifest["config"]["digest"].replace(":", "-")).unlink()
    assert "broken:latest" not in tags(own)
    assert E in tags(own)


def test_s98_other_programs_changes_are_seen_at_once(server: Server, tmp_path: Path) -> None:
    library = server.models / "manifests/registry.ollama.ai/library"
    (library / "foreign").mkdir()
    (library / "foreign" / "latest").write_bytes((library / "smollm2" / "135m").read_bytes())
    assert "foreign:latest" in tags(server)
    (library / "foreign" / "latest").unlink()
    assert "foreign:latest" not in tags(server)


def test_s23_a_blob_that_is_a_link(server: Server, tmp_path: Path) -> None:
    """S-23: show, run and create-from go through it, and deleting the models removes the link alone."""
    target = tmp_path / "weights.gguf"
    target.write_bytes(tiny_llama({"general.name": "linked"}))
    model_folders.add(server.models, "linked", target.read_bytes(), config={"model_format": "gguf"})
    blob = server.models / "blobs" / f"sha256-{hashlib.sha256(target.read_bytes()).hexdigest()}"
    blob.unlink()
    blob.symlink_to(target)
    assert server.post("/api/show", {"model": "linked"}).json()["model_info"]["llama.block_count"] == 1
    assert create(server, model="derived", system="s", **{"from": "linked"}).json() == {"status": "success"}
    for name in ("linked", "derived"):
        answer = server.post("/api/generate", {"model": name, "prompt": "a", "options": {"num_predict": 1}})
        assert answer.lines()[-1]["done"] is True
    server.unload_all()
    for name in ("linked", "derived"):
        assert blob.is_symlink()
        assert delete(server, name).status == 200
    assert not os.path.lexists(blob)
    assert target.read_bytes() == tiny_llama({"general.name": "linked"})

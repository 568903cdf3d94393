"""Models made through the API, out of every kind of source (native-api §3.11, store-registry §6, security §2)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ollama
import pytest

from llamero import gguf
from tests import model_folders
from tests.build.quantizable import llama
from tests.build.test_shards import WHOLE, split_model
from tests.gguf_files import Raw, TensorSpec, Typed, gguf_file, llama_metadata, tiny_llama
from tests.running import Reply, Server, children

DATA = Path(__file__).parents[1] / "data"
HF_LLAMA = {path.name: path.read_bytes() for path in (DATA / "hf-tiny" / "llama").iterdir()}
HF_LORA = {path.name: path.read_bytes() for path in (DATA / "hf-tiny-lora").iterdir()}
HEX = "0" * 64
SUPPORTED = "supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"


def upload(server: Server, files: Mapping[str, bytes]) -> dict[str, str]:
    digests = {}
    for path, content in files.items():
        digests[path] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert server.post(f"/api/blobs/{digests[path]}", content).status in (200, 201)
    return digests


def create(server: Server, model: str = "made", **body: Any) -> Reply:
    return server.post("/api/create", {"model": model, "stream": False, **body})


def made(server: Server, model: str = "made", **body: Any) -> None:
    reply = create(server, model, **body)
    assert (reply.status, reply.json()) == (200, {"status": "success"})


def show(server: Server, model: str = "made", **body: Any) -> dict[str, Any]:
    reply = server.post("/api/show", {"model": model, **body})
    assert reply.status == 200, reply.body
    shown: dict[str, Any] = reply.json()
    return shown


def generate(server: Server, model: str) -> Reply:
    options = {"num_predict": 4, "num_ctx": 64}
    body = {"model": model, "prompt": "a", "raw": True, "stream": False, "options": options, "keep_alive": 0}
    return server.post("/api/generate", body)


def blobs(server: Server) -> set[str]:
    return model_folders.blobs(server.models)


# --- every source, and an engine that runs what came out ---


@pytest.mark.engine
def test_a_checkpoint_is_converted_quantized_and_runs(server: Server) -> None:
    """As the reference's own Python client sends and follows it."""
    client = ollama.Client(server.url)
    steps = list(client.create("made", files=upload(server, HF_LLAMA), quantize="q4_K_M", stream=True))
    client._client.close()
    told = list(dict.fromkeys(step.status for step in steps))
    assert told[:3] == ["converting model", "quantizing F16 model to Q4_K_M", "verifying conversion"]
    assert told[-2:] == ["writing manifest", "success"]
    quantizing = [step for step in steps if step.status == "quantizing F16 model to Q4_K_M"]
    assert {step.digest for step in quantizing} == {"0" * 19}
    assert quantizing[-1].completed == quantizing[-1].total != 0
    shown = show(server)
    assert shown["details"]["quantization_level"] == "Q4_K_M"
    assert shown["model_info"]["general.file_type"] == 15
    answer = generate(server, "made")
    assert (answer.status, answer.json()["eval_count"]) == (200, 4)


@pytest.mark.engine
def test_an_adapter_made_of_safetensors_runs(server: Server) -> None:
    made(server, files=upload(server, HF_LLAMA), adapters=upload(server, HF_LORA))
    assert "\nADAPTER " in show(server)["modelfile"]
    assert generate(server, "made").status == 200


@pytest.mark.engine
def test_s76_split_files_are_one_model(server: Server) -> None:
    files = {f"m-0000{n}-of-00002.gguf": content for n, content in enumerate(split_model(), start=1)}
    made(server, files=upload(server, files))
    assert len(show(server)["tensors"]) == len(WHOLE)
    assert generate(server, "made").status == 200


def test_s65_an_upload_keeps_its_digest(server: Server) -> None:
    file = llama(metadata={"general.name": "Kept"})
    (digest,) = upload(server, {"my-own-name.gguf": file}).values()
    made(server, files={"my-own-name.gguf": digest})
    manifest = model_folders.manifest_path(server.models, "made").read_text()
    assert "my-own-name" not in manifest
    document = json.loads(manifest)
    assert document["layers"] == [
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": len(file)}
    ]
    config = json.loads((server.models / "blobs" / document["config"]["digest"].replace(":", "-")).read_text())
    parameters = sum(tensor.elements for tensor in gguf.read_header(file).tensors)
    assert config == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": gguf.human_count(parameters),
        "file_type": "F16",
        "architecture": "amd64",
        "os": "linux",
    }


def test_s79_quantize_by_any_name(server: Server) -> None:
    files = upload(server, {"m.gguf": llama()})
    for level, stored in {"q4_k": "Q4_K_M", "q6_k": "Q6_K"}.items():
        made(server, files=files, quantize=level)
        assert show(server)["details"]["quantization_level"] == stored
    made(server, "older", files=files, quantization="Q8_0")
    assert show(server, "older")["details"]["quantization_level"] == "Q8_0"
    unknown = create(server, files=files, quantize="q9_z")
    assert (unknown.status, unknown.error) == (500, f"unsupported quantization type Q9_Z - {SUPPORTED}")
    again = create(server, **{"from": "older"}, quantize="q4_0")
    assert (again.status, again.error) == (500, "quantization is only supported for F16, BF16 and F32 models")
    assert show(server, "older")["details"]["quantization_level"] == "Q8_0"


# --- refusals ---


@pytest.mark.parametrize("path", ["../x", "/abs", "a//b", "a/./b", "..\\x", "a\0b"])
@pytest.mark.parametrize("stream", [True, False])
def test_s72_paths_that_are_not_relative(server: Server, path: str, stream: bool) -> None:
    for field in ("files", "draft_files"):
        reply = create(server, **{field: {path: f"sha256:{HEX}"}}, stream=stream)
        assert (reply.status, reply.error) == (400, "file path must be relative")
    reply = create(server, files={"x": ""}, stream=stream)
    assert (reply.status, reply.error) == (400, "invalid digest format")


PATHS = ["/etc/passwd", "/etc/shadow", "/no/such/file", "/dev/zero", "/dev/random"]


def test_x15_a_path_of_the_server_tells_nothing(server: Server) -> None:
    def replies(path: str) -> list[tuple[int, str]]:
        asked: list[dict[str, Any]] = [
            {"files": {"m.gguf": path}},
            {"files": {path: f"sha256:{HEX}"}},
            {"from": path},
            {"modelfile": f"FROM {path}"},
            {"adapters": {"a.gguf": path}, "from": "smollm2:135m"},
        ]
        return [((reply := create(server, **body)).status, reply.error) for body in asked]

    began_s = time.monotonic()
    first, *others = [replies(path) for path in PATHS]
    assert time.monotonic() - began_s < len(PATHS)
    assert all(other == first for other in others)
    assert first == [
        (400, "invalid digest format"),
        (400, "file path must be relative"),
        (400, "invalid model name"),
        (400, "neither 'from' or 'files' was specified"),
        (400, "invalid digest format"),
    ]


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../../../etc/ld.so.preload", "x")
        file.writestr("model.gguf", tiny_llama())
    return buffer.getvalue()


def test_x17_archives_are_never_unpacked(server: Server) -> None:
    for name in ("model.zip", "model.bin", "model.gguf", "pytorch_model.bin", "model.tar"):
        reply = create(server, "archive", files=upload(server, {name: archive()}))
        assert reply.status == 400
    reply = create(server, "archive", files=upload(server, {"model.safetensors": archive(), "config.json": b"{}"}))
    assert reply.status == 400
    assert not model_folders.manifest_path(server.models, "archive").exists()


@pytest.mark.parametrize("size", [0, 4, 8, 23])
def test_x21_a_file_cut_short(server: Server, size: int) -> None:
    """X-21. An upload is the client's fault, a stored file is ours; the text is the same."""
    cut = tiny_llama()[:size]
    refused = create(server, files=upload(server, {"m.gguf": cut}))
    assert refused.status == 400
    model_folders.add(server.models, f"cut{size}", cut)
    for path in ("/api/show", "/api/generate", "/api/chat"):
        broken = server.post(
            path, {"model": f"cut{size}", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
        )
        assert broken.status == 500
        assert broken.error in (refused.error, "invalid model file: invalid file magic")
    if size:
        assert refused.error == broken.error == "invalid model file: unexpected end of file"
    else:
        assert refused.error == "supplied file was not in GGUF format"


def test_x22_a_blob_that_is_no_file(server: Server, tmp_path: Path) -> None:
    """Partly X-22: as a source of create; a FIFO and a folder never hang it, and a link leads where it leads."""
    digests = {}
    for kind in ("fifo", "folder", "nowhere"):
        digests[kind] = f"sha256:{hashlib.sha256(kind.encode()).hexdigest()}"
        path = server.models / "blobs" / digests[kind].replace(":", "-")
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "nowhere")
        began_s = time.monotonic()
        for field in ("files", "adapters", "draft_files"):
            reply = create(
                server,
                **{"from": "smollm2:135m", field: {"m.gguf": digests[kind]}}
                if field != "files"
                else {field: {"m.gguf": digests[kind]}},
            )
            assert (reply.status, reply.error) == (400, f'blob "{digests[kind]}" not found')
        assert time.monotonic() - began_s < 5
        path.rmdir() if kind == "folder" else path.unlink()


def tensors(*specs: TensorSpec) -> bytes:
    return gguf_file(llama_metadata(), specs)


HOSTILE = [
    pytest.param(tiny_llama({"llama.block_count": 0}), id="X-23 no blocks"),
    pytest.param(tiny_llama({"llama.embedding_length": 0}), id="X-23 no embedding"),
    pytest.param(tiny_llama({"llama.vocab_size": 0}), id="X-23 no vocabulary"),
    pytest.param(tensors(TensorSpec("t", (8,), offset=64)), id="X-24 past the end"),
    pytest.param(tensors(TensorSpec("a", (16,)), TensorSpec("b", (8,), offset=32)), id="X-24 overlap"),
    pytest.param(tensors(TensorSpec("a", (16,)), TensorSpec("b", (4,), offset=16)), id="X-24 misaligned"),
    pytest.param(tensors(TensorSpec("t", (8,), offset=(1 << 64) - 32)), id="X-24 negative"),
    pytest.param(tiny_llama({"general.architecture": None}), id="X-25 no architecture"),
    pytest.param(tiny_llama({"tokenizer.ggml.scores": [0.0]}), id="X-25 unequal arrays"),
    pytest.param(gguf_file({"k": Raw(8, struct.pack("<Q", 1 << 62))}), id="X-26 string"),
    pytest.param(gguf_file({"k": Raw(9, struct.pack("<IQ", 4, (1 << 64) - 1))}), id="X-26 array"),
    pytest.param(gguf_file(n_pairs=1 << 62), id="X-26 keys"),
    pytest.param(gguf_file(n_tensors=1 << 31), id="X-26 tensors"),
    pytest.param(gguf_file({"k": "v"}, version=1), id="X-26 version 1"),
    *(pytest.param(tiny_llama({"general.alignment": n}), id=f"X-27 {n}") for n in (0, 3, 1 << 31)),
    pytest.param(tiny_llama({"tokenizer.ggml.tokens": ["<0x-1>"] * 260}), id="X-29 byte token"),
    pytest.param(tiny_llama({"tokenizer.ggml.token_type": Typed("[i32]", [1])}), id="X-29 unequal arrays"),
]


@pytest.mark.parametrize("file", HOSTILE)
def test_hostile_files_are_refused_and_leave_nothing(server: Server, file: bytes) -> None:
    """As weights, with and without work to do, as a draft and as an adapter (CVE-2024-8063, -0317, 2026-7482)."""
    files = upload(server, {"m.gguf": file})
    bodies: list[dict[str, Any]] = [
        {"files": files},
        {"files": files, "quantize": "q8_0"},
        {"from": "smollm2:135m", "draft_files": files},
        {"from": "smollm2:135m", "adapters": files},
    ]
    before = blobs(server)
    for body in bodies:
        reply = create(server, "hostile", **body)
        assert reply.status == 400
        assert reply.error.startswith("invalid model file: ")
    assert blobs(server) == before
    assert not model_folders.manifest_path(server.models, "hostile").exists()


@pytest.mark.parametrize("heads", [0, [0]])
def test_x23_nobody_divides_by_heads_that_are_not_there(server: Server, heads: Any) -> None:
    """X-23, with the table above: create, show and the estimate before a load."""
    keys = {f"llama.attention.head_count{suffix}": heads for suffix in ("", "_kv")}
    made(server, "headless", files=upload(server, {"m.gguf": tiny_llama(keys)}))
    assert "division" not in json.dumps(show(server, "headless"))
    reply = generate(server, "headless")
    assert "division" not in reply.body.decode()
    assert server.get("/api/version").status == 200


def test_fields_that_cannot_be_meant(server: Server) -> None:
    """In the words and with the statuses of the reference, whose licences are read late."""
    files = upload(server, {"m.gguf": tiny_llama()})
    unread = "json: cannot unmarshal string into Go struct field CreateRequest"
    no_function = "messages.tool_calls.function of type api.ToolCallFunction"
    fields: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"info": {"model_family": 5}}, 400, 'info field "model_family" must be a string'),
        ({"info": {"context_length": "8"}}, 400, 'info field "context_length" must be a number'),
        ({"info": {"context_length": 1.5}}, 400, 'info field "context_length" must be a non-negative integer'),
        ({"license": {"MIT": 1}}, 500, "json: cannot unmarshal object into Go value of type []string"),
        ({"license": ["MIT", None, 5]}, 500, "json: cannot unmarshal number into Go value of type string"),
        ({"messages": ["hi"]}, 400, f"{unread}.messages of type api.Alias"),
        ({"messages": [{"tool_calls": ["f"]}]}, 400, f"{unread}.messages.tool_calls of type api.ToolCall"),
        ({"messages": [{"tool_calls": [{"function": "f"}]}]}, 400, f"{unread}.{no_function}"),
    )
    for wrong, status, text in fields:
        reply = create(server, "bad", files=files, **wrong)
        assert (reply.status, reply.error) == (status, text)


# --- stubs of remote models ---


def test_s88_a_stub_of_a_remote_model(server: Server) -> None:
    info = {"model_family": "gptoss", "base_name": "gpt-oss", "context_length": 131072, "embedding_length": 2880}
    made(server, "stub", **{"from": "gpt-oss:120b"}, remote_host="https://ollama.com", info=info)
    shown = show(server, "stub")
    assert shown["model_info"] == {
        "general.architecture": "gptoss",
        "general.basename": "gpt-oss",
        "gptoss.context_length": 131072,
        "gptoss.embedding_length": 2880,
    }
    assert "tensors" not in shown
    assert (shown["remote_model"], shown["remote_host"]) == ("gpt-oss:120b", "https://ollama.com:443")
    reply = create(
        server, **{"from": "gpt-oss"}, remote_host="https://ollama.com", draft_files={"d.gguf": f"sha256:{HEX}"}
    )
    assert (reply.status, reply.error) == (400, "DRAFT cannot be used with remote models")
    used = generate(server, "stub")
    assert (used.status, used.error) == (403, "ollama cloud is disabled: remote model is unavailable")


FOREIGN = ["https://ollama.com.evil.test", "https://evil.test/ollama.com", "http://127.0.0.1:11434"]


@pytest.mark.parametrize("host", [*FOREIGN, "https://ollama.com@evil.test"])
def test_x94_a_remote_host_that_is_not_allowed(server: Server, host: str) -> None:
    """Refused at create, and at use where another program made the stub."""
    reply = create(server, "foreign", **{"from": "x"}, remote_host=host)
    text = "bad remote" if "@" in host else "this server cannot run this remote model"
    assert (reply.status, reply.error) == (400, text)
    model_folders.add(server.models, "foreign", config={"remote_host": host, "remote_model": "x"}, system="s")
    used = generate(server, "foreign")
    assert (used.status, used.error) == (400, "this server cannot run this remote model")
    server.call("DELETE", "/api/delete", {"model": "foreign"})


def test_the_hosts_of_remote_models_are_a_setting(start_server: Any, tmp_path: Path) -> None:
    """OLLAMA_REMOTES."""
    other = start_server(models=tmp_path / "m", OLLAMA_REMOTES="gpu-box, other.test")
    made(other, "stub", **{"from": "x"}, remote_host="http://gpu-box")
    assert create(other, "no", **{"from": "x"}, remote_host="ollama.com").status == 400


def test_a_server_without_cloud_has_no_stubs(start_server: Any, tmp_path: Path) -> None:
    """OLLAMA_NO_CLOUD."""
    alone = start_server(models=tmp_path / "m", OLLAMA_NO_CLOUD="1")
    reply = create(alone, "stub", **{"from": "x"}, remote_host="ollama.com")
    assert (reply.status, reply.error) == (403, "ollama cloud is disabled: remote model is unavailable")
    model_folders.add(
        alone.models, "stub", config={"remote_host": "https://ollama.com:443", "remote_model": "x"}, system="s"
    )
    shown = alone.post("/api/show", {"model": "stub"})
    assert (shown.status, shown.error) == (403, "ollama cloud is disabled: remote model details are unavailable")


# --- a client that leaves ---


def test_x86_who_hangs_up_stops_the_work(server: Server) -> None:
    """Partly X-86: the child that quantizes is gone within two seconds, and nothing of its work is left."""
    files = upload(server, {"m.gguf": llama("F32", n_layers=12)})
    before, engines = blobs(server), set(children(server.process.pid))
    body = {"model": "never", "files": files, "quantize": "iq3_s"}
    with server.streaming("/api/create", body) as reply:
        while b'"completed"' not in reply.readline():  # the first tensor is done
            pass
        (worker,) = set(children(server.process.pid)) - engines
    server.wait_until(lambda: worker not in children(server.process.pid), timeout_s=2)
    scratch = server.models / ".llamero" / "tmp"
    server.wait_until(lambda: not list(scratch.iterdir()))
    assert blobs(server) == before
    assert not model_folders.manifest_path(server.models, "never").exists()


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ .Prompt", "unclosed action"),
        ("{{ if .Prompt }}", "unexpected EOF"),
        ("{{ Prompt }}", 'function "Prompt" not defined'),
    ],
)
def test_a_template_that_is_none(server: Server, template: str, fault: str) -> None:
    """S-71, T-29, N-116"""
    before = blobs(server)
    reply = create(server, "never", files=upload(server, {"m.gguf": tiny_llama()}), template=template)
    assert (reply.status, reply.json()) == (400, {"error": f"template error: template: :1: {fault}"})
    assert "never:latest" not in [model["name"] for model in server.get("/api/tags").json()["models"]]
    assert blobs(server) - before <= {hashlib_name(tiny_llama())}


def hashlib_name(content: bytes) -> str:
    return f"sha256-{hashlib.sha256(content).hexdigest()}"

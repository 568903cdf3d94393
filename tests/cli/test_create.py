"""`create`: from a Modelfile and its files to one request (cli §3.2, modelfile-templates §1)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.gguf_files import gguf_file, tiny_llama

CREATED = Reply(lines=[{"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"}])


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def creator(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """A server that has no blob yet; the working directory is an empty folder."""
    monkeypatch.chdir(tmp_path)
    server.replies["POST /api/create"] = CREATED
    return server


def lacks(server: ScriptedServer, *contents: bytes) -> None:
    for data in contents:
        server.replies |= {f"HEAD /api/blobs/{digest(data)}": Reply(404), f"POST /api/blobs/{digest(data)}": Reply(201)}


def uploads(server: ScriptedServer) -> list[str]:
    return [route for route in server.routes if route.startswith("POST /api/blobs/")]


def test_every_instruction_reaches_the_request(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("Modelfile").write_text(
        'FROM base:7b\nTEMPLATE """{{ .Prompt }}"""\nSYSTEM Be kind\nLICENSE one\nLICENSE two\nPARAMETER top_k 1\n'
        "PARAMETER stop a\nPARAMETER stop b\nPARAMETER mirostat 1\nMESSAGE user hi\nMESSAGE assistant yo\n"
        "RENDERER r\nPARSER p\nREQUIRES v0.14.0\n"
    )
    outcome = ollama("create", "mine", "-q", "q4_K_M")
    assert (outcome.status, outcome.out) == (0, "")
    assert creator.body("POST /api/create") == {
        "model": "mine",
        "from": "base:7b",
        "template": "{{ .Prompt }}",
        "system": "Be kind",
        "license": ["one", "two"],
        "parameters": {"top_k": 1, "stop": ["a", "b"]},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
        "renderer": "r",
        "parser": "p",
        "requires": "0.14.0",
        "quantize": "q4_K_M",
    }
    assert outcome.err.splitlines() == [
        "gathering model components",
        "warning: parameter mirostat is deprecated",
        "parsing GGUF",
        "writing manifest",
        "success",
    ]


def test_a_modelfile_from_standard_input(ollama: Ollama, creator: ScriptedServer) -> None:
    assert ollama("create", "mine", "-f", "-", stdin="FROM base\nSYSTEM hi").status == 0
    assert creator.body("POST /api/create") == {"model": "mine", "from": "base", "system": "hi"}


def test_files_are_sent_and_named(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("sub").mkdir()
    Path("sub/a.gguf").write_bytes(b"GGUF\x00weights")
    Path("sub/Modelfile").write_text("FROM ./a.gguf\n")
    lacks(creator, b"GGUF\x00weights")
    outcome = ollama("create", "mine", "-f", "sub/Modelfile")
    assert outcome.status == 0
    name = digest(b"GGUF\x00weights")
    assert creator.routes == [
        "GET /api/llamero/store",  # which stock Ollama does not know: then the file is sent
        f"HEAD /api/blobs/{name}",
        f"POST /api/blobs/{name}",
        "POST /api/create",
    ]
    assert creator.body(f"POST /api/blobs/{name}") == b"GGUF\x00weights"
    assert creator.body("POST /api/create") == {"model": "mine", "files": {"a.gguf": name}}
    assert f"copying file {name} 0% 0 B/12 B\n" in outcome.err
    assert f"copying file {name} 100% 12 B/12 B\n" in outcome.err


def test_sub_directories_keep_their_names_and_known_blobs_stay_here(ollama: Ollama, creator: ScriptedServer) -> None:
    """L-73"""
    Path("m/2_Dense").mkdir(parents=True)
    contents = {"m/model.safetensors": b"\x00w", "m/config.json": b"{}", "m/2_Dense/config.json": b"{ }"}
    for name, data in contents.items():
        Path(name).write_bytes(data)
    Path("Modelfile").write_text("FROM m\n")
    lacks(creator, b"\x00w", b"{ }")
    creator.replies[f"HEAD /api/blobs/{digest(b'{}')}"] = Reply()
    assert ollama("create", "mine").status == 0
    assert creator.body("POST /api/create")["files"] == {
        "2_Dense/config.json": digest(b"{ }"),
        "config.json": digest(b"{}"),
        "model.safetensors": digest(b"\x00w"),
    }
    assert sorted(uploads(creator)) == sorted(f"POST /api/blobs/{digest(data)}" for data in (b"\x00w", b"{ }"))


def test_equal_files_are_sent_once(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("a.gguf").write_bytes(b"GGUF\x00")
    Path("b.gguf").write_bytes(b"GGUF\x00")
    Path("Modelfile").write_text("FROM a.gguf\nFROM b.gguf\n")
    lacks(creator, b"GGUF\x00")
    assert ollama("create", "mine").status == 0
    assert len(uploads(creator)) == 1
    assert list(creator.body("POST /api/create")["files"]) == ["a.gguf", "b.gguf"]


def test_adapters_and_drafts_are_groups_of_their_own(ollama: Ollama, creator: ScriptedServer) -> None:
    for name in ("old.gguf", "lora.gguf", "draft.gguf"):
        Path(name).write_bytes(b"GGUF\x00" + name.encode())
        lacks(creator, b"GGUF\x00" + name.encode())
    Path("Modelfile").write_text("FROM base\nADAPTER old.gguf\nADAPTER lora.gguf\nDRAFT draft.gguf\n")
    assert ollama("create", "mine", "--draft-quantize", "q8_0").status == 0
    assert creator.body("POST /api/create") == {
        "model": "mine",
        "from": "base",
        "adapters": {"lora.gguf": digest(b"GGUF\x00lora.gguf")},
        "draft_files": {"draft.gguf": digest(b"GGUF\x00draft.gguf")},
        "draft_quantize": "q8_0",
    }


def test_without_a_modelfile_the_folder_is_the_model(ollama: Ollama, creator: ScriptedServer) -> None:
    """partly L-71"""
    Path("w.gguf").write_bytes(b"GGUF\x00")
    lacks(creator, b"GGUF\x00")
    assert ollama("create", "mine").status == 0
    assert creator.body("POST /api/create") == {"model": "mine", "files": {"w.gguf": digest(b"GGUF\x00")}}


def test_without_a_modelfile_an_empty_folder_is_nothing(ollama: Ollama, creator: ScriptedServer) -> None:
    """L-71, together with the folder of weights above"""
    outcome = ollama("create", "mine")
    assert (outcome.status, creator.routes) == (1, [])
    assert outcome.err.endswith("Error: no Modelfile or safetensors files found\n")


def test_a_missing_modelfile_that_was_named(ollama: Ollama, creator: ScriptedServer) -> None:
    """L-70"""
    Path("w.gguf").write_bytes(b"GGUF\x00")
    outcome = ollama("create", "mine", "-f", "nope")
    assert (outcome.status, outcome.err) == (1, "Error: specified Modelfile wasn't found\n")


def test_an_invalid_name_is_refused_before_any_file_is_read(ollama: Ollama, creator: ScriptedServer) -> None:
    """L-72"""
    outcome = ollama("create", "a/b/c/d/e:x", "-f", "nope")
    assert (outcome.status, outcome.err) == (1, "Error: invalid model name: a/b/c/d/e:x\n")
    assert creator.routes == []


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("SYSTEM x\n", [], "no FROM line"),
        ("FROM x\nPARAMETER foo 1\n", [], "unknown parameter 'foo'"),
        ("FROM x\nADAPTER ./no.gguf\n", [], "stat {cwd}/no.gguf: no such file or directory"),
        ("FROM x\nDRAFT no\n", [], "stat {cwd}/no: no such file or directory"),
        ("FROM ~nobody-here/x\n", [], "failed to find user 'nobody-here': user: unknown user nobody-here"),
        ("FROM x\n", ["--draft-quantize", "q8_0"], "--draft-quantize requires a DRAFT model"),
    ],
)
def test_what_is_wrong_with_a_modelfile(
    ollama: Ollama, creator: ScriptedServer, text: str, flags: list[str], message: str
) -> None:
    Path("Modelfile").write_text(text)
    outcome = ollama("create", "mine", *flags)
    assert outcome.status == 1
    assert outcome.err.endswith(f"Error: {message.format(cwd=Path.cwd())}\n")
    assert creator.routes == []


@pytest.mark.parametrize("draft", ["./a.gguf", "link.gguf"])
def test_a_draft_is_another_file_than_the_model(ollama: Ollama, creator: ScriptedServer, draft: str) -> None:
    """T-23"""
    Path("a.gguf").write_bytes(b"GGUF\x00")
    Path("link.gguf").symlink_to("a.gguf")
    Path("Modelfile").write_text(f"FROM ./a.gguf\nDRAFT {draft}\n")
    outcome = ollama("create", "mine")
    path = Path(draft).absolute()
    assert outcome.err.endswith(f"Error: DRAFT must not reference the same local path as FROM: {path}\n")


def test_only_a_projector_may_stand_beside_a_named_model(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("w.gguf").write_bytes(tiny_llama())
    Path("p.gguf").write_bytes(projector := gguf_file({"general.architecture": "clip", "general.type": "mmproj"}))
    Path("Modelfile").write_text("FROM base\nFROM ./w.gguf\n")
    assert "FROM names the model base and files besides" in ollama("create", "mine").err
    lacks(creator, projector)
    Path("Modelfile").write_text("FROM base\nFROM ./p.gguf\n")
    assert ollama("create", "mine").status == 0
    assert creator.body("POST /api/create") == {"model": "mine", "from": "base", "files": {"p.gguf": digest(projector)}}


def test_an_error_of_the_server_ends_it(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("Modelfile").write_text("FROM base")
    creator.replies["POST /api/create"] = Reply(lines=[{"status": "parsing GGUF"}, {"error": "unknown type"}])
    outcome = ollama("create", "mine")
    assert (outcome.status, outcome.err.splitlines()[-1]) == (1, "Error: unknown type")


def test_a_refused_upload_ends_it(ollama: Ollama, creator: ScriptedServer) -> None:
    Path("w.gguf").write_bytes(b"GGUF\x00")
    name = digest(b"GGUF\x00")
    refusal = Reply(400, json={"error": "digest mismatch"})
    creator.replies |= {f"HEAD /api/blobs/{name}": Reply(404), f"POST /api/blobs/{name}": refusal}
    outcome = ollama("create", "mine")
    assert (outcome.status, outcome.err.splitlines()[-1]) == (1, "Error: digest mismatch")
    assert creator.bodies("POST /api/create") == []


def test_ctrl_c_does_not_wait_for_a_silent_server(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(b"GGUF\x00")
    server.replies[f"HEAD /api/blobs/{digest(b'GGUF' + bytes(1))}"] = Reply(after=threading.Event())
    process = subprocess.Popen(
        [sys.executable, "-m", "llamero.cli.main", "create", "mine"],
        cwd=tmp_path,
        env=os.environ | {"OLLAMA_HOST": server.address},
        stderr=subprocess.PIPE,
    )
    assert server.asked(3)  # the heartbeat, the question where the models are, and the blob
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=5) == (None, b"gathering model components\n")
    assert process.returncode == 130
    assert server.disconnected.wait(1)

"""An engine serves us and nobody else: who may talk to it, about what, and for how long it may keep us waiting."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from llamero.engines import llamacpp
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.errors import TemplateRefused
from tests.engines.starting import ENV, fake_plan, fake_settings, plan_of, running
from tests.parrot import write_parrot

ROUTES = (
    "GET /props",
    "POST /props",
    "GET /slots",
    "POST /slots/0?action=save",
    "POST /slots/0?action=restore",
    "POST /slots/0?action=erase",
    "GET /metrics",
    "POST /completion",
    "POST /completions",
    "POST /v1/completions",
    "POST /v1/chat/completions",
    "POST /v1/messages",
    "POST /v1/responses",
    "POST /v1/embeddings",
    "POST /embedding",
    "POST /rerank",
    "POST /infill",
    "POST /tokenize",
    "POST /detokenize",
    "POST /apply-template",
    "GET /lora-adapters",
    "POST /lora-adapters",
    "POST /models/load",
    "POST /models/unload",
)
"""Those of llama.cpp's server that tell, take or change something."""


def ask(path: str, request: str, body: object, bearer: str = "") -> tuple[int, bytes]:
    method, target = request.split()
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(10)
        connection.connect(path)
        data = json.dumps(body).encode()
        key = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{key}Content-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def listening(pid: int) -> tuple[list[str], list[str]]:
    """TCP addresses and unix sockets on which a process accepts connections."""
    inodes = {str(fd.readlink())[8:-1] for fd in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in str(fd.readlink())}

    def rows(table: str) -> list[list[str]]:
        return [line.split() for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]

    tcp = [row[1] for table in ("tcp", "tcp6", "udp", "udp6") for row in rows(table) if row[9] in inodes]
    unix = [row[7] for row in rows("unix") if row[6] in inodes and row[3] == "00010000"]
    return tcp, unix


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.engine
async def test_x92_it_answers_to_its_bearer_only(tmp_path: Path) -> None:
    """X-92: one unix socket, no route without the secret, no writing of settings, and slots in our folder alone."""
    saved = tmp_path / "saved"

    @contextmanager
    def folder() -> Iterator[Path]:
        saved.mkdir()
        yield saved

    plan = plan_of(write_parrot(tmp_path / "p.gguf", "Hello."))
    async with running(plan, LlamaCppSettings(env=ENV, slot_folder=folder)) as engine:
        path, secret = engine.endpoint.socket, engine.endpoint.secret

        async def asked(request: str, body: object, bearer: str = "") -> int:
            return (await asyncio.to_thread(ask, path, request, body, bearer))[0]

        assert listening(engine.pid) == ([], [path])
        for request in ROUTES:
            for bearer in ("", "x", secret[:-1], secret + "x"):
                assert await asked(request, {"prompt": "x"}, bearer) in (401, 404), request
        assert await asked("POST /completion", {"prompt": "x", "n_predict": 1}, secret) == 200
        for request in ("POST /props", "GET /slots", "GET /metrics"):
            assert await asked(request, {"default_generation_settings": {}}, secret) == 501
        for file in ("../out", "/tmp/out", "a/b", "..", "", "a\0b"):
            for action in ("save", "restore"):
                status = await asked(f"POST /slots/0?action={action}", {"filename": file}, secret)
                assert 400 <= status < 500, (action, file)
        assert await engine.wire.save_slot(0, "ours") > 0
        assert files_in(tmp_path) == ["p.gguf", "saved", "saved/ours"]


def test_x92_the_engine_has_no_rpc() -> None:
    """X-92: what would let other machines write into its memory is not built in, and no part of the package."""
    files = importlib.metadata.files("xllamacpp")
    assert files
    libraries = [Path(str(file.locate())) for file in files if ".so" in file.name or file.suffix in (".pyd", ".dylib")]
    assert libraries
    for library in libraries:
        assert "rpc" not in library.name
        found = set(re.findall(rb"ggml_backend_rpc_\w+", library.read_bytes()))
        assert found <= {b"ggml_backend_rpc_add_server"}, "the name by which its options would look for one"


async def test_an_engine_that_is_silent_behind_its_last_line_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partly X-74: what it does there is to try out the chat template, which may never end."""
    monkeypatch.setattr(llamacpp, "TEMPLATE_TIMEOUT_S", 0.2)
    script: dict[str, Any] = {"prints": ["srv  load_model: context checkpoints enabled, max = 32"], "listens": False}
    with pytest.raises(TemplateRefused, match=r"the chat template took longer than 0\.2 s"):
        await LlamaCpp.start(fake_plan(tmp_path), fake_settings(tmp_path, script))

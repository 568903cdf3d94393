"""Every variable that is said to be honoured has an effect that a client can see (cli §10)."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import ENDLESS, Server, free_port, running

M = "smollm2:135m"


def ask(server: Server, **options: Any) -> Any:
    body = {"model": M, "prompt": "hi", "stream": False, "options": {"num_predict": 1, **options}}
    return server.post("/api/generate", body)


def long_answer(server: Server) -> Any:
    return server.streaming(
        "/api/generate", {"model": M, "prompt": "x", "options": {"num_predict": 4000, "grammar": ENDLESS}}
    )


def test_what_models_are_loaded_with(start_server: StartServer) -> None:
    """OLLAMA_CONTEXT_LENGTH, OLLAMA_KV_CACHE_TYPE, OLLAMA_FLASH_ATTENTION, LLAMERO_MAX_CONTEXT, OLLAMA_DEBUG, and
    OLLAMA_KEEP_ALIVE (R-18)."""
    server = start_server(
        OLLAMA_CONTEXT_LENGTH="1024",
        OLLAMA_KV_CACHE_TYPE="Q8_0",
        OLLAMA_FLASH_ATTENTION="1",
        LLAMERO_MAX_CONTEXT="2048",
        OLLAMA_DEBUG="1",
        OLLAMA_KEEP_ALIVE="-1",
    )
    assert ask(server).status == 200
    (model,) = server.get("/api/ps").json()["models"]
    assert model["context_length"] == 1024
    assert datetime.fromisoformat(model["expires_at"]).year > datetime.now(UTC).year + 100
    log = server.log.read_text()
    assert "K (q8_0)" in log
    assert "V (q8_0)" in log
    assert "flash_attn            = enabled" in log
    wide = ask(server, num_ctx=4096)
    assert wide.json()["warnings"] == ["num_ctx 4096 reduced to 2048, LLAMERO_MAX_CONTEXT"]


def test_who_may_ask_and_how_much(start_server: StartServer) -> None:
    """LLAMERO_MAX_BODY, LLAMERO_ALLOWED_HOSTS, OLLAMA_ORIGINS, LLAMERO_ALLOW_ROOT."""
    server = start_server(
        LLAMERO_MAX_BODY="10KB",
        LLAMERO_ALLOWED_HOSTS="llm.example.com",
        OLLAMA_ORIGINS="chrome-extension://*",
        LLAMERO_ALLOW_ROOT="1",
    )
    refused = server.post("/api/chat", {"model": M, "messages": [{"role": "user", "content": "x" * 20_000}]})
    assert (refused.status, refused.error) == (413, "request body too large (limit 10000 bytes)")
    assert server.get("/api/version", headers={"Host": "llm.example.com"}).status == 200
    assert server.get("/api/version", headers={"Host": "other.example.com"}).status == 403
    assert server.get("/api/version", headers={"Origin": "chrome-extension://abc"}).status == 200
    assert "as root" not in server.log.read_text()


@pytest.mark.heavy
def test_a_request_that_takes_too_long(start_server: StartServer) -> None:
    """LLAMERO_REQUEST_TIMEOUT, and LLAMERO_STOP_TIMEOUT with it."""
    server = start_server(LLAMERO_REQUEST_TIMEOUT="2s", LLAMERO_STOP_TIMEOUT="0")
    with long_answer(server) as response:
        last = response.read().splitlines()[-1]
    assert last == b'{"error":"the request took longer than LLAMERO_REQUEST_TIMEOUT allows"}'
    with long_answer(server) as response:
        response.readline()
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 2


def test_another_engine(start_server: StartServer, tmp_path: Path) -> None:
    """LLAMERO_LLAMA_SERVER: another program answers in the wheel's place."""
    text = {"choices": [{"delta": {"content": "from elsewhere"}}]}
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": {"prompt_n": 1, "predicted_n": 2}}
    program = install(tmp_path, {"replies": {"/v1/chat/completions": [{"send": text}, {"send": end}]}})
    server = start_server(LLAMERO_LLAMA_SERVER=str(program))
    reply = server.post("/api/chat", {"model": M, "messages": [{"role": "user", "content": "hi"}], "stream": False})
    assert reply.json()["message"]["content"] == "from elsewhere"


def test_connections_are_bounded(start_server: StartServer) -> None:
    """LLAMERO_MAX_CONNECTIONS: one too many is told so, the others are served."""
    server = start_server(LLAMERO_MAX_CONNECTIONS="4")
    with ExitStack() as stack:
        for _ in range(4):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            idle.sendall(b"GET / HT")
        time.sleep(0.1)
        assert server.get("/").status == 503
    server.wait_until(lambda: server.get("/").status == 200)


def test_where_things_are_kept(tmp_path: Path) -> None:
    """LLAMERO_HOME: keys there, and the store as well when OLLAMA_MODELS does not say otherwise."""
    with running(tmp_path, tmp_path / "unused", OLLAMA_MODELS="", LLAMERO_HOME=str(tmp_path / "own")) as server:
        data = b"some bytes"
        digest = hashlib.sha256(data).hexdigest()
        assert server.post(f"/api/blobs/sha256:{digest}", data).status == 201
    assert (tmp_path / "own" / "id_ed25519").exists()
    assert (tmp_path / "own" / "models" / "blobs" / f"sha256-{digest}").read_bytes() == data
    assert not (tmp_path / "unused").exists()


def test_several_addresses(tmp_path: Path) -> None:
    """OLLAMA_HOST as a list; a port that is taken is never replaced by another."""
    other = free_port()
    port = free_port()
    with running(tmp_path, tmp_path / "models", port=port, OLLAMA_HOST=f"127.0.0.1:{port},127.0.0.1:{other}") as server:
        with socket.create_connection(("127.0.0.1", other)) as second:
            second.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"Ollama is running" in second.makefile("rb").read()
        assert server.log.read_text().count("Listening on ") == 2


def test_models_of_preload_are_there_before_anybody_asks_and_stay(start_server: StartServer) -> None:
    server = start_server(LLAMERO_PRELOAD="nobody:1b, all-minilm:22m, smollm2:135m", OLLAMA_KEEP_ALIVE="1s")
    server.wait_until(lambda: set(server.loaded()) == {"all-minilm:22m", "smollm2:135m"})
    for model in server.get("/api/ps").json()["models"]:
        assert model["expires_at"] > "2300", "it stays"
    assert "nobody:1b cannot be loaded: model 'nobody:1b' not found" in server.log.read_text()


@pytest.mark.heavy
@pytest.mark.timeout(240)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is no core to leave")
def test_an_idle_engine_leaves_cores_to_a_busy_neighbour(start_server: StartServer) -> None:
    server = start_server(LLAMERO_NEIGHBOURS="1")
    ask(server)
    (before,) = server.engines()
    threads_before = threads(before)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        server.wait_until(lambda: (ask(server), server.engines() != [before])[1], timeout_s=100)
        (after,) = server.engines()
        sleeping = len(os.sched_getaffinity(0)) + 1  # so that the others do not spin
        server.wait_until(lambda: threads(after) - sleeping < threads_before)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))

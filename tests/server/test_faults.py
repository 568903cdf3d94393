"""What goes wrong around a server: killed processes, busy ports, bad folders, full disks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.gguf_files import tiny_llama
from tests.running import ENDLESS, OLLAMA, Server, clean_environment, free_port, is_running, running

M = "smollm2:135m"
STORY = {"model": M, "prompt": "Once", "options": {"num_predict": 4000, "grammar": ENDLESS}}


def load(server: Server) -> int:
    assert server.post("/api/generate", {"model": M}).status == 200
    (engine,) = server.engines()
    return engine


def wait_gone(pid: int, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_x93_a_killed_server_leaves_no_engine(start_server: Any) -> None:
    """X-93, one half; the other is the next test."""
    server = start_server()
    engine = load(server)
    server.process.kill()
    server.process.wait()
    wait_gone(engine)


def test_x93_a_killed_engine_does_not_take_the_server_along(start_server: Any) -> None:
    """Waiting requests get a clear error, the next one a fresh engine (R-08)."""
    server = start_server()
    engine = load(server)
    with server.streaming("/api/generate", STORY) as response:
        response.readline()
        os.kill(engine, signal.SIGKILL)
        assert b"an error was encountered while running the model: signal: killed" in response.read()
    assert load(server) != engine


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)])
def test_l100_r70_stopping_ends_engines_and_exits_cleanly(start_server: Any, number: signal.Signals) -> None:
    """L-100, R-70: within five seconds, status 0, also while an answer is running."""
    server = start_server()
    engine = load(server)
    with server.streaming("/api/generate", STORY) as response:
        response.readline()
        started = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 5
        assert response.read().splitlines()[-1] == b'{"error":"the server is stopping"}'
    wait_gone(engine)


def test_r22_a_load_that_nobody_waits_for_is_given_up(start_server: Any) -> None:
    """Partly R-22: the only waiter hangs up while the model loads; the next load works."""
    server = start_server()
    for _ in range(5):
        with server.streaming_unread("/api/generate", {"model": M}):
            pass
    server.wait_until(lambda: not server.engines() or server.loaded())
    assert server.post("/api/generate", {"model": M}).status == 200


def serve(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    settings = clean_environment(home) | env
    return subprocess.run([OLLAMA, "serve"], env=settings, capture_output=True, text=True, timeout=30, check=False)


def test_l99_a_port_in_use(empty_server: Server, tmp_path: Path) -> None:
    second = serve(tmp_path, OLLAMA_HOST=empty_server.host)
    assert second.returncode == 1
    said = second.stderr.splitlines()[-1]
    assert said.startswith(f"Error: listen tcp {empty_server.host}: bind: address already in use: an ollama server,")
    pid = empty_server.process.pid
    assert "version 0.32.14, is already running there: ollama serve (pid" in said
    assert f"(pid {pid}); use it, stop it (kill {pid}), or choose another address with --listen" in said
    assert "Traceback" not in second.stderr


def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        second = serve(tmp_path, OLLAMA_HOST=host)
    assert second.returncode == 1
    said = second.stderr.splitlines()[-1]
    assert said.startswith(f"Error: listen tcp {host}: bind: address already in use: ")
    assert "an ollama server" not in said
    assert f"(pid {os.getpid()}) listens there; stop it" in said


def test_a_models_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    ended = serve(tmp_path, OLLAMA_HOST=f"127.0.0.1:{free_port()}", OLLAMA_MODELS=str(tmp_path / "models"))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("/models: not a directory: ensure path elements are traversable")


def test_a_models_folder_that_somebody_replaced(tmp_path: Path) -> None:
    """By a file, while the server runs: it says so and lists nothing, and no request crashes it."""
    models = tmp_path / "models"
    with running(tmp_path, models) as server:
        shutil.rmtree(models)
        models.write_text("a file")
        for reply in (
            server.get("/api/tags"),
            server.post("/api/show", {"model": "x"}),
            server.post("/api/pull", {"model": M, "stream": False}),
            server.post("/api/blobs/sha256:" + "0" * 64, b"x"),
        ):
            assert reply.status >= 400 or reply.json() == {"models": []}
            assert b"Traceback" not in reply.body
        assert server.get("/api/version").status == 200
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Eight megabytes of file system, where tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """Uploads and pulls that do not fit: refused in words, nothing left behind, the server goes on."""
    with running(tmp_path, small_disk / "models") as server:
        data = os.urandom(12 * 2**20)
        reply = server.post(f"/api/blobs/sha256:{hashlib.sha256(data).hexdigest()}", data)
        assert reply.status == 507
        assert "space" in reply.error
        pulled = server.post("/api/pull", {"model": M, "stream": False})
        assert pulled.status >= 500
        assert "space" in pulled.error
        left = [path for path in (small_disk / "models").rglob("*") if path.is_file() and path.stat().st_size > 4096]
        assert left == []
        fits = os.urandom(1000)
        assert server.post(f"/api/blobs/sha256:{hashlib.sha256(fits).hexdigest()}", fits).status == 201


def test_a_gguf_that_the_engine_refuses(start_server: Any) -> None:
    """A stored file that passes our checks and not the engine's: 500 with its last words, and nothing runs on."""
    server = start_server()
    data = tiny_llama({"llama.attention.layer_norm_rms_epsilon": None})
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    server.post(f"/api/blobs/{digest}", data)
    created = server.post("/api/create", {"model": "odd", "files": {"m.gguf": digest}, "stream": False})
    if created.status == 200:
        reply = server.post("/api/generate", {"model": "odd"})
        assert reply.status == 500
        assert "layer_norm_rms_epsilon" in reply.error
    assert server.engines() == []


def test_a_model_that_cannot_fit_is_refused_with_the_figures(start_server: Any) -> None:
    """A context that would need more memory than there is: the numbers, before anything is loaded."""
    server = start_server()
    data = tiny_llama({"llama.context_length": 2**31 - 1})
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    server.post(f"/api/blobs/{digest}", data)
    assert server.post("/api/create", {"model": "wide", "files": {"m.gguf": digest}, "stream": False}).status == 200
    reply = server.post("/api/generate", {"model": "wide", "options": {"num_ctx": 10**9}})
    assert reply.status == 500
    pattern = r"model requires more system memory \([\d.]+ GiB\) than is available \([\d.]+ GiB\)"
    assert re.fullmatch(pattern, reply.error), reply.error
    assert server.engines() == []

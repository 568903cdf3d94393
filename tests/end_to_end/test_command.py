"""The command against a real server and the real model, as a new user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gguf_files import tiny_llama
from tests.running import OLLAMA, Server, clean_environment, free_port, is_running, linked_copy

M = "smollm2:135m"
SHORT = '{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":9}},"required":["n"]}'
"""A format that ends an answer soon: left to itself, a small model may ramble for minutes."""


def ollama(server: Server, *arguments: str, stdin: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    return subprocess.run(
        [OLLAMA, *arguments], env=env, input=stdin, capture_output=True, text=True, timeout=100, check=False, **more
    )


@pytest.fixture
def lonely(tmp_path: Path, starter_models: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose server does not run; a background server it starts is ended afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    models = linked_copy(starter_models, tmp_path / "models")
    env = clean_environment(home, OLLAMA_HOST=f"127.0.0.1:{free_port()}", OLLAMA_MODELS=str(models))
    yield env
    for pid in background_servers(env):
        os.kill(pid, signal.SIGTERM)
        while is_running(pid):
            time.sleep(0.02)


def background_servers(env: dict[str, str]) -> list[int]:
    host = f"OLLAMA_HOST={env['OLLAMA_HOST']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"serve" in (entry / "cmdline").read_bytes() and host in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OLLAMA, *arguments], env=env, capture_output=True, text=True, timeout=100, check=False)


def test_l16_run_starts_a_server_and_answers(lonely: dict[str, str]) -> None:
    """L-16: `list` does not start one, `run` does unless it is forbidden; the server stays for the next command."""
    refused = run(lonely, "list")
    assert refused.returncode == 1
    assert refused.stderr.endswith("could not connect to ollama server, run 'ollama serve' to start it\n")
    forbidden = run({**lonely, "LLAMERO_AUTOSTART": "0"}, "run", M, "hi")
    assert (forbidden.returncode, background_servers(lonely)) == (1, [])
    answered = run(lonely, "run", M, "--format", SHORT, "a number")
    assert answered.returncode == 0, answered.stderr
    assert isinstance(json.loads(answered.stdout)["n"], int)
    assert answered.stdout.endswith("\n\n")
    assert "background" in answered.stderr
    (pid,) = background_servers(lonely)
    assert str(pid) in answered.stderr
    assert M in run(lonely, "list").stdout


def test_a_background_server_outlives_its_command_and_takes_engines_along_when_it_is_killed(
    lonely: dict[str, str],
) -> None:
    from tests.running import children

    assert run(lonely, "run", M, "").returncode == 0
    (pid,) = background_servers(lonely)
    engines = children(pid)
    assert engines
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(map(is_running, [pid, *engines])):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_answers_into_a_pipe_without_an_escape_code(server: Server) -> None:
    done = ollama(server, "run", M, "--format", SHORT, "Say a number", stdin="Please: ")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout)["n"], int)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_run_with_a_schema_and_statistics(server: Server) -> None:
    done = ollama(server, "run", M, "--verbose", "--format", SHORT, "a number")
    assert isinstance(json.loads(done.stdout)["n"], int)
    assert "eval rate:" in done.stderr


def test_embedding_models_print_a_vector(server: Server) -> None:
    done = ollama(server, "run", "all-minilm:22m", "hello")
    assert done.stdout.startswith("[")
    assert done.stdout.count(",") == 383


def test_create_show_cp_rm(server: Server, tmp_path: Path) -> None:
    """Modelfile and GGUF from disk to a model that runs."""
    (tmp_path / "tiny.gguf").write_bytes(tiny_llama())
    (tmp_path / "Modelfile").write_text('FROM ./tiny.gguf\nPARAMETER num_ctx 64\nSYSTEM """Be\nbrief."""\n')
    made = ollama(server, "create", "from-file", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert ollama(server, "show", "--system", "from-file").stdout == "Be\nbrief."
    assert "num_ctx" in ollama(server, "show", "from-file").stdout
    assert ollama(server, "cp", "from-file", "copied").stdout == "copied 'from-file' to 'copied'\n"
    assert ollama(server, "rm", "from-file", "copied").stdout == "deleted 'from-file'\ndeleted 'copied'\n"
    assert ollama(server, "show", "copied").stderr == "Error: model 'copied:latest' not found\n"


def test_a_modelfile_that_show_printed_creates_a_model_that_answers_the_same(server: Server, tmp_path: Path) -> None:
    """The weights' own Jinja stays in force: no TEMPLATE line stands in what `show --modelfile` prints for it."""
    ollama(
        server, "create", "original", "-f", "-", stdin=f"FROM {M}\nPARAMETER temperature 0\nPARAMETER num_predict 12\n"
    )
    (tmp_path / "Modelfile").write_text(ollama(server, "show", "--modelfile", "original").stdout)
    again = ollama(server, "create", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    first, second = (ollama(server, "run", name, "Why is the sky blue?").stdout for name in ("original", "again"))
    assert first == second
    ollama(server, "rm", "original", "again")


def test_ps_and_stop(server: Server) -> None:
    ollama(server, "run", M, "")
    listed = ollama(server, "ps").stdout.splitlines()
    assert listed[0].split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert any(line.startswith(M) and "100% CPU" in line for line in listed)
    assert ollama(server, "stop", M).returncode == 0
    server.wait_until(lambda: M not in server.loaded())


def test_an_unknown_model(server: Server) -> None:
    done = ollama(server, "run", "nope", "hi")
    assert done.returncode == 1
    assert "Error: pull model manifest: " in done.stderr
    assert "Traceback" not in done.stderr


def test_version_names_the_servers_level(server: Server) -> None:
    assert ollama(server, "--version").stdout == "ollama version is 0.32.14\n"


def test_l98_the_start_log(server: Server) -> None:
    """L-98: these lines, in this order; scrapers look for them."""
    log = server.log.read_text()
    marks = (
        "server config",
        "Ollama cloud disabled:",
        "Listening on ",
        "inference compute",
        "vram-based default context",
    )
    places = [log.index(mark) for mark in marks]
    assert places == sorted(places)
    assert f"Listening on {server.host} (via OLLAMA_HOST) (version 0.32.14)" in log


def test_l97_s25_the_key_pair(server: Server) -> None:
    """L-97, S-25."""
    private, public = server.home / ".ollama" / "id_ed25519", server.home / ".ollama" / "id_ed25519.pub"
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.read_text().startswith("ssh-ed25519 ")
    assert public.read_text().strip() in server.log.read_text()
    before = private.read_bytes()
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    subprocess.run([OLLAMA, "serve"], env=env, capture_output=True, timeout=30, check=False)  # the port is taken
    assert private.read_bytes() == before

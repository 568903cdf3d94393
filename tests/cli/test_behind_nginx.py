"""The greeting and the benchmark tool as installed, against the real server, through a real nginx with TLS and a
password (cli §13)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.nginx import Nginx, needs_nginx, nginx
from tests.cli.screens import Screen, needs_tmux
from tests.running import OLLAMA, Server, linked_copy, running

pytestmark = [pytest.mark.engine, needs_nginx]

PASSWORD = "s3cr3t/w@rd#1"
CREDENTIALS = "ada:s3cr3t%2Fw%40rd%231"
MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def real_server(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with running(folder, linked_copy(starter_models, folder / "models")) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(real_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx"), real_server.port, f"ada:{{PLAIN}}{PASSWORD}") as started:
        yield started


def script(name: str, folder: Path, *argv: str, dotenv: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """One of the installed scripts in a folder with that `.env`."""
    (folder / ".env").write_text(dotenv)
    known = {"HOME": str(folder), "PATH": os.environ["PATH"], **env}
    done = subprocess.run(
        [OLLAMA.with_name(name), *argv], cwd=folder, env=known, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    for secret in (PASSWORD, CREDENTIALS, "s3cr3t", "YWRhO"):
        assert secret not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done


def test_greetings_with_everything_from_the_file(proxy: Nginx, tmp_path: Path) -> None:
    dotenv = f"OLLAMA_BASE_URL={proxy.url(CREDENTIALS)}\nSSL_CERT_FILE={proxy.certificate}\n"
    done = script("hi-ai", tmp_path, dotenv=dotenv)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"https://127.0.0.1:{proxy.port}: 2 models\n\nall-minilm:22m\n(turns texts")
    assert re.search(r"smollm2:135m\n.+\n\(\d+\.\d s, \d+ tokens, \d+ tokens/s\)\n", done.stdout, re.DOTALL)


@pytest.mark.heavy
def test_a_benchmark_with_all_its_reports(proxy: Nginx, tmp_path: Path) -> None:
    env = {"OLLAMA_BASE_URL": proxy.url(CREDENTIALS), "SSL_CERT_FILE": str(proxy.certificate)}
    flags = ["--auto", "--epochs", "1", "--warmup", "0", "--max-tokens", "8", "--prompt-tokens", "100", "--report", "r"]
    done = script("ollama-benchmark", tmp_path, *flags, **env)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    embedder, talker = report["models"]
    assert "vectors" in embedder["skipped"]
    assert talker["load_s"] > 0
    assert talker["memory_bytes"] > 50e6
    tasks = {task["task"]: task for task in talker["tasks"]}
    assert len(tasks) == 8
    for name in set(tasks) - {"tool-call"}:
        (answer,) = tasks[name]["rounds"]
        assert answer["predicted_tokens"] <= 8
        assert answer["prompt_s"] > 0
        assert 0 < answer["ttft_s"] < answer["total_s"]
    for ending in ("md", "csv", "json", "html"):
        assert "s3cr3t" not in (tmp_path / f"r.{ending}").read_text()
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.heavy
def test_the_way_through_and_the_way_past_it_compared(proxy: Nginx, real_server: Server, tmp_path: Path) -> None:
    sides = [real_server.url, proxy.url(CREDENTIALS)]
    flags = ["--model", MODEL, "--task", "greeting", "--epochs", "1", "--warmup", "0", "--max-tokens", "8"]
    done = script("ollama-benchmark", tmp_path, "--compare", *sides, *flags, SSL_CERT_FILE=str(proxy.certificate))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^smollm2:135m +greeting .*\dx .*\dx .*\dx$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["hi-ai", "ollama-benchmark"])
def test_what_is_wrong_is_said_in_one_line(proxy: Nginx, tmp_path: Path, name: str) -> None:
    """With `--debug`, too: no password gets out by a traceback."""
    url = f"https://127.0.0.1:{proxy.port}"
    trusted = {"SSL_CERT_FILE": str(proxy.certificate)}

    def complaint(base_url: str, **env: str) -> str:
        done = script(name, tmp_path, "--auto", "--debug", OLLAMA_BASE_URL=base_url, **env)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert complaint(proxy.url(CREDENTIALS)).startswith(
        f"Error: certificate: {url} shows one that is not trusted (self-signed certificate); set SSL_CERT_FILE to"
    )
    assert complaint(url, **trusted).startswith(f"Error: 401 Unauthorized: {url} wants to know who asks; put user:")
    assert complaint(proxy.url("ada:s3cr3t"), **trusted) == (
        f"Error: 401 Unauthorized: {url} does not accept the name and password in OLLAMA_BASE_URL\n"
    )
    assert complaint(proxy.url(CREDENTIALS, "/down/"), **trusted) == (
        f"Error: 502 Bad Gateway: a proxy answers at {url}/down, but the server behind it does not; is it running?\n"
    )
    assert complaint(f"http://{CREDENTIALS}@127.0.0.1:{proxy.port}").startswith("Error: 400 Bad Request: what answers")


@pytest.mark.heavy
@pytest.mark.tmux
@needs_tmux
def test_a_benchmark_as_somebody_sees_it(proxy: Nginx, tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "OLLAMA_BASE_URL": proxy.url(CREDENTIALS),
        "SSL_CERT_FILE": str(proxy.certificate),
    }
    argv = ["bench", MODEL, "--epochs", "3", "--max-tokens", "12", "--prompt-tokens", "100"]
    with Screen(argv, env, columns=110, lines=14) as screen:
        screen.wait_for(r"greeting +\d+ ms .*\n.*smollm2:135m: \w+, \d of 3  \(\d+ s\)$")
        screen.resize(84, 30)
        screen.wait_for(r"smollm2:135m: summarising, \d of 3")
        text = screen.wait_for(r"status=\d")
    assert "status=0" in text
    assert text.count("FAILED") == 2  # the live table is gone, the two that stay have their figures
    assert len(re.findall(r" \d/3 +0/3$", text, re.MULTILINE)) == 7
    assert text.splitlines()[0].startswith("Models")

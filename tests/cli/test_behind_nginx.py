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

from tests.cli.nginx import Nginx, nginx
from tests.cli.screens import Screen, needs_tmux
from tests.nginx import needs_nginx
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


@pytest.fixture(scope="module")
def trusted_proxy(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """In front of a server that lists it."""
    folder = tmp_path_factory.mktemp("trusting")
    models = linked_copy(starter_models, folder / "models")
    with (
        running(folder, models, LLAMERO_TRUSTED_PROXIES="127.0.0.1") as server,
        nginx(tmp_path_factory.mktemp("listed"), server.port, f"ada:{{PLAIN}}{PASSWORD}") as started,
    ):
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


@pytest.mark.heavy
def test_greetings_with_everything_from_the_file(proxy: Nginx, tmp_path: Path) -> None:
    dotenv = f"OLLAMA_BASE_URL={proxy.url(CREDENTIALS)}\nSSL_CERT_FILE={proxy.certificate}\n"
    done = script("hi-ai", tmp_path, dotenv=dotenv)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    # forwarded by a proxy that nobody has listed, it may talk to models and not manage them
    assert done.stderr.startswith("Warning: smollm2:135m stays loaded until the server lets go of it: 403 Forbidden: ")
    assert "LLAMERO_TRUSTED_PROXIES" in done.stderr
    assert done.stdout.startswith(f"https://127.0.0.1:{proxy.port}: 2 models\n\nall-minilm:22m\n(turns texts")
    assert re.search(r"smollm2:135m\n.+\n\(\d+\.\d s, \d+ tokens, \d+ tokens/s\)\n", done.stdout, re.DOTALL)


@pytest.mark.heavy
def test_a_benchmark_with_all_its_reports(trusted_proxy: Nginx, tmp_path: Path) -> None:
    """Behind a proxy that is listed: there the models are unloaded, so their loading is measured."""
    proxy = trusted_proxy
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
def test_a_benchmark_where_models_may_not_be_unloaded(proxy: Nginx, tmp_path: Path) -> None:
    """A note instead of load times, and everything else as ever."""
    env = {"OLLAMA_BASE_URL": proxy.url(CREDENTIALS), "SSL_CERT_FILE": str(proxy.certificate)}
    flags = ["--task", "greeting", "--epochs", "1", "--warmup", "0", "--max-tokens", "8", "--report", "r.json"]
    done = script("ollama-benchmark", tmp_path, MODEL, *flags, **env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Note: models cannot be unloaded here (403 Forbidden: ") == 1
    (model,) = json.loads((tmp_path / "r.json").read_text())["models"]
    assert "load_s" not in model
    assert model["tasks"][0]["rounds"][0]["ttft_s"] > 0


@pytest.mark.heavy
def test_greetings_through_a_listed_proxy_leave_nothing_loaded(trusted_proxy: Nginx, tmp_path: Path) -> None:
    env = {"OLLAMA_BASE_URL": trusted_proxy.url(CREDENTIALS), "SSL_CERT_FILE": str(trusted_proxy.certificate)}
    done = script("hi-ai", tmp_path, MODEL, **env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.heavy
def test_the_way_through_and_the_way_past_it_compared(proxy: Nginx, real_server: Server, tmp_path: Path) -> None:
    sides = [real_server.url, proxy.url(CREDENTIALS)]
    flags = ["--model", MODEL, "--task", "greeting", "--epochs", "1", "--warmup", "0", "--max-tokens", "8"]
    done = script("ollama-benchmark", tmp_path, "--compare", *sides, *flags, SSL_CERT_FILE=str(proxy.certificate))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^smollm2:135m +greeting .*\dx .*\dx .*\dx$", done.stdout, re.MULTILINE)


URL = "https://127.0.0.1:{port}"
WITH_PASSWORD = "https://{credentials}@127.0.0.1:{port}"
WRONG = {
    "certificate": (
        WITH_PASSWORD,
        f"certificate: {URL} shows one that is not trusted (self-signed certificate); set SSL_CERT_FILE to",
    ),
    "another's certificate": (
        "https://127.0.0.1:{other_port}",
        "certificate: https://127.0.0.1:{other_port} shows one that is not trusted (IP address mismatch",
    ),
    "401": (URL, f"401 Unauthorized: {URL} wants to know who asks; put user:"),
    "a wrong password": (
        "https://ada:s3cr3t@127.0.0.1:{port}",
        f"401 Unauthorized: {URL} does not accept the name and password in OLLAMA_BASE_URL\n",
    ),
    "502": (
        f"{WITH_PASSWORD}/down/",
        f"502 Bad Gateway: a proxy answers at {URL}/down, but the server behind it does not; is it running?\n",
    ),
    "timed out": (
        f"{WITH_PASSWORD}/slow",
        f"timed out: {URL}/slow did not answer in time; check OLLAMA_BASE_URL and the firewalls in between\n",
    ),
    "no models": (
        f"{WITH_PASSWORD}/new",
        f"no models: the server at {URL}/new has none yet; fetch one with 'ollama pull smollm2:135m'\n",
    ),
    "another program": (
        f"{WITH_PASSWORD}/page",
        f"404 Not Found: {URL}/page is no Ollama server; OLLAMA_BASE_URL is its address, without /api or /v1\n",
    ),
    "no TLS": ("http://{credentials}@127.0.0.1:{port}", "400 Bad Request: what answers"),
    "name not found": (
        "https://{credentials}@nobody.invalid",
        "name not found: there is no address for nobody.invalid; check OLLAMA_BASE_URL\n",
    ),
    "refused": ("http://{credentials}@127.0.0.1:1", "refused: nothing listens at http://127.0.0.1:1; start the server"),
}
"""By what is wrong: the address, and how the line about it begins."""


@pytest.mark.parametrize("name", ["hi-ai", pytest.param("ollama-benchmark", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(proxy: Nginx, tmp_path: Path, name: str, what: str) -> None:
    """With `--debug`, too: no password gets out by a traceback."""
    values = {"port": proxy.port, "other_port": proxy.other_port, "credentials": CREDENTIALS}
    url, said = (text.format(**values) for text in WRONG[what])
    trusted = proxy.other_certificate if what == "another's certificate" else proxy.certificate
    env = {} if what == "certificate" else {"SSL_CERT_FILE": str(trusted)}
    done = script(name, tmp_path, "--auto", "--debug", "--timeout", "1", OLLAMA_BASE_URL=url, **env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"Error: {said}")


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

"""Variables that mean nothing or contradict each other, and proxies in the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llamero.cli.checkup import Surroundings
from llamero.cli.checkup.environment import proxies, variables
from llamero.client import Client, Proxies
from llamero.config import Settings
from llamero.messages import Found

SECRET = "geheim"


def here(env: Mapping[str, str]) -> Surroundings:
    settings = Settings.from_env({"HOME": "/nowhere"} | dict(env))
    return Surroundings(env, settings, Client(settings.host, proxies=Proxies.from_env(env)))


def only(found: list[Found]) -> Found:
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("env", "text", "advice"),
    [
        ({"OLLAMA_MODLES": "/x"}, "OLLAMA_MODLES is not a variable of this program", "OLLAMA_MODELS was meant?"),
        ({"OLLAMA_QQQQ": "1"}, "OLLAMA_QQQQ is not a variable of this program", "unset it"),
        ({"OLAMA_HOST": "h"}, "OLAMA_HOST has no effect", "OLLAMA_HOST was meant?"),
        ({"ollama_host": "h"}, "ollama_host has no effect", "OLLAMA_HOST was meant?"),
        ({"OLLAMA_MAX_QUEUE": "many"}, "invalid environment variable", "ollama serve --help lists"),
        (
            {"OLLAMA_CONTEXT_LENGTH": "9", "LLAMERO_MAX_CONTEXT": "8"},
            "OLLAMA_CONTEXT_LENGTH is above",
            "set them alike",
        ),
        (
            {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "0"},
            "OLLAMA_KV_CACHE_TYPE=q8_0 needs flash attention",
            "unset one of the two",
        ),
        ({"LLAMERO_PRELOAD": "a,b", "OLLAMA_MAX_LOADED_MODELS": "1"}, "LLAMERO_PRELOAD names 2 models", "allow more"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES=-1 hides every GPU", "unset it"),
        ({"SSL_CERT_FILE": "/none/such"}, "SSL_CERT_FILE names a place that does not exist", "unset it"),
        ({"LLAMERO_CLIENT_KEY": "/none"}, "LLAMERO_CLIENT_KEY names a place that does not exist", "unset it"),
    ],
)
def test_what_is_wrong_with_the_environment(env: dict[str, str], text: str, advice: str) -> None:
    found = only(list(variables(here(env))))
    assert (found.level, found.subject) == ("warn", "environment")
    assert found.status.startswith(text)
    assert advice in found.advice


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OLLAMA_HOST": "127.0.0.1:1", "OLLAMA_KEEP_ALIVE": "1h", "EDITOR": "vi", "PATH": "/bin"},
        {"OLLAMA_KV_CACHE_TYPE": "f16", "OLLAMA_FLASH_ATTENTION": "0"},
        {"OLLAMA_CONTEXT_LENGTH": "8", "LLAMERO_MAX_CONTEXT": "8"},
    ],
)
def test_nothing_is_wrong(env: dict[str, str]) -> None:
    found = only(list(variables(here(env))))
    ours = sum(name.startswith(("OLLAMA_", "LLAMERO_")) for name in env)
    assert found.level == "ok"
    assert found.status.startswith(f"{ours} variables of ours are set")


PROXY = f"http://user:{SECRET}@proxy.example:3128"


@pytest.mark.parametrize(
    ("env", "level", "text"),
    [
        ({}, "ok", "none"),
        ({"HTTPS_PROXY": PROXY}, "ok", "set, and not in the way"),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.0/8"}, "ok", "set, and not in the way"),
        ({"http_proxy": PROXY, "no_proxy": "*"}, "ok", "set, and not in the way"),
        ({"HTTP_PROXY": PROXY}, "warn", "the proxy catches localhost and 127.0.0.1"),
        ({"ALL_PROXY": PROXY, "NO_PROXY": "localhost"}, "warn", "the proxy catches 127.0.0.1"),
    ],
)
def test_proxies(env: dict[str, str], level: str, text: str) -> None:
    found = only(list(proxies(here(env))))
    assert (found.level, found.subject) == (level, "proxy")
    assert found.status.startswith(text)


def test_a_proxy_on_the_way_to_the_server_is_named_without_its_password() -> None:
    env = {"OLLAMA_HOST": "http://models.example:1", "HTTP_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.1"}
    found = only(list(proxies(here(env))))
    assert found.status == "requests to http://models.example:1 go through the proxy proxy.example:3128"
    assert found.advice == "add models.example to NO_PROXY if it can be reached without"


def test_no_secret_is_told() -> None:
    secrets = {
        "OLLAMA_API_KEY": SECRET,
        "HF_TOKEN": SECRET,
        "OLLAMA_HOST": f"http://me:{SECRET}@models.example:port",
        "LLAMERO_MIRRORS": f"a=ftp://me:{SECRET}@b",
        "LLAMERO_PEERS": f"me:{SECRET}@b",
        "OLLAMA_APIKEY": SECRET,
        "HTTP_PROXY": PROXY,
    }
    found = [*variables(here(secrets)), *proxies(here(secrets))]
    assert len(found) >= 4
    assert SECRET not in repr(found)


def test_paths_are_not_read(tmp_path: Path) -> None:
    assert only(list(variables(here({"SSL_CERT_DIR": str(tmp_path)})))).level == "ok"

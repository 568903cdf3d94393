"""The compose files: what no container engine checks here is read off their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamero.config import Settings
from llamero.server.peers import Peers
from tests.deploy.proxies import DEPLOY

FOLDER = DEPLOY / "docker"
DOCUMENT = DEPLOY.parent / "docs" / "docker.md"
FILES = sorted(FOLDER.glob("compose*.yaml"))

TOP = set("name services volumes configs secrets networks".split())
SERVICE = set(
    """build cap_add cap_drop command configs depends_on deploy environment extends image init networks pids_limit ports
    read_only restart secrets security_opt stop_grace_period tmpfs user volumes""".split()
)
"""Of the compose specification, what these files use: anything else is a slip of the pen, or wants to stand here."""

BROUGHT = {"secrets/certificate.pem", "secrets/key.pem", "secrets/passwords"}
"""Files that are not ours to ship: the head of the compose file says how they are made."""

Service = dict[str, Any]


def load(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def services(path: Path) -> Iterator[tuple[str, Service]]:
    """Each service as compose sees it, with what it extends."""
    for name, service in load(path)["services"].items():
        if extended := service.get("extends"):
            base = load(FOLDER / extended["file"])["services"][extended["service"]]
            lists = {key: [*base[key], *service.get(key, [])] for key in base if isinstance(base[key], list)}
            service = {**base, **service, **lists}
        yield name, service


def named(path: Path) -> str:
    return path.name


pytestmark = pytest.mark.parametrize("path", FILES, ids=named)


def test_every_key_is_one_of_the_specification(path: Path) -> None:
    loaded = load(path)
    assert set(loaded) <= TOP
    for _, service in services(path):
        assert set(service) <= SERVICE
        assert "image" in service or "build" in service
        assert not service.get("image", "").endswith(":latest")


def test_nothing_is_published_beyond_this_machine_unasked(path: Path) -> None:
    """Docker goes past the firewall (security §13)."""
    for name, service in services(path):
        for port in service.get("ports", []):
            assert re.match(r"127\.0\.0\.1:|\$\{BIND:-127\.0\.0\.1\}:", port), (name, port)
            if name == "llamero":
                assert port.startswith("127.0.0.1:")
        assert service.get("network_mode") is None
        assert not service.get("privileged")


def test_the_server_has_the_documented_rights_and_no_more(path: Path) -> None:
    """X-98 in part: the flags that docs/docker.md has for `docker run`."""
    server = dict(services(path))["llamero"]
    documented = DOCUMENT.read_text()
    for flag, value in {
        "--read-only": server["read_only"] is True,
        "--tmpfs /tmp": server["tmpfs"] == ["/tmp"],
        "--cap-drop ALL": server["cap_drop"] == ["ALL"],
        "--security-opt no-new-privileges": server["security_opt"] == ["no-new-privileges:true"],
        "--user 10001:10001": server["user"] == "10001:10001",
        "--pids-limit 512": server["pids_limit"] == 512,
        "-v ollama:/root/.ollama": "ollama:/root/.ollama" in server["volumes"],
    }.items():
        assert value, flag
        assert flag in documented
    assert load(path)["volumes"]["ollama"] == {"name": "ollama"}


def test_behind_a_proxy_the_log_has_the_clients_address(path: Path) -> None:
    """The proxy is on a network of Docker's; the client anywhere, also on a network like that."""
    found = dict(services(path))
    if not {"nginx", "caddy"} & set(found):
        pytest.skip("no proxy")
    settings = Settings.from_env({"HOME": "/h", **found["llamero"]["environment"]})
    peers = Peers(allow_ips=(), trusted_proxies=settings.trusted_proxies, own_addresses=frozenset)
    for client in ("203.0.113.9", "192.168.1.7"):
        assert peers.client("172.18.0.3", [client]) == client
    assert peers.client("203.0.113.9", ["1.2.3.4"]) == "203.0.113.9"


def test_what_a_file_points_at_is_there(path: Path) -> None:
    loaded = load(path)
    volumes, configs, secrets = (set(loaded.get(key) or {}) for key in ("volumes", "configs", "secrets"))
    for name, service in services(path):
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            assert (FOLDER / source).exists() if source.startswith(".") else source in volumes, (name, source)
        assert {each["source"] for each in service.get("configs", [])} <= configs
        assert {each["source"] for each in service.get("secrets", [])} <= secrets
        assert set(service.get("depends_on", [])) <= set(loaded["services"])
        if build := service.get("build"):
            base = load(FOLDER / "common.yaml")["services"]["llamero"]["build"]
            context = FOLDER / {**base, **build}["context"]
            assert (context / {**base, **build}["dockerfile"]).is_file()
    brought = {each["file"] for each in (loaded.get("secrets") or {}).values()}
    assert brought <= BROUGHT
    assert all(Path(each).name in path.read_text().split("services:")[0] for each in brought)


def test_every_variable_is_explained(path: Path) -> None:
    """In .env.example, in the head of the file, or it has a default."""
    text = path.read_text()
    head = text.split("services:")[0]
    known = (FOLDER / ".env.example").read_text()
    for name, rest in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text):
        assert rest.startswith(":-") or f"\n{name}=" in known or name in head, name

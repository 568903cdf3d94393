"""The guides to Docker, proxies and firewalls: what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from llamero.config import BY_NAME
from tests.deploy.proxies import DEPLOY

DOCS = DEPLOY.parent / "docs"
GUIDES = [DOCS / name for name in ("docker.md", "reverse-proxies.md", "firewall.md")]
CADDYS_OWN = {f"LLAMERO_{name}" for name in ("SITE", "USER", "PASSWORD_HASH", "KEY", "UPSTREAM")}


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("guide", GUIDES, ids=named)
def test_every_variable_of_a_guide_is_one(guide: Path) -> None:
    told = set(re.findall(r"\b(?:OLLAMA|LLAMERO)_[A-Z_]+\b", guide.read_text()))
    assert told - set(BY_NAME) - CADDYS_OWN == set()


@pytest.mark.parametrize("guide", GUIDES, ids=named)
def test_every_file_of_a_guide_is_there(guide: Path) -> None:
    for path in re.findall(r"\b((?:deploy|docs|tests)/[\w./-]*\w)", guide.read_text()):
        assert (DEPLOY.parent / path).exists(), path


def test_the_guide_to_proxies_installs_every_file_of_nginx() -> None:
    text = (DOCS / "reverse-proxies.md").read_text()
    for path in (DEPLOY / "nginx").iterdir():
        assert path.name in text
        assert re.search(r"^# Installed as |Installed as /etc/nginx/", path.read_text(), re.MULTILINE)


def test_the_guide_to_docker_names_every_compose_file() -> None:
    told = set(re.findall(r"^\| `(compose[\w.]*)` \|", (DOCS / "docker.md").read_text(), re.MULTILINE))
    assert told == {path.name for path in (DEPLOY / "docker").glob("compose*.yaml")}


def test_the_example_with_an_interface_publishes_nothing_but_that() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "docker.md").read_text(), re.DOTALL)
    services = yaml.safe_load(block)["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["open-webui"]
    assert all(port.startswith("127.0.0.1:") for port in services["open-webui"]["ports"])
    assert (DEPLOY.parent / services["llamero"]["extends"]["file"]).is_file()


def test_the_firewall_guide_has_the_commands_of_the_specification() -> None:
    """Security §13, word for word where it gives words."""
    text = re.sub(r"\s*[`\\]\n\s+", " ", (DOCS / "firewall.md").read_text())
    for command in (
        "ufw allow from 192.168.1.0/24 to any port 11434 proto tcp",
        "firewall-cmd --permanent --zone=internal --add-source=192.168.1.0/24",
        "--zone=internal --add-port=11434/tcp",
        'New-NetFirewallRule -DisplayName "Llamero LAN" -Direction Inbound -Action Allow -Protocol TCP '
        "-LocalPort 11434 -RemoteAddress LocalSubnet -Profile Private",
        "DOCKER-USER",
    ):
        assert command in text

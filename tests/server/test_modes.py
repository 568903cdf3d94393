"""Whose files are: the modes of everything that a server makes, and what it says to root (security §9.2)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parrot import write_parrot
from tests.running import Server, running
from tests.server.tiny_models import make

LIST = " ".join(f"Item {number} costs {3 * number} coins." for number in range(1, 30))
TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

FOLDER = {
    "home": 0o755,
    "secret": 0o700,
    "store": 0o755,
}
FILE = {
    "home": {"id_ed25519": 0o600, "id_ed25519.pub": 0o644},
    "secret": 0o600,
    "store": 0o644,
}


def kind(path: Path) -> str:
    """Which row of the table of §9.2 a path belongs to, relative to `~/.ollama`."""
    if path.parts[:1] == ("llamero",) or path.parts[:2] == ("models", ".llamero"):
        return "secret"
    return "store" if path.parts[:1] == ("models",) else "home"


def wanted(path: Path, is_folder: bool) -> int:
    if is_folder:
        return FOLDER[kind(path)]
    modes = FILE[kind(path)]
    return modes if isinstance(modes, int) else modes[str(path)]  # a file that is not in the table has no business


@pytest.fixture(
    params=[pytest.param(0o000, id="umask 000"), pytest.param(0o027, id="umask 027", marks=pytest.mark.heavy)]
)
def umask(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def used(tmp_path: Path, umask: int) -> Iterator[Server]:
    """A server that has made whatever it makes: key pair, blobs, a model, a kept response, a saved prompt, an audit."""
    models = tmp_path / "home" / ".ollama" / "models"
    with running(tmp_path, models, umask=umask, LLAMERO_ALLOW_ROOT="1" if umask else "0") as server:
        make(server, "m", [write_parrot(tmp_path / "m.gguf", "Twenty one coins.")], template=TEMPLATE)
        assert server.post("/api/copy", {"source": "m", "destination": "n"}).status == 200
        assert server.call("DELETE", "/api/delete", {"model": "n"}).status == 200
        kept = server.post("/v1/responses", {"model": "m", "input": "hi", "max_output_tokens": 3})
        assert kept.status == 200
        message = {"role": "user", "content": f"{LIST} How much is item 7?"}
        options = {"temperature": 0, "num_predict": 5, "num_ctx": 4096}
        server.post("/api/chat", {"model": "m", "messages": [message], "options": options, "stream": False})
        server.unload_all()
        engines = models / ".llamero" / "prefixes" / "engines"
        server.wait_until(lambda: not any(engines.iterdir()))  # each has a folder while it lives
        yield server


def test_x58_modes_and_root(used: Server, umask: int) -> None:
    """X-58: every path under `~/.ollama` is in the table, and has the mode that it says; root is served and warned."""
    home = used.home / ".ollama"
    paths = [path for path in (home, *home.rglob("*")) if not path.is_symlink()]
    found = {str(path.relative_to(home)): stat.S_IMODE(path.stat().st_mode) for path in paths}
    right = {str(path.relative_to(home)): wanted(path.relative_to(home), path.is_dir()) & ~umask for path in paths}
    assert found == right
    made = {name.split("/")[-1] for name in found}
    assert {"id_ed25519", "id_ed25519.pub", "blobs", "manifests", "responses.sqlite", "prefixes", "tmp"} <= made
    warnings = [line for line in used.log.read_text().splitlines() if "runs as root" in line]
    if IS_ROOT and not umask:
        assert "level=WARN" in warnings[0]
        assert "LLAMERO_ALLOW_ROOT=1 silences this" in warnings[0]
        assert len(warnings) == 1
    else:
        assert warnings == []

"""Plain commands start at once: what they must not import, in a process of its own. The seconds are in `bench/`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamero import API_LEVEL
from tests.cli.scripted_server import Reply, ScriptedServer

SLOW = set(
    (
        "aiohttp asyncio cryptography dotenv difflib msgspec multiprocessing numpy PIL prompt_toolkit pygments rich "
        "starlette tomllib uvicorn xllamacpp"
    ).split()
)
"""Each costs from five milliseconds to half a second."""
SLOW_FOR_A_VERSION = SLOW | {"click", "subprocess", "logging"}

PROGRAM = "import sys; from llamero.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize(
    ("argv", "slow"),
    [(["--version"], SLOW_FOR_A_VERSION), (["list"], SLOW), (["ps"], SLOW), (["stop", "--all"], SLOW)],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_only_what_is_needed_is_imported(
    server: ScriptedServer, tmp_path: Path, argv: list[str], slow: set[str]
) -> None:
    server.replies |= {
        "GET /api/tags": Reply(json={"models": []}),
        "GET /api/ps": Reply(json={"models": []}),
        "GET /api/version": Reply(json={"version": API_LEVEL}),
    }
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OLLAMA_HOST": server.address}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *argv], env=env, capture_output=True, text=True, check=True)
    assert not slow & set(done.stderr.split())

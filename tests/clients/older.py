"""Environments with clients of other versions than ours, or of other people, and checks that run in them.

The first run fetches them from the package index; later ones find them in `.cache`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.conftest import CACHE
from tests.running import clean_environment

RUN_TIMEOUT_S = 300


def run_checks(
    checks: ModuleType, package: str, told: Mapping[str, str], wanted: Sequence[Callable[..., Any]], home: Path
) -> None:
    """Run `wanted` checks of a module with a version of its client, such as `anthropic>=1,<2`; fail if one does."""
    command = [
        python_with(package),
        Path(__file__).with_name("checking.py"),
        checks.__name__.rpartition(".")[2],
        json.dumps(told),
        *(each.__name__ for each in wanted),
    ]
    done = subprocess.run(
        command, env=clean_environment(home), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{len(wanted)} of {len(wanted)} passed\n"), done.stdout


def python_with(*packages: str, interpreter: str = sys.executable) -> Path:
    """The Python of an environment that has these and nothing else: another one as soon as a version changes."""
    environment = CACHE.with_name("test-venvs") / "+".join(packages)
    python = environment / "bin" / "python"
    if not (environment / "ready").exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (environment / "ready").touch()
    return python

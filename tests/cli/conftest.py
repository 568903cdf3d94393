"""Runs the command line in this process against a scripted server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamero.cli.main import main
from tests.cli.scripted_server import ScriptedServer


@dataclass
class Outcome:
    status: int
    out: str
    err: str


Ollama = Callable[..., Outcome]


def command(host: str, home: Path) -> Ollama:
    """The command line for the server at that address."""

    def run(*argv: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        status = main(
            argv,
            env={"OLLAMA_HOST": host, "HOME": str(home)} | dict(env or {}),
            stdin=io.TextIOWrapper(io.BytesIO(stdin.encode())),
            stdout=out,
            stderr=err,
        )
        return Outcome(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def ollama(server: ScriptedServer, tmp_path: Path) -> Ollama:
    """`ollama("run", "m", "hi", stdin="…")`, with nothing being a terminal."""

    return command(server.address, tmp_path)

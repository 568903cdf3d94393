"""A server that is started in the background (cli §7): the real one, without a model."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

STARTED = re.compile(r"started the ollama server in the background \(pid (\d+), log (.+)\)\n")
LIST = [sys.executable, "-m", "llamero.cli.main", "list"]
WAIT_LIMIT_S = 10


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OLLAMA_HOST": address,
        "LLAMERO_AUTOSTART": "1",
        "LLAMERO_ALLOW_ROOT": "1",
    }


@pytest.fixture
def servers() -> Iterator[list[int]]:
    """Processes to end after the test. They are nobody's children, so their end is seen by asking."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + WAIT_LIMIT_S
        while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def test_it_answers_writes_its_log_and_outlives_the_command(
    env: Mapping[str, str], servers: list[int], tmp_path: Path
) -> None:
    """partly L-16: an answer needs a model"""
    first = subprocess.run(LIST, env=env, capture_output=True, text=True)
    started = STARTED.fullmatch(first.stderr)
    assert started, first.stderr
    servers.append(int(started[1]))
    assert Path(started[2]) == tmp_path / ".ollama" / "logs" / "server.log"
    assert "Listening on " in Path(started[2]).read_text()
    second = subprocess.run(LIST, env=env, capture_output=True, text=True)
    assert (first.stdout, second.stdout) == ("NAME    ID    SIZE    MODIFIED \n",) * 2
    assert second.stderr == ""


def test_of_two_that_start_at_once_one_serves_both(env: Mapping[str, str], servers: list[int]) -> None:
    commands = [subprocess.Popen(LIST, env=env, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    outputs = [command.communicate() for command in commands]
    starts = [STARTED.fullmatch(err) for _, err in outputs]
    servers += {int(start[1]) for start in starts if start}
    assert [command.returncode for command in commands] == [0, 0], outputs
    assert any(starts)


def test_a_server_that_cannot_start_is_said_at_once(env: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / ".ollama" / "id_ed25519.pub").mkdir(parents=True)
    outcome = subprocess.run(LIST, env=env, capture_output=True, text=True)
    log = tmp_path / ".ollama" / "logs" / "server.log"
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr == f"Error: could not start the ollama server, see {log}\n"
    assert "Error: could not write the key pair" in log.read_text()


def test_a_log_that_cannot_be_written_is_said(env: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / ".ollama").touch()
    outcome = subprocess.run(LIST, env=env, capture_output=True, text=True)
    path = tmp_path / ".ollama" / "logs" / "server.log"
    assert outcome.stderr == f"Error: could not start the ollama server: {path}: Not a directory\n"

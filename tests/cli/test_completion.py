"""Completion in shells: the words that are offered, and a real bash that asks for them (cli G-05)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import OLLAMA

NAMES = ["llama3.2:1b", "llama3.2:latest", "phi:latest"]


@pytest.fixture(autouse=True)
def models(server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": [{"name": name} for name in NAMES]})
    server.replies["GET /api/ps"] = Reply(json={"models": [{"name": "phi:latest"}]})


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pu", "pull push"),
        ("run l", "llama3.2 llama3.2:1b llama3.2:latest"),
        ("run llama3.2:", "llama3.2:1b llama3.2:latest"),
        ("run --verbose ph", "phi phi:latest"),
        ("run --seed 1 ph", "phi phi:latest"),
        ("run --seed ph", ""),
        ("run phi l", ""),
        ("stop ", "phi phi:latest"),
        ("rm phi l", "llama3.2 llama3.2:1b llama3.2:latest"),
        ("run --te", "--temperature --template"),
        ("list --", "--help --json --sort --wide"),
        ("show phi l", ""),
        ("launch c", "claude codex copilot"),
        ("launch claude --model ph", "phi phi:latest"),
        ("launch claude l", ""),
        ("launch claude -- l", ""),
        ("search l", ""),
        ("cache ", "clear"),
        ("cache clear ph", "phi phi:latest"),
        ("engine b", "build"),
        ("key ", "list new revoke"),
        ("service st", "start status stop"),
        ("config u", "unset"),
        ("config get keep_a", "keep_alive"),
        ("config get keep_alive k", ""),
        ("engine use ", "native wheel"),
        ("completion z", "zsh"),
        ("help crea", "create"),
        ("list x", ""),
    ],
)
def test_what_is_offered(ollama: Ollama, typed: str, offered: str) -> None:
    outcome = ollama("__complete", "--", *typed.split(" "))
    assert (outcome.out.split(), outcome.err, outcome.status) == (offered.split(), "", 0)


def test_without_a_server_nothing_is_offered(ollama: Ollama, server: ScriptedServer) -> None:
    del server.replies["GET /api/tags"]
    outcome = ollama("__complete", "--", "run", "")
    assert (outcome.out, outcome.err, outcome.status) == ("", "", 0)


def test_the_command_itself_is_not_listed(ollama: Ollama) -> None:
    assert "__complete" not in ollama("--help").out
    assert "__complete" not in ollama("__complete", "--", "_").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_has_a_script(ollama: Ollama, shell: str) -> None:
    assert "ollama __complete" in ollama("completion", shell).out


def test_an_unknown_shell(ollama: Ollama) -> None:
    known = "bash, zsh, fish, powershell"
    assert ollama("completion", "tcsh").err == f'Error: no completion for "tcsh"; there is one for {known}\n'


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ollama run llama3.2:", "1b latest"),  # what stands before the colon stays where it is
        ("ollama run ph", "phi phi:latest"),
        ("ollama sho", "show"),
    ],
)
def test_bash_completes(ollama: Ollama, server: ScriptedServer, tmp_path: Path, line: str, words: str) -> None:
    script = tmp_path / "completion"
    script.write_text(ollama("completion", "bash").out)
    asks = f"""
        source {script}
        COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD=2
        _ollama_complete
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{OLLAMA.parent}:{os.environ['PATH']}"
    env = {"PATH": path, "OLLAMA_HOST": server.address, "HOME": str(tmp_path), "COMP_WORDBREAKS": " \t\n\"'><=;|&(:"}
    done = subprocess.run(["bash", "-c", asks], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == words.split()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ollama run llama3.2:", "llama3.2:1b llama3.2:latest"),
        ("ollama key ", "list new revoke"),  # and no files
        ("ollama create mine -f ", "file"),
    ],
)
def test_fish_completes(ollama: Ollama, server: ScriptedServer, tmp_path: Path, line: str, words: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "file").touch()
    asks = f"{ollama('completion', 'fish').out}\ncomplete -C {shlex.quote(line)}"
    env = {"PATH": f"{OLLAMA.parent}:{os.environ['PATH']}", "OLLAMA_HOST": server.address, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", asks], env=env, cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == words.split()

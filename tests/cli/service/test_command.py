"""`service`: what it refuses, what it finds, and a server in the background (cli §3.16, §7)."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from llamero.cli.service.here import HIDDEN_FOLDERS, out_of_sight, program, scopes, uses_gpu
from llamero.errors import BadRequest
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import OLLAMA, clean_environment

IS_BOOTED = Path("/run/systemd/system").is_dir()

linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


# --- without a service -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["begin"], ["install", "now"]])
def test_wrong_words(ollama: Ollama, words: list[str]) -> None:
    outcome = ollama("service", *words)
    assert outcome.status == 1
    assert outcome.err == "Error: say `ollama service install|uninstall|status|start|stop|restart|logs`\n"


@linux
@pytest.mark.parametrize("verb", ["uninstall", "start", "stop", "restart", "logs"])
def test_what_needs_a_service_says_how_to_get_one(ollama: Ollama, verb: str) -> None:
    outcome = ollama("service", verb, "--user")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: no service is installed: `ollama service install` does")


@linux
def test_status_tells_whether_a_server_answers(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/version"] = Reply(json={"version": "9.9.9"})
    outcome = ollama("service", "status", "--user")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"no service is installed\na server answers at http://{server.address}: version 9.9.9\n"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    outcome = ollama("service", "status", "--user", env={"OLLAMA_HOST": address})
    assert (outcome.status, outcome.err) == (1, f"Error: no server answers at http://{address}\n")


@linux
@pytest.mark.skipif(IS_BOOTED, reason="systemd runs here")
def test_without_systemd_nothing_is_written(ollama: Ollama, tmp_path: Path) -> None:
    outcome = ollama("service", "install", "--user")
    assert outcome.status == 1
    assert outcome.err.startswith("Error: systemd does not run here (a container?)")
    assert not (tmp_path / ".config").exists()


@linux
def test_a_dry_run_shows_all_of_it_to_anybody(ollama: Ollama, tmp_path: Path) -> None:
    outcome = ollama("service", "install", "--dry-run", "--user")
    assert (outcome.status, outcome.err) == (0, "")
    unit = tmp_path / ".config" / "systemd" / "user" / "llamero.service"
    assert outcome.out.startswith(f"write {unit}:\n")
    assert f"    ExecStart={OLLAMA} serve\n" in outcome.out
    assert outcome.out.endswith("run systemctl --user restart llamero.service\n")
    machine = ollama("service", "install", "--dry-run", "--gpu", "yes").out
    assert "write /etc/systemd/system/llamero.service:\n" in machine
    assert "write /etc/systemd/system/llamero.service.d/gpu.conf:\n" in machine
    assert not (tmp_path / ".config").exists()


# --- with one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl and a journalctl that write down what they are asked; the file that they write to."""
    told, folder = tmp_path / "told", tmp_path / "bin"
    folder.mkdir()
    for name in ("systemctl", "journalctl"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {shlex.quote(str(told))}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    unit = tmp_path / ".config" / "systemd" / "user" / "llamero.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    return told


@linux
@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("start", ["systemctl --user start llamero.service"]),
        ("stop", ["systemctl --user stop llamero.service"]),
        ("restart", ["systemctl --user restart llamero.service"]),
        ("logs -f -n 5", ["journalctl --user --unit=llamero.service --no-pager --lines=5 --follow"]),
        ("uninstall", ["systemctl --user disable --now llamero.service", "systemctl --user daemon-reload"]),
    ],
)
def test_an_installed_service_is_found_and_asked(ollama: Ollama, manager: Path, words: str, asked: list[str]) -> None:
    outcome = ollama("service", *words.split())
    assert (outcome.status, outcome.err) == (0, "")
    assert manager.read_text().splitlines() == asked


@linux
def test_a_dry_run_of_a_verb_asks_nobody(ollama: Ollama, manager: Path) -> None:
    assert ollama("service", "stop", "--dry-run").out == "run systemctl --user stop llamero.service\n"
    assert not manager.exists()


# --- what is here ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "seen"),
    [("/opt/llamero/bin/ollama", ""), ("/home/u/venv/bin/ollama", "/home/u/venv/bin/ollama"), ("/homes/x", "")],
)
def test_a_service_of_the_machine_sees_no_home(path: str, seen: str) -> None:
    assert out_of_sight([path]) == seen


def test_a_link_into_a_hidden_folder_is_no_way_around(tmp_path: Path) -> None:
    assert any(tmp_path.is_relative_to(folder) for folder in HIDDEN_FOLDERS), "where temporary files are"
    link = tmp_path / "python"
    link.symlink_to("/root/python")
    assert out_of_sight(["/usr/bin/env", str(link)]) == str(link)


def test_whoever_says_sudo_means_the_machines() -> None:
    assert scopes({"SUDO_USER": "ann"}) == ("system",)
    assert scopes({}) == ("user", "system")


def test_the_program_is_the_one_of_this_installation() -> None:
    assert program() == (str(OLLAMA), "serve")


@pytest.mark.parametrize(("word", "gpu"), [("yes", True), ("no", False)])
def test_whoever_says_so_decides_about_graphics_cards(word: str, gpu: bool) -> None:
    assert uses_gpu(word) is gpu
    with pytest.raises(BadRequest, match="--gpu is auto, yes or no, not maybe"):
        uses_gpu("maybe")


# --- a server in the background --------------------------------------------------------------------------------------


def run(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OLLAMA, *words], env=env, capture_output=True, text=True, check=False, timeout=60)


def test_status_finds_a_server_in_the_background_and_stop_ends_it(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    env = clean_environment(tmp_path, OLLAMA_HOST=address, LLAMERO_AUTOSTART="1", LLAMERO_ALLOW_ROOT="1")
    started = run(env, "list")
    try:
        pid = int(started.stderr.partition("(pid ")[2].partition(",")[0])
        status = run(env, "service", "status")
        log = tmp_path / ".ollama" / "logs" / "server.log"
        assert status.returncode == 0
        assert f"a server runs in the background: pid {pid}, log {log}\n" in status.stdout
        assert f"a server answers at http://{address}: version " in status.stdout
        assert "Listening on " in run(env, "service", "logs", "-n", "50").stdout
        other = run({**env, "OLLAMA_HOST": "127.0.0.1:1"}, "service", "stop")
        assert other.stderr.endswith("and none runs in the background\n"), "each address has its own server"
    finally:
        stopped = run(env, "service", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped the server in the background (pid {pid})\n")
    assert not Path(f"/proc/{pid}/exe").exists()
    assert run(env, "service", "status").returncode == 1
    (tmp_path / ".ollama" / "llamero" / f"background-{address.partition(':')[2]}.pid").write_text(f"{os.getpid()}\n")
    assert run(env, "service", "stop").returncode == 1, "a number that nobody holds is not believed"


def test_service_run_writes_its_own_log(tmp_path: Path) -> None:
    """For managers that keep none. It fails at once here, which is told there too."""
    (tmp_path / ".ollama" / "id_ed25519.pub").mkdir(parents=True)
    ran = run(clean_environment(tmp_path, OLLAMA_HOST="127.0.0.1:0"), "service", "run")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "")
    assert "Error: could not write the key pair" in (tmp_path / ".ollama" / "logs" / "server.log").read_text()

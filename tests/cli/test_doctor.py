"""`doctor`: all checks, with a server and without one (cli §3.16, G-29)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from llamero import API_LEVEL
from llamero.cli.checkup import Surroundings, ok
from llamero.cli.doctor import EVERYWHERE, HERE, run
from llamero.client import Client
from llamero.config import Settings
from llamero.messages import Found
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port

NOWHERE = Surroundings({}, Settings.from_env({}), Client(Settings.from_env({}).host))
SUBJECTS = {"server", "environment", "proxy", "clock", "engine", "gpu", "memory", "disk", "permissions"}


def subjects(out: str) -> set[str]:
    return {line.split()[1] for line in out.splitlines()}


def test_without_a_server(ollama: Ollama, tmp_path: Path) -> None:
    """One line for each finding. That nothing answers is no failure."""
    began = time.monotonic()
    ran = ollama("doctor", env={"OLLAMA_HOST": f"127.0.0.1:{free_port()}", "OLLAMA_MODELS": str(tmp_path)})
    assert time.monotonic() - began < 6
    assert (ran.status, ran.err) == (0, "")
    assert subjects(ran.out) >= SUBJECTS
    assert "warn  server " in ran.out


def test_with_something_else_at_the_port(ollama: Ollama, server: ScriptedServer) -> None:
    ran = ollama("doctor")
    assert ran.status == 1
    assert ran.out.startswith("fail  server ")
    assert ran.err.startswith("Error: 1 of ")


def test_as_json(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {
        "GET /api/version": Reply(json={"version": API_LEVEL}),
        "GET /api/ps": Reply(json={"models": []}),
    }
    ran = ollama("doctor", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["failed"]) == (0, 0)
    assert {check["subject"] for check in found["checks"]} >= SUBJECTS | {"models"}
    assert all(set(check) == {"level", "subject", "finding", "advice"} for check in found["checks"])
    assert all(check["advice"] for check in found["checks"] if check["level"] != "ok")


def test_of_a_server_elsewhere_this_machine_says_nothing(ollama: Ollama) -> None:
    """192.0.2.1 is nobody's; what does not answer in time is left out."""
    began = time.monotonic()
    ran = ollama("doctor", env={"OLLAMA_HOST": "192.0.2.1:1"})
    assert time.monotonic() - began < 6
    assert not subjects(ran.out) & {"engine", "gpu", "memory", "disk"}
    assert "the server is at 192.0.2.1 (ollama doctor there looks at its machine)" in ran.out


def test_a_check_that_hangs_or_breaks_takes_no_other_along() -> None:
    def hangs(here: Surroundings) -> Iterable[Found]:
        yield ok("slow", "begun")
        time.sleep(5)

    def breaks(here: Surroundings) -> Iterable[Found]:
        raise PermissionError(13, "Permission denied", "/proc/x")

    def stumbles(here: Surroundings) -> Iterable[Found]:
        yield ok("odd", str(1 // len(here.env)))

    def works(here: Surroundings) -> Iterable[Found]:
        yield ok("fine", "all well")

    checks = (("slow", hangs), ("broken", breaks), ("odd", stumbles), ("fine", works))
    found = [(each.subject, each.level, each.status) for each in run(checks, NOWHERE, 0.3)]
    assert found == [
        ("slow", "ok", "begun"),
        ("slow", "warn", "takes so long to examine that it is left out"),
        ("broken", "warn", "cannot be examined: [Errno 13] Permission denied: '/proc/x'"),
        ("odd", "warn", "cannot be examined: ZeroDivisionError"),
        ("fine", "ok", "all well"),
    ]


def test_every_check_has_a_name_of_its_own() -> None:
    names = [name for name, _ in (*EVERYWHERE, *HERE)]
    assert len(set(names)) == len(names)

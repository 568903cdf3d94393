"""The server, as doctor sees it: which one, what else has its port, models that do not fit the GPU."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero import API_LEVEL
from llamero.cli.checkup import Surroundings
from llamero.cli.checkup.port import holder
from llamero.cli.checkup.service import models, server
from llamero.client import Client
from llamero.config import Settings, parse_host
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows who listens")


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        yield started


def at(address: str) -> Surroundings:
    host = parse_host(address)[0]
    return Surroundings({}, Settings.from_env({"OLLAMA_HOST": address}), Client(host, timeout_s=0.5))


@pytest.mark.parametrize(
    ("reply", "level", "text"),
    [
        (Reply(json={"version": API_LEVEL}), "ok", f"answers, version {API_LEVEL}"),
        (Reply(json={"version": "0.5.7"}), "warn", f"answers as version 0.5.7, this command is of {API_LEVEL}"),
        (Reply(text="<html>"), "fail", "does not answer as it should"),
        (Reply(json={"name": "else"}), "fail", "it is no ollama server"),
        (Reply(404, text="gone"), "fail", "gone"),
        (Reply(403, json={"error": "forbidden: see X"}), "fail", "does not serve this machine: forbidden: see X"),
    ],
)
def test_what_answers(scripted: ScriptedServer, reply: Reply, level: str, text: str) -> None:
    scripted.replies["GET /api/version"] = reply
    (found,) = server(at(scripted.address))
    assert found.level == level
    assert text in found.status
    assert bool(found.advice) == (level != "ok")


def test_nothing_answers() -> None:
    (found,) = server(at(f"127.0.0.1:{free_port()}"))
    assert (found.level, found.advice) == ("warn", "ollama serve starts one")


@linux
def test_a_port_whose_holder_says_nothing_is_shown_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (found,) = server(at(f"127.0.0.1:{port}"))
        assert found.level == "fail"
        assert f"pid {os.getpid()}" in found.status
        assert "timed out" in found.status


@linux
def test_who_holds_a_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        assert holder(port).endswith(f", pid {os.getpid()}")
    assert holder(port) == ""
    assert holder(port, tmp_path) == "", "a system without such a table"


def running(size: int, vram: int) -> dict[str, Any]:
    return {"name": "m:latest", "size": size, "size_vram": vram}


@pytest.mark.parametrize(
    ("reply", "levels"),
    [
        (Reply(json={"models": [running(100, 100), running(100, 0)]}), ["ok"]),
        (Reply(json={"models": [running(100, 52), running(100, 100)]}), ["warn"]),
        (Reply(401, json={"error": "unauthorized"}), ["fail"]),
        (Reply(500), []),
    ],
    ids=["all on one side", "spilled", "a key is needed", "it breaks"],
)
def test_models_in_memory(scripted: ScriptedServer, reply: Reply, levels: list[str]) -> None:
    scripted.replies["GET /api/ps"] = reply
    found = list(models(at(scripted.address)))
    assert [each.level for each in found] == levels
    if levels == ["warn"]:
        assert found[0].status == "m:latest lies to 48% in main memory, which makes it slow"

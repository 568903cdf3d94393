"""The machine, as doctor sees it: engine, memory, swap, load, clock."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from llamero.cli.checkup import Surroundings, machine
from llamero.client import Client
from llamero.config import Settings
from llamero.engines.devices import Gpu
from llamero.engines.native import NativeEngines
from llamero.errors import EngineError

KIB = 1024


def here(home: Path, **env: str) -> Surroundings:
    settings = Settings.from_env({"LLAMERO_HOME": str(home), "PATH": os.environ["PATH"]} | env)
    return Surroundings(env, settings, Client(settings.host))


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_wheel(tmp_path: Path) -> None:
    """With what this processor could do besides, and who makes use of it."""
    (found,) = machine.engine(here(tmp_path))
    assert found.level == "ok"
    assert found.status.startswith("xllamacpp ")
    assert " starts and uses " in found.status
    assert not found.advice or found.advice.startswith("ollama engine build ")


def test_a_broken_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def broken(env: object) -> frozenset[str]:
        raise EngineError("it ends without an answer: no such library")

    monkeypatch.setattr(machine, "probe_features", broken)
    (found,) = machine.engine(here(tmp_path))
    assert found.level == "fail"
    assert found.status.endswith("is broken: it ends without an answer: no such library")


@pytest.mark.parametrize(
    ("script", "level", "text"),
    [
        ("echo 'version: 9000 (abc)'", "ok", "starts (version: 9000 (abc))"),
        ("echo hello", "ok", "it does not say its version"),
        ("echo 'illegal instruction' >&2; exit 132", "fail", "ends with status 132: illegal instruction"),
        ("sleep 60", "fail", "does not start: no answer within 0 s"),
    ],
)
def test_a_program_instead_of_the_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, level: str, text: str
) -> None:
    monkeypatch.setattr(machine, "PROGRAM_TIMEOUT_S", 0.4 if "sleep" in script else 10)
    path = program(tmp_path / "llama-server", script)
    (found,) = machine.engine(here(tmp_path, LLAMERO_LLAMA_SERVER=path))
    assert found.level == level
    assert text in found.status


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    (found,) = machine.engine(here(tmp_path, LLAMERO_LLAMA_SERVER="/none/such"))
    assert (found.level, found.status) == ("fail", "LLAMERO_LLAMA_SERVER: there is no program /none/such")


def test_a_chosen_engine_that_is_gone(tmp_path: Path) -> None:
    NativeEngines(tmp_path).choose("1.0-avx2", "it was faster")
    found = list(machine.engine(here(tmp_path)))
    assert [each.level for each in found] == ["warn", "ok"]
    assert "1.0-avx2" in found[0].status


@pytest.mark.parametrize(
    ("gpus", "driver", "levels"),
    [
        ((Gpu("CUDA0", "a card", 8 * 10**9, 7 * 10**9), Gpu("CUDA1", "another", 1, 1)), True, ["ok", "ok"]),
        ((), True, ["warn"]),
        ((), False, ["ok"]),
    ],
    ids=["two", "not used", "none"],
)
def test_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: tuple[Gpu, ...], driver: bool, levels: list[str]
) -> None:
    async def probe(*how: object) -> tuple[Gpu, ...]:
        return gpus

    monkeypatch.setattr(machine, "probe_gpus", probe)
    monkeypatch.setattr(machine, "NVIDIA", tmp_path if driver else tmp_path / "none")
    monkeypatch.setattr(machine, "AMD", tmp_path / "none")
    found = list(machine.gpu(here(tmp_path)))
    assert [each.level for each in found] == levels
    if len(gpus) == 2:
        assert found[0].status == "CUDA0 a card: 7 GB of 8 GB free"


def meminfo(tmp_path: Path, available_kib: int, swap_kib: int, swap_free_kib: int) -> Path:
    path = tmp_path / "meminfo"
    rows = {"MemTotal": 16 * 2**20, "MemAvailable": available_kib, "SwapTotal": swap_kib, "SwapFree": swap_free_kib}
    path.write_text("".join(f"{name}: {kib} kB\n" for name, kib in rows.items()))
    return path


@pytest.mark.parametrize(
    ("available", "swap", "swap_free", "levels"),
    [
        (8 * 2**20, 0, 0, ["ok", "ok"]),
        (2**19, 2**20, 2**20, ["warn", "ok"]),
        (8 * 2**20, 8 * 2**20, 4 * 2**20, ["ok", "warn"]),
    ],
    ids=["fine", "little memory", "swapped out"],
)
def test_memory_and_swap(tmp_path: Path, available: int, swap: int, swap_free: int, levels: list[str]) -> None:
    found = list(machine.memory(here(tmp_path), meminfo(tmp_path, available, swap, swap_free)))
    assert [each.subject for each in found] == ["memory", "swap"]
    assert [each.level for each in found] == levels


def test_a_system_that_tells_nothing_of_swap(tmp_path: Path) -> None:
    assert [each.subject for each in machine.memory(here(tmp_path), tmp_path / "none")] == ["memory"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such figure")
@pytest.mark.parametrize(("busy", "level"), [(0.5, "ok"), (1000.0, "warn")])
def test_others_at_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy: float, level: str) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (busy, 0.0, 0.0))
    (found,) = machine.load(here(tmp_path))
    assert found.level == level


@pytest.mark.parametrize(("now", "level"), [(None, "ok"), (1e9, "fail")], ids=["now", "2001"])
def test_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, now: float | None, level: str) -> None:
    if now is not None:
        monkeypatch.setattr(time, "time", lambda: now)
    (found,) = machine.clock(here(tmp_path))
    assert found.level == level

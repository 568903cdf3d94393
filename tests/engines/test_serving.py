"""Which program an engine is started with, and what happens when that one does not run on this machine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.engines.native import NativeEngines
from llamero.engines.serving import Serving
from llamero.errors import EngineError, LoadFailed, OutOfMemory
from llamero.messages import Event
from tests.engines.native_engines import install, record
from tests.engines.starting import ENV, fake_plan, plan_of
from tests.fake_llama_server import install as install_fake
from tests.fake_llama_server import read_record
from tests.parrot import write_parrot


@pytest.fixture
def natives(tmp_path: Path) -> NativeEngines:
    return NativeEngines(tmp_path / "home")


def chosen_fake(natives: NativeEngines, folder: Path, script: dict[str, Any] | None = None) -> Path:
    """A native engine that is the fake one. Returns the folder of its records."""
    folder.mkdir()
    fake = install_fake(folder, script)
    install(natives, program=f'#!/bin/sh\nexec {fake} "$@"\n')
    natives.choose("native-avx512", "it is faster")
    return folder


@asynccontextmanager
async def started(serving: Serving, folder: Path) -> Any:
    engine = await serving.start(fake_plan(folder), lambda share: None)
    try:
        yield engine
    finally:
        await engine.stop()


async def answer(engine: LlamaCpp, **body: Any) -> list[Event]:
    return [event async for event in engine.wire.complete({"prompt": "x", "stream": True, **body})]


@pytest.fixture
def serving(natives: NativeEngines) -> Serving:
    return Serving(LlamaCppSettings(env=ENV), natives)


def test_the_variable_wins_over_the_choice(natives: NativeEngines, tmp_path: Path) -> None:
    install(natives)
    natives.choose("native-avx512", "it is faster")
    chosen = Serving(LlamaCppSettings(env=ENV, program="/usr/bin/mine"), natives).chosen()
    assert (chosen.kind, chosen.program) == ("program", "/usr/bin/mine")
    assert Serving(LlamaCppSettings(env=ENV), natives).chosen().kind == "native"


async def test_the_next_load_takes_up_a_choice_without_a_restart(
    serving: Serving, natives: NativeEngines, tmp_path: Path
) -> None:
    assert serving.chosen().kind == "wheel"
    records = chosen_fake(natives, tmp_path / "fake")
    async with started(serving, tmp_path) as engine:
        assert await answer(engine)
    assert len(read_record(records, "argv")) == 1


def test_a_choice_that_cannot_serve_is_told_once(
    serving: Serving, natives: NativeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    install(natives, record(version="1"))
    natives.choose("native-avx512", "")
    assert [serving.chosen().kind for _ in range(3)] == ["wheel"] * 3
    assert len([entry for entry in caplog.records if "run `ollama engine build` again" in entry.message]) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param({"prints": ["error: what is this"], "dies": 1}, id="it ends"),
        pytest.param({"dies": -4}, id="an illegal instruction"),
    ],
)
async def test_where_it_does_not_start_and_the_wheel_does_not_either_the_model_is_to_blame(
    serving: Serving, natives: NativeEngines, tmp_path: Path, script: dict[str, Any]
) -> None:
    """`fake_plan` has a file that no real engine loads."""
    chosen_fake(natives, tmp_path / "fake", script)
    with pytest.raises(LoadFailed, match="exit status 1"):
        await serving.start(fake_plan(tmp_path), lambda share: None)
    assert serving.chosen().kind == "native"


@pytest.mark.engine
async def test_where_the_wheel_starts_the_program_is_given_up(
    serving: Serving,
    natives: NativeEngines,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chosen_fake(natives, tmp_path / "fake", {"dies": -4})
    plan = plan_of(write_parrot(tmp_path / "parrot.gguf", "Hello there"))
    with caplog.at_level(logging.WARNING):
        engine = await serving.start(plan, lambda share: None)
    try:
        assert await answer(engine)
    finally:
        await engine.stop()
    assert serving.chosen().kind == "wheel"
    assert "is given up" in serving.chosen().why
    assert "illegal instruction" in caplog.text.lower()


async def test_one_that_crashes_soon_is_given_up_for_the_next_load(
    serving: Serving, natives: NativeEngines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen_fake(natives, tmp_path / "fake")
    async with started(serving, tmp_path) as engine:
        with pytest.raises(EngineError):
            await answer(engine, reply=[{"die": -4}])
        await asyncio.wait_for(asyncio.shield(engine.exited), 10)
    assert serving.chosen().kind == "wheel"
    assert "it crashed soon after its start: signal: illegal instruction" in serving.chosen().why
    assert "the wheel serves" in caplog.text


@pytest.mark.parametrize("status", [-9, 1], ids=["killed", "it ends by itself"])
async def test_one_that_ends_otherwise_is_not_given_up(
    serving: Serving, natives: NativeEngines, tmp_path: Path, status: int
) -> None:
    chosen_fake(natives, tmp_path / "fake")
    async with started(serving, tmp_path) as engine:
        with suppress(EngineError):
            await answer(engine, reply=[{"die": status}])
        await asyncio.wait_for(asyncio.shield(engine.exited), 10)
    assert serving.chosen().kind == "native"


async def test_a_model_that_does_not_fit_says_nothing_about_the_program(
    serving: Serving, natives: NativeEngines, tmp_path: Path
) -> None:
    chosen_fake(natives, tmp_path / "fake", {"prints": ["error: failed to allocate buffer, out of memory"], "dies": 1})
    with pytest.raises(OutOfMemory):
        await serving.start(fake_plan(tmp_path), lambda share: None)
    assert serving.chosen().kind == "native"


async def test_the_operators_own_program_has_no_way_back(natives: NativeEngines, tmp_path: Path) -> None:
    program = install_fake(tmp_path, {"dies": 3})
    with pytest.raises(LoadFailed, match="exit status 3"):
        await Serving(LlamaCppSettings(env=ENV, program=str(program)), natives).start(
            fake_plan(tmp_path), lambda share: None
        )

"""Engines started for a test, the real one or the fake program in its place, and what must not be left of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamero.engines import LoadPlan
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from tests.fake_llama_server import install
from tests.running import is_running

ENV = {"PATH": os.defpath}
"""All that an engine of these tests sees of the environment."""

DEADLINE_S = 10.0
"""For what takes milliseconds on an idle machine."""


def fake_settings(folder: Path, script: dict[str, Any] | None = None, **more: Any) -> LlamaCppSettings:
    return LlamaCppSettings(env=ENV, program=str(install(folder, script)), **more)


def plan_of(model: Path, **more: Any) -> LoadPlan:
    return LoadPlan(key=model.name, model=model, **({"ctx_tokens": 512} | more))


def fake_plan(folder: Path) -> LoadPlan:
    """For the fake, any file is a model."""
    model = folder / "model.gguf"
    model.write_bytes(b"GGUF")
    return plan_of(model)


@asynccontextmanager
async def running(plan: LoadPlan, settings: LlamaCppSettings, **more: Any) -> AsyncIterator[LlamaCpp]:
    """An engine that answers. Whatever the test did to it, leaving the block must leave nothing."""
    engine = await LlamaCpp.start(plan, settings, **more)
    try:
        yield engine
    finally:
        await engine.stop()
        assert not is_running(engine.pid)
        assert not folder_of(engine).exists()


@asynccontextmanager
async def fake_engine(
    folder: Path, script: dict[str, Any] | None = None, *, plan: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[LlamaCpp]:
    async with running(replace(fake_plan(folder), **(plan or {})), fake_settings(folder, script, **more)) as engine:
        yield engine


@asynccontextmanager
async def real_engine(model: Path, **plan: Any) -> AsyncIterator[LlamaCpp]:
    async with running(plan_of(model, **plan), LlamaCppSettings(env=ENV)) as engine:
        yield engine


def folder_of(engine: LlamaCpp) -> Path:
    return Path(engine.endpoint.socket).parent


async def eventually(holds: Callable[[], Any]) -> Any:
    """Wait for what another process is about to do, and give it back."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
    return found


async def gone(pid: int) -> None:
    await eventually(lambda: not is_running(pid))

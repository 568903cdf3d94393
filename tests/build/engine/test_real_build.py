"""The whole way with real compilers and real sources: half an hour of two cores. It needs a package index."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from llamero.build.engine import Order, build, toolchain
from llamero.config import Settings
from llamero.engines import LoadPlan
from llamero.engines.llamacpp import LlamaCppSettings
from llamero.engines.native import NativeEngines
from llamero.engines.serving import Serving
from llamero.errors import LlameroError
from llamero.messages import Text
from llamero.store import Store
from tests.running import linked_copy


def can_build() -> bool:
    try:
        toolchain.find(os.environ)
    except LlameroError:
        return False
    return True


@pytest.mark.heavy
@pytest.mark.engine
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not can_build(), reason="needs a C++ compiler, cmake and cargo")
def test_an_engine_for_this_very_processor(
    starter_models: Path, smollm2_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    natives = NativeEngines(tmp_path / "home")
    settings = LlamaCppSettings(env=Settings.from_env(os.environ).engine_env)

    def report(step: str, done: int, total: int) -> None:
        if not total:
            with capsys.disabled():
                print(step)

    order = Order(
        natives=natives,
        store=Store(linked_copy(starter_models, tmp_path / "models")),
        env=os.environ,
        engine_env=settings.env,
        report=report,
    )
    record = build(order)
    with capsys.disabled():
        print(f"decode {record.decode_ratio:.2f}, prefill {record.prefill_ratio:.2f} of the wheel's speed")
    assert record.measured_on == "smollm2:135m"
    assert (natives.chosen().kind == "native") is record.is_faster

    natives.choose(record.name, "a test wants it")
    engine, text = asyncio.run(answer(Serving(settings, natives), smollm2_gguf))
    assert str(natives.program(record.name)) in engine
    natives.choose("wheel", "to compare")
    wheel, same = asyncio.run(answer(Serving(settings, natives), smollm2_gguf))
    assert wheel.startswith("xllamacpp")
    assert text == same != ""


async def answer(serving: Serving, model: Path) -> tuple[str, str]:
    """What the engine that serves is, and how it goes on with a sentence."""
    engine = await serving.start(LoadPlan(key="m", model=model, ctx_tokens=512), lambda share: None)
    try:
        body = {"prompt": "Paris is the capital of", "n_predict": 4, "temperature": 0, "stream": True}
        texts = [event.text async for event in engine.wire.complete(body) if isinstance(event, Text)]
    finally:
        await engine.stop()
    return engine.build, "".join(texts)

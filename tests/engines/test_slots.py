"""Slots of the engine in files of ours: where it may write, and what it refuses (scheduler §9.6, §10.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from llamero.engines import Engine
from llamero.engines.llamacpp import LlamaCppSettings
from llamero.errors import EngineError
from llamero.messages import Usage
from tests.engines.starting import ENV, fake_engine, plan_of, running
from tests.fake_llama_server import read_record
from tests.parrot import write_parrot

PROMPT = "A prompt of some length, which is one token for each of its bytes."


def folders(folder: Path) -> Callable[[], AbstractContextManager[Path]]:
    @contextmanager
    def entered() -> Iterator[Path]:
        folder.mkdir(mode=0o700)
        yield folder
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    return entered


async def test_a_foreign_program_is_told_its_folder(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    async with fake_engine(tmp_path, slot_folder=folders(saved)) as engine:
        (argv,) = read_record(tmp_path, "argv")
        assert argv[argv.index("--slot-save-path") + 1] == str(saved)
        assert engine.slot_folder == saved
        assert str(tmp_path) in engine.build
    assert not saved.exists()


@pytest.mark.parametrize("kind", ["embedding", "reranking"])
async def test_what_answers_nothing_saves_nothing(tmp_path: Path, kind: str) -> None:
    async with fake_engine(tmp_path, plan={kind: True}, slot_folder=folders(tmp_path / "saved")) as engine:
        assert engine.slot_folder is None
        assert "--slot-save-path" not in read_record(tmp_path, "argv")[0]


async def test_another_build_of_a_program_has_another_name(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        first = engine.build
    async with fake_engine(tmp_path, {"lines": ["another one"]}) as engine:
        assert engine.build != first


async def complete(engine: Engine, slot: int) -> int:
    """Tokens of the prompt that it had not to read."""
    body = {"prompt": PROMPT, "n_predict": 1, "id_slot": slot, "temperature": 0, "timings_per_token": True}
    usages: list[Usage] = []
    async for _ in engine.wire.complete({**body, "stream": True}, on_usage=usages.append):
        pass
    return usages[-1].cached_tokens


async def test_a_slot_goes_to_a_file_and_back(tmp_path: Path) -> None:
    parrot = write_parrot(tmp_path / "parrot.gguf", "So it is.")
    saved = tmp_path / "saved"
    plan = plan_of(parrot, slots=2, pool_tokens=1024)
    async with running(plan, LlamaCppSettings(env=ENV, slot_folder=folders(saved))) as engine:
        wire = engine.wire
        assert engine.build.startswith("xllamacpp ")
        assert await complete(engine, 1) == 0
        tokens = await wire.save_slot(1, "a")
        assert tokens >= len(PROMPT)
        assert (saved / "a").stat().st_size > 4 * tokens
        assert await wire.erase_slot(1) == tokens
        assert await wire.erase_slot(1) == 0
        assert await wire.restore_slot(0, "a") == tokens
        assert await complete(engine, 0) >= len(PROMPT) - 1

        (saved / "b").write_bytes((saved / "a").read_bytes()[:40])
        for name in ("missing", "b", "../saved/a", ""):
            with pytest.raises(EngineError):
                await wire.restore_slot(0, name)
        with pytest.raises(EngineError):
            await wire.save_slot(0, "../c")
        assert engine.alive
        assert not (tmp_path / "c").exists()


async def test_without_a_folder_it_saves_nothing(tmp_path: Path) -> None:
    parrot = write_parrot(tmp_path / "parrot.gguf", "So it is.")
    async with running(plan_of(parrot), LlamaCppSettings(env=ENV)) as engine:
        with pytest.raises(EngineError) as caught:
            await engine.wire.save_slot(0, "a")
        assert caught.value.status == 501

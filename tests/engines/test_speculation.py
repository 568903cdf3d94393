"""Guessing on the real engine: the parrot says what it would have said, and what cannot guess is left out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.messages import Done, Text
from tests.engines.starting import ENV, plan_of, real_engine, running
from tests.gguf_files import tiny_llama
from tests.parrot import cut, write_parrot

SAYING = "The early bird catches the worm, and the second mouse gets the cheese in the end. Who is late stays hungry."
PIECES = [*range(260, 260 + len(cut(SAYING, (), 4)))]
"""The tokens of the saying, which no text is read as: they follow 260 others."""
SAID_BEFORE = [*PIECES, 100]

NGRAMS = {"speculation": "ngram", "match_tokens": 8, "draft_tokens": 8}


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parrot(tmp_path_factory.mktemp("parrot") / "parrot.gguf", SAYING)


async def said(engine: LlamaCpp, prompt: list[int] | str, **more: Any) -> tuple[str, Done]:
    body = {"prompt": prompt, "temperature": 0, "n_predict": 100, "stream": True, "timings_per_token": True}
    *texts, done = [event async for event in engine.wire.complete(body | more)]
    assert isinstance(done, Done)
    return "".join(event.text for event in texts if isinstance(event, Text)), done


async def test_what_was_said_before_is_guessed(parrot: Path) -> None:
    async with real_engine(parrot, slots=2, pool_tokens=1024, **NGRAMS) as engine:
        text, done = await said(engine, SAID_BEFORE)
        assert text == SAYING
        assert done.usage.draft_tokens >= done.usage.accepted_tokens > len(PIECES) // 3
        text, done = await said(engine, "Go on. " * 10)
        assert (text, done.usage.draft_tokens) == (SAYING, 0)


async def test_a_draft_model_guesses(parrot: Path) -> None:
    async with real_engine(parrot, speculation="draft", draft_tokens=4, draft_model=parrot) as engine:
        text, done = await said(engine, "Go on.")
        assert text == SAYING
        assert done.usage.accepted_tokens > len(PIECES) // 2
        assert engine.plan.speculation == "draft"
        with_draft = engine.memory.total_bytes
    async with real_engine(parrot) as engine:
        assert with_draft > 1.9 * engine.memory.total_bytes


@pytest.mark.parametrize("way", ["ngram", "draft"])
async def test_a_shift_of_the_context_while_guessing(parrot: Path, way: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "ngram": NGRAMS,
        "draft": {"speculation": "draft", "draft_tokens": 4, "draft_model": parrot},
    }
    window = len(SAID_BEFORE) + 20
    async with real_engine(parrot, ctx_tokens=window, **ways[way]) as engine:
        text, done = await said(engine, SAID_BEFORE)
    assert text == SAYING
    assert len(SAID_BEFORE) + done.usage.predicted_tokens > window
    assert done.usage.accepted_tokens > 0


async def test_a_draft_model_with_another_vocabulary_is_left_out(parrot: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_llama())
    async with real_engine(parrot, speculation="draft", draft_tokens=4, draft_model=other) as engine:
        assert engine.plan == plan_of(parrot)
        text, done = await said(engine, "Go on.")
        assert (text, done.usage.draft_tokens) == (SAYING, 0)


async def test_only_who_guesses_without_a_model_saves_its_slots(parrot: Path, tmp_path: Path) -> None:
    """A saved slot has nothing of the draft model's cache: going on from it, the engine fails every request."""
    settings = LlamaCppSettings(env=ENV, slot_folder=lambda: contextlib.nullcontext(tmp_path))
    async with running(plan_of(parrot, **NGRAMS), settings) as engine:
        assert engine.slot_folder == tmp_path
        first = await said(engine, SAID_BEFORE, id_slot=0)
        await engine.wire.save_slot(0, "saved")
        await said(engine, "Something else.", id_slot=0)
        await engine.wire.restore_slot(0, "saved")
        again = await said(engine, SAID_BEFORE, id_slot=0)
        assert again[0] == first[0] == SAYING
        assert again[1].usage.accepted_tokens == first[1].usage.accepted_tokens
        assert again[1].usage.cached_tokens > len(PIECES) // 2
    drafted = plan_of(parrot, speculation="draft", draft_tokens=4, draft_model=parrot)
    async with running(drafted, settings) as engine:
        assert engine.slot_folder is None

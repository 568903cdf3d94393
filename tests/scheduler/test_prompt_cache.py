"""Slots of a real engine, saved and restored: what is worth it, and what an engine does with files that it dislikes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamero.engines import Engine
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.errors import EngineGone
from llamero.messages import Usage
from llamero.scheduler.pool import Pool, Seat
from llamero.scheduler.prompt_cache import Holding, PromptCache
from llamero.store.prefixes import Identity, Prefixes
from tests.engines.starting import ENV, plan_of, running
from tests.parrot import write_parrot
from tests.slot_files import slot_bytes as bytes_of
from tests.slot_files import words_of

WHO = Identity(owner="", weights="sha256:parrot")
PROMPT = "To be or not to be, that is the question. " * 12
WINDOW = 2048


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parrot(tmp_path_factory.mktemp("parrot") / "parrot.gguf", "Whether it is nobler.")


@pytest.fixture
def prefixes(tmp_path: Path) -> Prefixes:
    return Prefixes(tmp_path / "models", 1 << 30)


@pytest.fixture
def cache(prefixes: Prefixes) -> PromptCache:
    return PromptCache(prefixes)


@asynccontextmanager
async def engine_of(
    parrot: Path, cache: PromptCache, kv_type: str = "", pool_tokens: int = 2 * WINDOW
) -> AsyncIterator[LlamaCpp]:
    settings = LlamaCppSettings(env=ENV, slot_folder=cache.engine_folder)
    plan = plan_of(parrot, ctx_tokens=min(WINDOW, pool_tokens), slots=2, pool_tokens=pool_tokens, kv_type=kv_type)
    async with running(plan, settings) as engine:
        yield engine


async def read(engine: Engine, seat: Seat, prompt: str = PROMPT) -> Usage:
    """One request on a leased slot, and what it leaves behind there."""
    usages: list[Usage] = []
    body = {"prompt": prompt, "n_predict": 2, "id_slot": seat.slot.index, "temperature": 0, "stream": True}
    async for _ in engine.wire.complete(body | {"timings_per_token": True}, on_usage=usages.append):
        pass
    usage = usages[-1]
    seat.slot.holding = Holding(WHO, "parrot", 1000, usage.prompt_tokens + usage.predicted_tokens)
    seat.slot.fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    return usage


def seated() -> tuple[Pool, Seat]:
    """The slots of an engine that has just been started, and the first of them."""
    pool = Pool(2 * WINDOW, 2)
    return pool, pool.take(100, "", (1, 2, 3), 1.0)


async def save(engine: Engine, cache: PromptCache) -> None:
    """Read the prompt, and keep it."""
    pool, seat = seated()
    await read(engine, seat)
    pool.give_back(seat, 2.0)
    await cache.save(engine, seat.slot)


async def restore(engine: Engine, cache: PromptCache, *, held_tokens: int = 0, most_tokens: int = WINDOW) -> bool:
    pool, seat = seated()
    tokens = await engine.wire.tokenize(PROMPT, add_special=True)
    return await cache.restore(engine, seat, pool, WHO, tokens, held_tokens, most_tokens)


async def test_what_one_engine_saved_another_goes_on_from(parrot: Path, cache: PromptCache, prefixes: Prefixes) -> None:
    async with engine_of(parrot, cache) as engine:
        await save(engine, cache)
        assert engine.slot_folder is not None
        assert [path.name for path in engine.slot_folder.iterdir()] == [".lock"]
    (entry,) = prefixes.entries()
    assert entry.tokens > 500
    assert entry.model == "parrot"
    async with engine_of(parrot, cache) as engine:
        pool, seat = seated()
        tokens = await engine.wire.tokenize(PROMPT, add_special=True)
        assert await cache.restore(engine, seat, pool, WHO, tokens, 0, WINDOW)
        usage = await read(engine, seat)
        assert usage.cached_tokens >= len(tokens) - 1


async def test_what_the_slot_was_taken_for_meanwhile_is_not_kept(
    parrot: Path, cache: PromptCache, prefixes: Prefixes
) -> None:
    """The file may hold the prompt of whoever took it."""
    async with engine_of(parrot, cache) as engine:
        pool, seat = seated()
        await read(engine, seat)
        pool.give_back(seat, 2.0)
        saving = asyncio.create_task(cache.save(engine, seat.slot))
        await asyncio.sleep(0)
        seat.slot.turns += 1
        await saving
    assert prefixes.entries() == []


async def test_a_refused_file_is_removed(parrot: Path, cache: PromptCache, prefixes: Prefixes) -> None:
    """A sound file of an engine with another type of cache."""
    async with engine_of(parrot, cache, kv_type="bf16") as engine:
        await save(engine, cache)
    assert len(prefixes.entries()) == 1
    async with engine_of(parrot, cache) as engine:
        assert not await restore(engine, cache)
        assert engine.alive
        assert prefixes.entries() == []
        assert prefixes.damaged == 1


async def test_idle_prompts_make_room_for_one_that_comes_back(
    parrot: Path, cache: PromptCache, prefixes: Prefixes
) -> None:
    async with engine_of(parrot, cache, pool_tokens=1024) as engine:
        await save(engine, cache)
    async with engine_of(parrot, cache, pool_tokens=1024) as engine:
        pool, seat = seated()
        other = pool.take(100, "", (7, 8, 9), 1.0)
        await read(engine, other, "So many other words about something else. " * 14)
        pool.give_back(other, 2.0)
        tokens = await engine.wire.tokenize(PROMPT, add_special=True)
        assert await cache.restore(engine, seat, pool, WHO, tokens, 0, WINDOW)
        assert (await read(engine, seat)).cached_tokens >= len(tokens) - 1
        assert other.slot.trail == ()
    assert len(prefixes.entries()) == 1


async def test_a_file_that_ends_the_engine_does_it_once(parrot: Path, cache: PromptCache, prefixes: Prefixes) -> None:
    """A file that was cut short before it was saved: its checksum is right. The request is made again on a new engine,
    which must not be given it again."""
    async with engine_of(parrot, cache) as engine:
        await save(engine, cache)
        (entry,) = prefixes.entries()
        path = prefixes._folder / entry.name
        whole = path.read_bytes()
        prefixes.clear()
        assert engine.slot_folder is not None
        cut = engine.slot_folder / "cut"
        cut.write_bytes(whole[: len(whole) // 2])
        assert prefixes.put(WHO, cut, "parrot") > 0
        with pytest.raises(EngineGone):
            await restore(engine, cache)
        assert prefixes.entries() == []


async def test_it_is_worth_it_only_when_it_brings_enough(parrot: Path, cache: PromptCache) -> None:
    async with engine_of(parrot, cache) as engine:
        await save(engine, cache)
        assert not await restore(engine, cache, held_tokens=400)
        assert not await restore(engine, cache, most_tokens=300)  # an entry of 500 does not fit
        assert await restore(engine, cache, held_tokens=100)


async def test_a_prefill_that_is_quicker_than_the_disk_is_preferred(parrot: Path, cache: PromptCache) -> None:
    async with engine_of(parrot, cache) as engine:
        await save(engine, cache)
        assert await restore(engine, cache)  # nothing was measured yet
        cache.learn(WHO, Usage(prompt_tokens=10**6, prompt_ns=1000))
        assert not await restore(engine, cache)
        for _ in range(80):
            cache.learn(WHO, Usage(prompt_tokens=100, prompt_ns=10**10))
        assert await restore(engine, cache)


async def test_an_engine_that_is_slow_to_save_is_ended_in_time(
    parrot: Path, cache: PromptCache, prefixes: Prefixes
) -> None:
    async with engine_of(parrot, cache) as engine:
        pool, seat = seated()
        await read(engine, seat)
        pool.give_back(seat, 2.0)
        await cache.save_all(engine, pool.idle, 0)
        assert prefixes.entries() == []
        await cache.save_all(engine, pool.idle, 10)
        assert len(prefixes.entries()) == 1


async def test_pictures_and_what_is_too_short_are_not_kept(cache: PromptCache, prefixes: Prefixes) -> None:
    with cache.engine_folder() as folder:
        assert folder is not None
        for words in (words_of([*range(300), 2**32 - 1], pictures_at=[300]), words_of(range(200))):
            (folder / "saved").write_bytes(bytes_of(words))
            assert prefixes.put(WHO, folder / "saved", "parrot") == 0


def test_nothing_is_prepared_where_nothing_is_saved(tmp_path: Path) -> None:
    with PromptCache(Prefixes(tmp_path / "models", 0)).engine_folder() as folder:
        assert folder is None
    assert os.listdir(tmp_path) == []

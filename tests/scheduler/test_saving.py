"""When slots are saved to disk: after a long prefill has gone idle, and before their engine ends (scheduler §9.6)."""

from __future__ import annotations

import pytest

from llamero.durations import SECOND
from llamero.scheduler.loop import END_SAVE_S, SAVE_FRESH_TOKENS, SAVE_IDLE_S, UNLOAD_SAVE_S
from llamero.scheduler.pool import Slot
from llamero.scheduler.runner import Claim
from tests.scheduler.world import Client, World, opened

TALK = Claim(tokens=10, trail=(1, 2))
"""Of one conversation: it comes back to its slot."""


def slot_of(client: Client) -> Slot:
    assert client.lease is not None
    assert client.lease.seat is not None
    return client.lease.seat.slot


async def answered(world: World, fresh_tokens: int = SAVE_FRESH_TOKENS, name: str = "a") -> Slot:
    """A request that has come and gone, and prefilled so much."""
    client = await world.ask(name, keep_alive_ns=60 * SECOND, slots=2, claim=TALK)
    slot = slot_of(client)
    slot.fresh_tokens = fresh_tokens
    await world.leave(client)
    return slot


async def test_a_long_prefill_is_saved_when_its_slot_stays_idle() -> None:
    async with opened() as world:
        await answered(world)
        await world.pass_time(SAVE_IDLE_S - 1)
        assert world.log == ["start a"]
        await world.pass_time(1)
        assert world.log == ["start a", "save a 0"]
        await world.pass_time(SAVE_IDLE_S)
        assert world.log == ["start a", "save a 0"]


async def test_a_short_one_waits_until_the_model_goes() -> None:
    async with opened() as world:
        await answered(world, SAVE_FRESH_TOKENS - 1)
        await world.pass_time(2 * SAVE_IDLE_S)
        assert world.log == ["start a"]
        await world.unload("a")
        assert world.log == ["start a", "save a 0", "stop a"]
        assert world.effects.saves_s == [UNLOAD_SAVE_S]


async def test_whoever_goes_on_soon_is_not_interrupted_by_a_save() -> None:
    async with opened() as world:
        await answered(world)
        await world.pass_time(SAVE_IDLE_S - 1)
        client = await world.ask("a", slots=2, claim=TALK)
        await world.pass_time(2 * SAVE_IDLE_S)
        assert world.log == ["start a"]
        await world.leave(client)
        await world.pass_time(SAVE_IDLE_S)
        assert world.log == ["start a", "save a 0"]


async def test_each_slot_has_its_own_time() -> None:
    async with opened() as world:
        first, second = [await world.ask("a", slots=2, claim=Claim(tokens=10, trail=(n,))) for n in (1, 2)]
        for client in (first, second):
            slot_of(client).fresh_tokens = SAVE_FRESH_TOKENS
        await world.leave(first)
        await world.pass_time(SAVE_IDLE_S / 2)
        await world.leave(second)
        await world.pass_time(SAVE_IDLE_S / 2)
        assert world.log == ["start a", "save a 0"]
        await world.pass_time(SAVE_IDLE_S / 2)
        assert world.log == ["start a", "save a 0", "save a 1"]


async def test_an_engine_that_goes_before_leaves_no_timer() -> None:
    async with opened() as world:
        await answered(world)
        await world.unload("a")
        assert world.effects.timers == []


async def test_an_engine_that_died_is_not_asked_to_save() -> None:
    async with opened() as world:
        await answered(world)
        world.effects.engines[0].die(unnoticed=True)
        await world.pass_time(SAVE_IDLE_S)
        assert world.log == ["start a"]


async def test_only_idle_slots_are_saved_when_the_server_stops() -> None:
    async with opened() as world:
        idle, busy = [await world.ask("a", slots=2, claim=Claim(tokens=10, trail=(n,))) for n in (1, 2)]
        for client in (idle, busy):
            slot_of(client).fresh_tokens = 100
        await world.leave(idle)
        await world.scheduler.close(0)
        assert world.log == ["start a", "save a 0", "stop a"]
        assert world.effects.saves_s == [END_SAVE_S]


@pytest.mark.parametrize("tokens", [0, SAVE_FRESH_TOKENS])
async def test_a_slot_counts_the_requests_that_it_served(tokens: int) -> None:
    """Whoever saves it sees by that number whether it still holds the same."""
    async with opened() as world:
        slot = await answered(world, tokens)
        before = slot.turns
        await answered(world, tokens)
        assert slot.turns == before + 1

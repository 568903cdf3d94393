"""What is loaded when, who waits for it, and what is left afterwards: the task, driven event by event."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from llamero.config import Settings
from llamero.durations import FOREVER, MINUTE, SECOND
from llamero.engines import Endpoint, LoadPlan
from llamero.engines.llamacpp import arguments
from llamero.errors import Busy, EngineError, LoadFailed, OutOfMemory, RanOutOfMemory
from llamero.options import OPTIONS
from llamero.scheduler.plan import max_loaded
from llamero.scheduler.runner import Claim
from tests.scheduler.world import GIB, RAM_GIB, START_NS, Client, World, opened

BUSY = "server busy, please try again.  maximum pending requests exceeded"


def text(client: Client) -> str:
    return str(client.error)


# --- one engine for many requests ---


async def test_a_lease_tells_the_load_from_all_other_waiting() -> None:
    async with opened(hold_loads=True) as world:
        first = world.send("a", slots=1)
        await world.settle()
        second = world.send("a", slots=1)
        await world.settle()
        await asyncio.sleep(0.02)
        await world.finish_load()
        assert first.lease is not None
        assert first.lease.load_s >= 0.02
        assert first.lease.queued_s < first.lease.load_s
        await asyncio.sleep(0.02)
        await world.leave(first)
        assert second.lease is not None
        assert second.lease.load_s >= 0.02, "it saw the same load"
        assert second.lease.queued_s >= 0.02, "and then waited for the slot"
        await world.leave(second)
        third = await world.ask("a", slots=1)
        assert third.lease is not None
        assert third.lease.load_s == 0


async def test_r01_two_requests_share_one_engine() -> None:
    async with opened(hold_loads=True) as world:
        first, second = world.send("a", slots=2), world.send("a", slots=2)
        await world.settle()
        await world.finish_load()
        late = await world.ask("a", slots=2)
        assert first.engine is second.engine
        await world.leave(first)
        assert late.engine is second.engine
        assert world.log == ["start a"]


async def test_sampling_options_never_restart_an_engine() -> None:
    """Partly R-02: `format` is no option and never comes here."""
    other_values: dict[str, Any] = {"integer": 7, "float32": 0.25, "array": ["stop"], "string": 'root ::= "a"'}
    async with opened() as world:
        await world.leave(await world.ask("a"))
        for option in OPTIONS.values():
            if option.reach == "sampling":
                await world.leave(await world.ask("a", **{option.name: other_values[option.kind]}))
        assert world.log == ["start a"]


async def test_r03_another_explicit_context_gets_an_engine_of_its_own() -> None:
    async with opened() as world:
        before = await world.ask("a", num_ctx=2048)
        await world.leave(before)
        after = await world.ask("a", num_ctx=1024)
        assert world.log == ["start a", "stop a", "start a"]
        assert after.engine.wanted.plan.ctx_tokens == 1024
        assert after.engine.alive
        assert not before.engine.alive


async def test_r09_a_reload_waits_for_the_running_request() -> None:
    async with opened() as world:
        running = await world.ask("a", num_ctx=2048)
        other = await world.ask("a", num_ctx=1024)
        assert running.holds
        assert running.engine.alive
        assert other.waits
        await world.leave(running)
        assert other.engine.wanted.plan.ctx_tokens == 1024
        assert world.log == ["start a", "stop a", "start a"]


async def test_r24_two_slots_serve_two_requests_and_the_third_waits() -> None:
    slots = Settings.from_env({"HOME": "/home/u", "OLLAMA_NUM_PARALLEL": "2"}).num_parallel
    async with opened() as world:
        first, second, third = [await world.ask("a", slots=slots, num_ctx=1000) for _ in range(3)]
        assert first.holds
        assert second.holds
        assert third.waits
        flags = " ".join(arguments(first.engine.wanted.plan, Endpoint("secret", socket="/s")))
        assert "-c 2000 -np 2 " in flags
        await world.leave(second)
        assert third.engine is first.engine


async def test_waiters_for_a_slot_are_served_in_their_order() -> None:
    async with opened() as world:
        waiting = [await world.ask("a") for _ in range(5)]
        for index, client in enumerate(waiting):
            assert [each.holds for each in waiting[index:]] == [True] + [False] * (4 - index)
            await world.leave(client)


# --- one pool for all slots ---


async def test_requests_that_may_fill_their_windows_run_as_many_as_there_are_windows() -> None:
    """Partly R-73: with the real engine in tests/server/test_parallel.py."""
    async with opened(ram_bytes=64 * GIB) as world:
        clients = [await world.ask("a", slots=0, num_ctx=2048, token_bytes=128 * 2**10) for _ in range(4)]
        assert clients[0].engine.wanted.plan.pool_tokens == 2 * 2048
        assert [client.holds for client in clients] == [True, True, False, False]
        await world.leave(clients[0])
        assert [client.holds for client in clients[1:]] == [True, True, False]


async def test_short_requests_share_the_pool_as_long_as_there_are_slots() -> None:
    async with opened(ram_bytes=64 * GIB) as world:
        clients = [
            await world.ask("a", claim=Claim(tokens=100), slots=0, num_ctx=2048, token_bytes=128 * 2**10)
            for _ in range(5)
        ]
        assert [client.holds for client in clients] == [True, True, True, True, False]
        seats = {client.lease.seat.slot.index for client in clients if client.lease}
        assert len(seats) == 4


async def test_nobody_overtakes_a_request_that_needs_much_room() -> None:
    async with opened(ram_bytes=64 * GIB) as world:
        wishes: dict[str, Any] = {"slots": 0, "num_ctx": 2048, "token_bytes": 128 * 2**10}
        small = await world.ask("a", claim=Claim(tokens=100), **wishes)
        large = [await world.ask("a", **wishes) for _ in range(2)]
        late = await world.ask("a", claim=Claim(tokens=100), **wishes)
        assert [client.holds for client in (small, *large, late)] == [True, True, False, False]
        await world.leave(small)
        assert [client.holds for client in (*large, late)] == [True, True, False]


async def test_room_that_turns_out_not_to_be_needed_is_for_others() -> None:
    async with opened(ram_bytes=64 * GIB) as world:
        wishes: dict[str, Any] = {"slots": 0, "num_ctx": 2048, "token_bytes": 128 * 2**10}
        first, second, third = [await world.ask("a", **wishes) for _ in range(3)]
        assert third.waits
        assert second.lease is not None
        second.lease.settle(500)
        await world.settle()
        assert third.waits, "2048 + 500 + 2048 are more than two windows"
        assert first.lease is not None
        first.lease.settle(1500)
        await world.settle()
        assert third.holds


async def test_r74_batch_requests_wait_behind_interactive_ones_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Partly R-74: the order in a line is in test_line.py."""
    async with opened() as world:
        running = await world.ask("a")
        batch = await world.ask("a", claim=Claim(is_batch=True))
        people = [await world.ask("a") for _ in range(3)]
        await world.leave(running)
        assert people[0].holds
        now_s = time.monotonic()
        monkeypatch.setattr("llamero.scheduler.loop.time.monotonic", lambda: now_s + 31)
        await world.leave(people[0])
        assert batch.holds


@pytest.mark.parametrize(
    "wishes", [{"name": "b"}, {"name": "a", "num_ctx": 8192}], ids=["another model", "other settings"]
)
async def test_people_who_overlap_do_not_keep_a_model_for_ever(
    wishes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody waits for the room: for half a minute others go past him, then they stand behind him."""
    now_s = time.monotonic()
    monkeypatch.setattr("llamero.scheduler.loop.time.monotonic", lambda: now_s)
    async with opened(max_loaded=1) as world:
        using = await world.ask("a", slots=2, claim=Claim(party="first"))
        waiting = await world.ask(**wishes, slots=2, claim=Claim(party="second"))
        for _ in range(3):  # each comes before the one before him has gone
            now_s += 9
            using, before = await world.ask("a", slots=2, claim=Claim(party="new")), using
            assert using.holds
            await world.leave(before)
        assert waiting.waits
        now_s += 9
        late = await world.ask("a", slots=2, claim=Claim(party="newer"))
        assert late.waits
        await world.leave(using)
        assert waiting.holds
        await world.leave(waiting)
        assert late.holds


async def test_whoever_gives_up_leaves_the_way_to_those_behind_him(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr("llamero.scheduler.loop.time.monotonic", lambda: now_s)
    async with opened(max_loaded=1) as world:
        using = await world.ask("a", slots=2)
        waiting = await world.ask("b")
        now_s += 31
        late = await world.ask("a", slots=2)
        assert late.waits
        await world.hang_up(waiting)
        assert late.holds
        await world.leave(using, late)


async def test_a_busy_key_leaves_every_other_turn_to_another() -> None:
    async with opened() as world:
        running = await world.ask("a", claim=Claim(party="many"))
        many = [await world.ask("a", claim=Claim(party="many")) for _ in range(5)]
        few = await world.ask("a", claim=Claim(party="few"))
        await world.leave(running)
        assert few.holds
        more = await world.ask("a", claim=Claim(party="few"))
        await world.leave(few)
        assert many[0].holds
        await world.leave(many[0])
        assert more.holds


async def test_the_load_queue_takes_turns_too() -> None:
    async with opened(max_loaded=1, hold_loads=True) as world:
        loading = world.send("a")
        await world.settle()
        first, second = [await world.ask(name, claim=Claim(party="many")) for name in "bc"]
        other = await world.ask("d", claim=Claim(party="few"))
        order = [view.model for view in world.scheduler.snapshot().queue]
        assert order == ["b", "d", "c"]
        assert (first.waits, second.waits, other.waits, loading.waits) == (True, True, True, True)


# --- what other programs leave ---


async def test_an_idle_engine_is_loaded_again_with_a_thread_for_each_core_that_is_left() -> None:
    async with opened(cores=4) as world:
        running = await world.ask("a")
        assert running.engine.wanted.plan.threads == 0, "all of them"
        world.effects.busy_cores = (1.0, 1.0)
        beside = await world.ask("a", slots=2)
        assert beside.waits, "an engine in use stays as it is"
        await world.leave(running)
        assert beside.engine is running.engine
        await world.leave(beside)
        later = await world.ask("a")
        assert later.engine.wanted.plan.threads == 3
        await world.leave(later)
        world.effects.busy_cores = (0.0, 1.0)
        assert (await world.ask("a")).engine is later.engine, "it may come back"
        assert world.log == ["start a", "stop a", "start a"]


async def test_an_engine_that_was_slow_to_load_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamero.scheduler.runner.QUICK_LOAD_S", 0.01)
    async with opened(cores=4, hold_loads=True) as world:
        first = world.send("a")
        await world.settle()
        await asyncio.sleep(0.02)
        await world.finish_load()
        await world.leave(first)
        world.effects.busy_cores = (2.0, 2.0)
        assert (await world.ask("a")).engine is first.engine


async def test_it_is_told_how_many_engines_have_something_to_do() -> None:
    async with opened() as world:
        first = await world.ask("a")
        second = await world.ask("b")
        await world.leave(first)
        await world.leave(second)
        assert world.effects.at_work == [1, 2, 1, 0]


# --- engines that die ---


async def test_r08_a_dead_engine_is_replaced_by_the_next_request() -> None:
    async with opened() as world:
        before = await world.ask("a")
        await world.leave(before)
        before.engine.die()
        after = await world.ask("a")
        assert after.engine.alive
        assert world.log == ["start a", "stop a", "start a"]


async def test_a_dead_engine_is_replaced_although_nobody_noticed_its_death() -> None:
    """Partly R-08: the request comes between the process's end and the notice of it."""
    async with opened() as world:
        before = await world.ask("a")
        await world.leave(before)
        before.engine.die(unnoticed=True)
        assert world.loaded == []
        after = await world.ask("a")
        assert after.engine.alive
        assert world.log == ["start a", "stop a", "start a"]


async def test_an_unnoticed_death_is_noticed_when_the_running_request_ends() -> None:
    async with opened() as world:
        running, waiting = await world.ask("a"), await world.ask("a")
        running.engine.die(unnoticed=True)
        await world.leave(running)
        assert waiting.engine.alive
        assert waiting.engine is not running.engine


async def test_those_who_wait_for_a_slot_of_a_dying_engine_get_a_fresh_one_before_all_others() -> None:
    async with opened(max_loaded=1) as world:
        running, second, third, other = [await world.ask(name) for name in "aaab"]
        running.engine.die()
        await world.settle()
        assert second.engine.alive
        assert third.waits
        await world.leave(second)
        assert third.engine is second.engine
        await world.leave(third)
        assert other.holds


async def test_a_lease_of_a_dead_engine_does_not_disturb_its_successor() -> None:
    async with opened() as world:
        old = await world.ask("a")
        old.engine.die()
        new = await world.ask("a")
        waiting = await world.ask("a")
        await world.leave(old)
        assert new.holds
        assert waiting.waits
        assert new.lease is not None
        assert new.lease.runner.refs == 1
        await world.pass_time(3600)
        assert new.engine.alive


# --- keep-alive ---


async def test_r10_an_idle_engine_stops_keep_alive_after_the_last_release() -> None:
    async with opened(keep_alive_ns=5 * MINUTE) as world:
        first = await world.ask("a", slots=2)
        await world.pass_time(200)
        second = await world.ask("a", slots=2)
        await world.leave(first)
        await world.pass_time(200)
        await world.leave(second)
        await world.pass_time(299)
        assert world.effects.running == ["a"]
        await world.pass_time(1)
        assert world.effects.running == []
        assert world.loaded == []


async def test_r11_a_new_request_stops_the_clock_and_its_release_starts_it_again() -> None:
    async with opened(keep_alive_ns=5 * MINUTE) as world:
        await world.leave(await world.ask("a"))
        assert len(world.effects.timers) == 1
        await world.pass_time(299)
        client = await world.ask("a")
        assert world.effects.timers == []
        await world.pass_time(3600)
        await world.leave(client)
        assert [timer.due_ns for timer in world.effects.timers] == [world.effects.now + 5 * MINUTE]
        await world.pass_time(299)
        assert world.effects.running == ["a"]


async def test_r12_a_later_keep_alive_counts_from_now_on_and_none_keeps_the_old_one() -> None:
    async with opened(keep_alive_ns=5 * MINUTE) as world:
        await world.leave(await world.ask("a", keep_alive_ns=10 * SECOND))
        await world.leave(await world.ask("a", keep_alive_ns=60 * SECOND))
        await world.leave(await world.ask("a"))
        await world.pass_time(59)
        assert world.effects.running == ["a"]
        await world.pass_time(1)
        assert world.effects.running == []


async def test_keep_alive_zero_lets_the_request_finish_and_then_stops() -> None:
    """Partly R-14: that the answer is complete shows where answers are made."""
    async with opened() as world:
        client = await world.ask("a", keep_alive_ns=0)
        await world.pass_time(3600)
        assert client.engine.alive
        await world.leave(client)
        assert world.log == ["start a", "stop a"]
        assert world.loaded == []


async def test_keep_alive_of_somebody_who_left_does_not_count() -> None:
    async with opened(hold_loads=True) as world:
        first = await world.ask("a", keep_alive_ns=0)
        second = await world.ask("a")
        await world.hang_up(first)
        await world.finish_load()
        await world.leave(second)
        assert world.effects.running == ["a"]


async def test_a_preload_keeps_the_model_and_lists_it() -> None:
    """Partly R-17: `done_reason` belongs to the reply."""
    async with opened(keep_alive_ns=5 * MINUTE) as world:
        await world.leave(await world.ask("a"))
        (view,) = world.scheduler.snapshot().loaded
        assert view.model == "a"
        assert view.expires_at_ns == START_NS + 5 * MINUTE
        assert view.memory.total_bytes >= GIB


async def test_r18_for_ever_means_more_than_a_century() -> None:
    keep_alive_ns = Settings.from_env({"HOME": "/home/u", "OLLAMA_KEEP_ALIVE": "-1"}).keep_alive_ns
    century_ns = 100 * 366 * 86_400 * SECOND
    async with opened(keep_alive_ns=keep_alive_ns) as world:
        client = await world.ask("a")
        assert world.scheduler.snapshot().loaded[0].expires_at_ns > START_NS + century_ns
        await world.leave(client)
        assert world.scheduler.snapshot().loaded[0].expires_at_ns > START_NS + century_ns
        assert world.effects.timers == []


@pytest.mark.parametrize("request_first", [True, False])
async def test_an_expiry_that_meets_a_request_never_stops_a_busy_engine(request_first: bool) -> None:
    async with opened(keep_alive_ns=5 * MINUTE) as world:
        await world.leave(await world.ask("a"))
        if request_first:
            client = world.send("a")
            await asyncio.sleep(0)  # its wish is out, not yet heard
            world.effects.pass_time(300)
        else:
            world.effects.pass_time(300)
            client = world.send("a")
        await world.settle()
        assert client.holds
        assert client.engine.alive
        assert world.log == ["start a"] if request_first else ["start a", "stop a", "start a"]


async def test_what_is_loaded_is_listed_by_expiry_the_latest_first() -> None:
    async with opened() as world:
        await world.leave(await world.ask("short", keep_alive_ns=MINUTE))
        await world.leave(await world.ask("long", keep_alive_ns=9 * MINUTE))
        await world.leave(await world.ask("middle", keep_alive_ns=5 * MINUTE))
        assert world.loaded == ["long", "middle", "short"]


# --- unload ---


async def test_unloading_what_is_not_loaded_changes_nothing() -> None:
    """Partly R-15: the reply is the server's."""
    async with opened() as world:
        await world.leave(await world.ask("b"))
        await world.unload("a")
        assert world.log == ["start b"]
        await world.unload("b")
        assert world.effects.running == []


async def test_r16_an_unload_does_not_cut_a_running_request() -> None:
    async with opened() as world:
        client = await world.ask("a")
        await world.unload("a")
        assert client.engine.alive
        await world.pass_time(3600)
        assert client.engine.alive
        assert world.scheduler.snapshot().loaded[0].expires_at_ns == START_NS, "it shows as stopping"
        await world.leave(client)
        assert world.log == ["start a", "stop a"]


@pytest.mark.parametrize(("keep_alive_ns", "stays"), [(None, False), (MINUTE, True), (0, False)])
async def test_a_request_after_an_unload_is_served_and_keeps_the_engine_only_by_its_own_keep_alive(
    keep_alive_ns: int | None, stays: bool
) -> None:
    async with opened() as world:
        running = await world.ask("a", slots=2)
        await world.unload("a")
        late = await world.ask("a", slots=2, keep_alive_ns=keep_alive_ns)
        assert late.engine is running.engine
        await world.leave(running, late)
        assert world.effects.running == (["a"] if stays else [])


async def test_an_unload_during_the_load_serves_those_who_wait_and_then_stops() -> None:
    """The unload came after their wishes, so that their keep-alive does not outlive it."""
    async with opened(hold_loads=True) as world:
        first, second = await world.ask("a", keep_alive_ns=60 * MINUTE), await world.ask("a", keep_alive_ns=FOREVER)
        await world.unload("a")
        await world.finish_load()
        assert first.holds
        await world.leave(first)
        assert second.holds
        await world.leave(second)
        assert world.log == ["start a", "stop a"]


# --- the queue ---


async def test_r19_requests_beyond_the_queue_are_refused_at_once() -> None:
    async with opened(max_queue=3, hold_loads=True) as world:
        blocked = await world.ask("a")
        behind = [await world.ask(name) for name in "bcdef"]
        refused = [client for client in behind if client.error is not None]
        assert refused == behind[3:]
        for client in refused:
            assert isinstance(client.error, Busy)
            assert (text(client), client.error.status) == (BUSY, 503)
            assert int(client.error.headers["Retry-After"]) >= 1
        world.effects.let_go()
        await world.settle()
        for client in (blocked, *behind[:3]):
            assert client.holds
            await world.leave(client)


async def test_the_queue_also_bounds_those_who_join_a_load() -> None:
    async with opened(max_queue=2, hold_loads=True) as world:
        clients = [await world.ask("a", slots=8) for _ in range(4)]
        assert [text(client) for client in clients if client.error] == [BUSY]
        await world.finish_load()
        assert all(client.holds for client in clients[:3])


async def test_a_queue_of_none_still_serves_one() -> None:
    async with opened(max_queue=0, hold_loads=True) as world:
        first, second = await world.ask("a"), await world.ask("b")
        assert text(second) == BUSY
        await world.finish_load()
        assert first.holds
        third = await world.ask("b")
        await world.finish_load()
        assert third.holds


async def test_waiters_for_a_slot_are_bounded_apart_from_the_queue() -> None:
    async with opened(max_queue=0, max_waiting=2) as world:
        running = await world.ask("a")
        waiting = [await world.ask("a") for _ in range(3)]
        assert [client.waits for client in waiting] == [True, True, False]
        assert text(waiting[2]) == BUSY
        await world.hang_up(waiting[0])
        assert (await world.ask("a")).waits
        await world.leave(running)
        assert waiting[1].holds


async def test_waiters_for_a_slot_are_shown_each_with_its_place_in_its_line() -> None:
    async with opened() as world:
        running = [await world.ask(name) for name in "ab"]
        waiting = [await world.ask(name) for name in "aba"]
        queue = world.scheduler.snapshot().queue
        assert sorted((view.model, view.position) for view in queue) == [("a", 1), ("a", 2), ("b", 1)]
        await world.leave(running[0])
        assert waiting[0].holds
        assert sorted((view.model, view.position) for view in world.scheduler.snapshot().queue) == [("a", 1), ("b", 1)]


async def test_waiters_for_a_load_are_bounded_by_the_slots_to_come() -> None:
    async with opened(max_waiting=1, hold_loads=True) as world:
        clients = [await world.ask("a", slots=2) for _ in range(4)]
        assert [text(client) for client in clients if client.error] == [BUSY]
        await world.finish_load()
        assert [client.holds for client in clients] == [True, True, False, False]


async def test_r20_load_requests_are_served_in_arrival_order() -> None:
    """One model at a time, so that whoever was overtaken would be seen to wait."""
    names = [("a", 1024), ("b", 1024), ("c", 1024), ("b", 1024), ("b", 2048), ("b", 2048), ("a", 512), ("b", 1024)]
    served: list[int] = []
    async with opened(max_loaded=1, hold_loads=True) as world:
        clients = [await world.ask(name, num_ctx=ctx) for name, ctx in names]
        world.effects.hold_loads = False
        await world.finish_load()
        while len(served) < len(clients):
            (turn,) = [index for index, client in enumerate(clients) if client.holds]
            served.append(turn)
            await world.leave(clients[turn])
        assert served == list(range(len(clients)))
        assert world.log.count("start b") == 4


async def test_while_one_model_loads_others_queue_and_loaded_ones_serve() -> None:
    async with opened() as world:
        loaded = await world.ask("loaded")
        await world.leave(loaded)
        world.effects.hold_loads = True
        big, small = await world.ask("big"), await world.ask("small")
        assert world.log == ["start loaded", "start big"]
        assert small.waits
        assert (await world.ask("loaded")).holds
        snapshot = world.scheduler.snapshot()
        assert [view.model for view in snapshot.loading] == ["big"]
        assert [(view.position, view.model) for view in snapshot.queue] == [(1, "small")]
        await world.finish_load()
        assert big.holds
        assert world.log[-1] == "start small"


async def test_the_progress_of_a_load_is_shown() -> None:
    async with opened(hold_loads=True) as world:
        await world.ask("a")
        assert world.effects.progress is not None
        world.effects.progress(0.25)
        assert [view.progress for view in world.scheduler.snapshot().loading] == [0.25]
        await world.finish_load()
        assert world.scheduler.snapshot().loading == ()


# --- clients that leave ---


async def test_r21_a_cancelled_queued_request_never_starts_an_engine() -> None:
    async with opened(hold_loads=True, max_queue=1) as world:
        await world.ask("a")
        queued = await world.ask("b")
        await world.hang_up(queued)
        assert queued.task.cancelled()
        assert world.scheduler.snapshot().queue == ()
        next_one = await world.ask("c")
        assert next_one.waits, "its place is free again"
        await world.finish_load()
        await world.finish_load()
        assert next_one.holds
        assert "start b" not in world.log


@pytest.mark.parametrize("turns", range(3))
async def test_a_request_that_leaves_as_its_turn_comes_evicts_nobody(turns: int) -> None:
    """Partly R-21: the loader comes to it before the word that its client has gone."""
    async with opened(max_loaded=2) as world:
        await world.leave(await world.ask("idle"))
        world.effects.hold_loads = True
        await world.ask("loading")
        queued = await world.ask("queued")
        assert world.effects.load is not None
        world.effects.load.set_result(None)
        for _ in range(turns):
            await asyncio.sleep(0)
        await world.hang_up(queued)
        assert world.log == ["start idle", "start loading"]


async def test_when_the_first_of_the_queue_leaves_the_next_is_looked_at() -> None:
    async with opened(vram_bytes=20 * GIB) as world:
        await world.ask("busy", size_gib=8)
        large, small = await world.ask("large", size_gib=18), await world.ask("small", size_gib=1)
        assert small.waits
        await world.hang_up(large)
        assert small.holds


async def test_r22_the_only_waiter_of_a_load_takes_it_along() -> None:
    async with opened(hold_loads=True) as world:
        client = await world.ask("a")
        await world.hang_up(client)
        assert world.log == ["start a", "abort a"]
        world.check_nothing_left()
        again = await world.ask("a")
        await world.finish_load()
        assert again.holds


async def test_r22_with_a_second_waiter_the_load_goes_on() -> None:
    async with opened(hold_loads=True) as world:
        first, second = await world.ask("a"), await world.ask("a")
        await world.hang_up(first)
        await world.finish_load()
        assert second.holds
        assert world.log == ["start a"]


async def test_those_who_queue_behind_one_another_for_a_model_share_its_load() -> None:
    """Partly R-22: the second waiter was there before the load began."""
    async with opened(hold_loads=True) as world:
        await world.ask("a")
        first, second = await world.ask("b"), await world.ask("b")
        await world.finish_load()
        await world.hang_up(first)
        await world.finish_load()
        assert second.holds
        assert world.log == ["start a", "start b"]


async def test_a_request_during_the_end_of_an_aborted_load_gets_a_fresh_one() -> None:
    """The dying load must not take the newcomer along: ending an engine takes a while."""
    async with opened(hold_loads=True, hold_aborts=True) as world:
        await world.hang_up(await world.ask("a"))
        late = await world.ask("a")
        assert late.waits
        assert world.log == ["start a"]
        assert world.effects.abort is not None
        world.effects.abort.set_result(None)
        await world.settle()
        await world.finish_load()
        assert late.holds
        assert world.log == ["start a", "abort a", "start a"]


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_may_leave_at_any_moment_of_a_load(turns: int) -> None:
    """Among these is the moment between a load's task being made and its first step, where no code of it runs."""
    async with opened(keep_alive_ns=0) as world:
        client = world.send("a")
        for _ in range(turns):
            await asyncio.sleep(0)
        await world.hang_up(client)
        world.check_nothing_left()
        assert (await world.ask("a")).holds


async def test_an_engine_that_comes_up_although_it_was_cancelled_is_stopped() -> None:
    async with opened(hold_loads=True, swallow_cancel=True) as world:
        await world.hang_up(await world.ask("a"))
        assert world.log == ["start a", "stop a"]
        world.check_nothing_left()


async def test_a_client_that_leaves_as_it_is_granted_leaks_no_slot() -> None:
    async with opened() as world:
        running, waiting, last = await world.ask("a"), await world.ask("a"), await world.ask("a")
        assert running.lease is not None
        ticket = next(iter(running.lease.runner.waiting))
        running.leave()
        while ticket.lease is None:  # noqa: ASYNC110  # the very turn of the loop matters
            await asyncio.sleep(0)
        waiting.hang_up()  # granted, and not yet awake to hear of it
        await world.settle()
        assert waiting.task.cancelled()
        assert last.holds
        assert last.lease is not None
        assert last.lease.runner.refs == 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_waiter_that_leaves_around_its_turn_passes_it_on(turns: int) -> None:
    async with opened() as world:
        running, leaver, last = await world.ask("a"), await world.ask("a"), await world.ask("a")
        running.leave()
        for _ in range(turns):
            await asyncio.sleep(0)
        leaver.hang_up()
        await world.settle()
        assert last.holds
        await world.leave(last)
        assert len(world.effects.timers) == 1, "idle again, the clock runs"
        assert last.lease is not None
        assert last.lease.runner.refs == 0


async def test_r69_two_hundred_start_and_cancel_cycles_leave_nothing() -> None:
    dice = random.Random(69)

    async def turns(most: int) -> None:
        for _ in range(dice.randrange(most)):
            await asyncio.sleep(0)

    async def cycle(world: World) -> None:
        await turns(3000)
        client = world.send(dice.choice("ab"), slots=2, num_ctx=dice.choice([512, 1024]))
        await turns(60)
        client.hang_up()
        await asyncio.gather(client.task, return_exceptions=True)

    async with opened(max_loaded=1, load_turns=10) as world:
        await asyncio.gather(*(cycle(world) for _ in range(200)))
        await world.settle()
        cut_short = [client for client in world.clients if client.lease is None]
        assert world.log.count("abort a") > 5
        assert world.log.count("stop a") > 5
        assert 20 < len(cut_short) < 180
        await world.pass_time(300)
        world.check_nothing_left()
        runners = {client.lease.runner for client in world.clients if client.lease is not None}
        assert all(runner.refs == 0 and not runner.waiting for runner in runners)


# --- loads that fail ---


async def test_a_failed_load_refuses_all_who_wait_for_it_and_the_next_request_loads_afresh() -> None:
    async with opened(hold_loads=True) as world:
        clients = [await world.ask("a") for _ in range(3)]
        broken = LoadFailed("llama-server process has terminated: exit status 1")
        await world.fail_load(broken)
        assert [client.error for client in clients] == [broken] * 3
        again = await world.ask("a")
        await world.finish_load()
        assert again.holds
        assert world.log == ["start a", "start a"]


async def test_r48_a_failed_load_leaves_other_engines_alone() -> None:
    async with opened() as world:
        running, idle = await world.ask("running"), await world.ask("idle")
        await world.leave(idle)
        world.effects.hold_loads = True
        client = await world.ask("a")
        await world.fail_load(LoadFailed("broken"))
        assert text(client) == "broken"
        assert running.holds
        assert world.loaded == ["running", "idle"]
        assert world.log == ["start running", "start idle", "start a"]


OOM = OutOfMemory("the model does not fit into memory: cudaMalloc failed")


def planned(world: World) -> LoadPlan:
    """What is being loaded."""
    assert world.effects.loading is not None
    return world.effects.loading.plan


async def test_r46_an_automatic_context_that_does_not_fit_is_tried_once_with_less() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True) as world:
        client = await world.ask("a")
        assert planned(world).ctx_tokens == 262_144
        await world.fail_load(OOM)
        assert client.waits
        assert (planned(world).ctx_tokens, planned(world).batch_tokens) == (32_768, 1024)
        await world.fail_load(OOM)
        assert text(client) == str(OOM)
        assert world.log == ["start a", "start a"]
        assert world.loaded == []


async def test_r46_before_that_every_other_engine_goes() -> None:
    async with opened(vram_bytes=64 * GIB) as world:
        busy, idle = await world.ask("busy"), await world.ask("idle")
        await world.leave(idle)
        world.effects.hold_loads = True
        client = await world.ask("a")
        await world.fail_load(OOM)
        assert world.log[2:] == ["start a", "stop idle"], "busy is awaited, not cut off"
        assert busy.holds
        await world.leave(busy)
        assert world.log[4:] == ["stop busy", "start a"]
        assert planned(world).ctx_tokens == 32_768
        await world.finish_load()
        assert client.holds


async def test_r46_the_smallest_context_is_not_reduced() -> None:
    async with opened(hold_loads=True) as world:
        client = await world.ask("a")
        await world.fail_load(OOM)
        assert text(client) == str(OOM)
        assert world.log == ["start a"]


async def test_r47_an_explicit_context_is_tried_once_more_without_the_others() -> None:
    async with opened(vram_bytes=64 * GIB) as world:
        for name in ("b", "c"):
            await world.leave(await world.ask(name))
        world.effects.hold_loads = True
        client = await world.ask("a", num_ctx=8192)
        await world.fail_load(OOM)
        assert world.log[2:] == ["start a", "stop b", "stop c", "start a"]
        assert planned(world).ctx_tokens == 8192
        await world.fail_load(OOM)
        assert text(client) == str(OOM)
        assert world.log[-1] == "start a"


async def test_r47_alone_an_explicit_context_is_not_tried_again() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True) as world:
        client = await world.ask("a", num_ctx=8192)
        await world.fail_load(OOM)
        assert text(client) == str(OOM)


async def test_those_who_wait_for_the_same_load_share_the_second_one() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True) as world:
        clients = [await world.ask("a"), await world.ask("a"), await world.ask("b")]
        await world.fail_load(OOM)
        assert planned(world).ctx_tokens == 32_768
        await world.hang_up(clients[0])
        await world.finish_load()
        assert clients[1].holds
        assert world.log[:2] == ["start a", "start a"]


async def test_a_load_that_nobody_waits_for_is_not_tried_again() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True, hold_aborts=True) as world:
        client = await world.ask("a")
        await world.hang_up(client)
        world.effects.let_go()
        await world.settle()
        assert world.log == ["start a", "abort a"]


async def test_r49_a_projector_that_does_not_fit_goes_to_the_cpu() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True) as world:
        other = await world.ask("other")
        await world.finish_load()
        client = await world.ask("a", sees=True, num_ctx=8192)
        assert planned(world).placement.projector_on_gpu
        await world.fail_load(OOM)
        assert not planned(world).placement.projector_on_gpu
        assert "--no-mmproj-offload" in arguments(planned(world), Endpoint("secret", socket="/s"))
        await world.finish_load()
        assert client.holds
        assert other.holds
        assert world.log == ["start other", "start a", "start a"]


async def test_r49_once() -> None:
    async with opened(vram_bytes=64 * GIB, hold_loads=True) as world:
        client = await world.ask("a", sees=True, num_ctx=8192)
        await world.fail_load(OOM)
        await world.fail_load(OOM)
        assert text(client) == str(OOM)
        assert world.log == ["start a", "start a"]


async def test_r52_want_of_memory_in_an_answer_ends_every_engine_as_soon_as_it_is_idle() -> None:
    async with opened() as world:
        unlucky, busy, idle = await world.ask("a"), await world.ask("b"), await world.ask("c")
        await world.leave(idle)
        unlucky.break_off(RanOutOfMemory("cudaMalloc failed"))
        await world.settle()
        assert text(unlucky) == "cudaMalloc failed"
        assert sorted(world.log[3:]) == ["stop a", "stop c"]
        assert busy.holds
        await world.leave(busy)
        assert world.log[-1] == "stop b"


async def test_other_errors_of_an_answer_leave_engines_alone() -> None:
    async with opened() as world:
        client = await world.ask("a")
        client.break_off(EngineError("invalid grammar"))
        await world.settle()
        assert world.log == ["start a"]


async def test_r71_the_log_tells_how_an_engine_ended(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as world:
        for deaths in (1, 2):
            client = await world.ask("a")
            engine = client.engine
            engine.last_error = "earlier trouble\nCUDA error: an illegal memory access"
            engine.die()
            await world.settle()
            told = (
                f"engine died model=a pid={engine.pid} deaths={deaths}: signal: killed: CUDA error: an illegal memory"
            )
            assert caplog.messages[-1].startswith(told)
            assert "earlier" not in caplog.text


# --- measuring before a load ---


async def test_what_is_free_is_measured_before_each_load_and_after_each_stop() -> None:
    async with opened(max_loaded=1, measures=True) as world:
        await world.leave(await world.ask("a"))
        await world.leave(await world.ask("b"))
        await world.leave(await world.ask("b"))
        assert world.log == ["measure", "start a", "stop a", "measure", "start b"]


async def test_nothing_is_loaded_while_measuring() -> None:
    async with opened(measures=True) as world:
        world.effects.hold_measuring = asyncio.Event()
        first, second = await world.ask("a"), await world.ask("b")
        assert world.log == ["measure"]
        await world.hang_up(first)
        world.effects.hold_measuring.set()
        await world.settle()
        assert second.holds
        assert world.log == ["measure", "start b"]


async def test_a_load_that_fails_in_an_unforeseen_way_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(hold_loads=True) as world:
        client = await world.ask("a")
        await world.fail_load(ZeroDivisionError("division by zero"))
        assert client.error is not None
        assert (client.error.status, text(client)) == (500, "loading failed: division by zero")
        assert caplog.records[0].exc_info is not None, "with a traceback in the log"


# --- room for others ---


async def test_r26_with_room_for_one_the_idle_engine_stops_before_the_next_is_started() -> None:
    async with opened(max_loaded=1, hold_stops=True) as world:
        await world.leave(await world.ask("a"))
        client = await world.ask("b")
        assert world.log == ["start a", "stop a"]
        assert world.effects.running == ["stopped a"]
        world.effects.let_go()
        await world.settle()
        assert world.log == ["start a", "stop a", "start b"]
        assert client.holds


async def test_the_loader_waits_until_an_engine_has_ended_although_there_is_room() -> None:
    """Its memory is not back before."""
    async with opened(hold_stops=True) as world:
        await world.leave(await world.ask("a", keep_alive_ns=0))
        client = await world.ask("b")
        assert world.log == ["start a", "stop a"]
        world.effects.let_go()
        await world.settle()
        assert client.holds


@pytest.mark.parametrize(("gpus", "most"), [(0, 3), (1, 3), (2, 6)])
async def test_r27_the_automatic_maximum_is_three_for_each_gpu(gpus: int, most: int) -> None:
    async with opened(max_loaded=max_loaded(0, gpus)) as world:
        for index in range(most + 2):
            await world.leave(await world.ask(f"m{index}"))
            assert len(world.effects.running) == min(index + 1, most)


async def test_r28_the_idle_engine_with_the_shortest_keep_alive_goes_first() -> None:
    async with opened(max_loaded=4) as world:
        busy = await world.ask("busy", keep_alive_ns=0)
        await world.leave(await world.ask("z-for-ever", keep_alive_ns=FOREVER))
        await world.leave(await world.ask("y-short", keep_alive_ns=MINUTE))
        await world.leave(await world.ask("x-short", keep_alive_ns=MINUTE))
        for index in range(3):
            await world.ask(f"new{index}", keep_alive_ns=0)
        assert [line for line in world.log if line.startswith("stop")] == [
            "stop x-short",
            "stop y-short",
            "stop z-for-ever",
        ]
        assert busy.holds


async def test_r29_when_all_are_busy_the_shortest_keep_alive_is_awaited() -> None:
    async with opened(max_loaded=2) as world:
        short, long = await world.ask("short", keep_alive_ns=MINUTE), await world.ask("long", keep_alive_ns=9 * MINUTE)
        third = await world.ask("third")
        await world.pass_time(3600)
        assert short.engine.alive
        await world.leave(long)
        assert world.loaded == ["long", "short"], "it was not chosen, and being idle now does not change that"
        await world.leave(short)
        assert third.holds
        assert world.log == ["start short", "start long", "stop short", "start third"]


async def test_a_chosen_engine_that_a_keep_alive_revives_is_chosen_anew() -> None:
    async with opened(max_loaded=2) as world:
        short = await world.ask("short", slots=2, keep_alive_ns=MINUTE)
        long = await world.ask("long", keep_alive_ns=9 * MINUTE)
        third = await world.ask("third")
        reviver = await world.ask("short", slots=2, keep_alive_ns=FOREVER)
        await world.leave(long)
        assert third.holds
        assert world.effects.running == ["short", "third"]
        assert short.holds
        assert reviver.holds


@pytest.mark.parametrize(
    ("second_gib", "log"),
    [(9.6, ["start a", "start b"]), (9.7, ["start a", "stop a", "start b"])],
)
async def test_r30_a_further_model_takes_at_most_four_fifths_of_the_free_gpu_memory(
    second_gib: float, log: list[str]
) -> None:
    async with opened(vram_bytes=20 * GIB) as world:
        await world.leave(await world.ask("a", size_gib=8))
        assert (await world.ask("b", size_gib=second_gib)).holds
        assert world.log == log


@pytest.mark.parametrize(("num_gpu", "evicts"), [(-1, True), (99, True), (33, True), (32, False), (1, False)])
async def test_r31_an_explicit_partial_offload_skips_the_fit_test(num_gpu: int, evicts: bool) -> None:
    """Of 32 layers and the output: 33 are all, and so is any greater number."""
    async with opened(vram_bytes=20 * GIB) as world:
        await world.leave(await world.ask("a", size_gib=8))
        assert (await world.ask("b", size_gib=18, layers=32, num_gpu=num_gpu)).holds
        assert ("stop a" in world.log) is evicts


@pytest.mark.parametrize(
    ("vram_gib", "options", "fits"),
    [(20, {}, True), (20, {"num_gpu": 0}, False), (0, {}, False)],
    ids=["gpu", "cpu on a machine with gpu", "cpu"],
)
async def test_r32_the_first_model_is_measured_against_main_memory_only(
    vram_gib: int, options: dict[str, Any], fits: bool
) -> None:
    async with opened(vram_bytes=vram_gib * GIB) as world:
        client = await world.ask("a", size_gib=RAM_GIB + 1, **options)
        assert client.holds is fits
        if not fits:
            assert isinstance(client.error, OutOfMemory)
            assert client.error.status == 500
            assert text(client) == "model requires more system memory (65.0 GiB) than is available (64.0 GiB)"
            assert world.log == []
        else:
            assert world.log == ["start a"]


async def test_memory_is_made_before_a_model_is_refused_for_want_of_it() -> None:
    async with opened() as world:
        await world.leave(await world.ask("a", size_gib=20), await world.ask("b", size_gib=20))
        assert (await world.ask("c", size_gib=40)).holds
        assert world.log == ["start a", "start b", "stop a", "start c"]


# --- the end ---


async def test_closing_refuses_those_who_wait_and_gives_those_who_run_their_time() -> None:
    async with opened() as world:
        running = await world.ask("a")
        slot_waiter, queued = await world.ask("a"), await world.ask("a", num_ctx=512)
        closing = asyncio.create_task(world.scheduler.close(60))
        await world.settle()
        for client in (slot_waiter, queued, await world.ask("b")):
            assert isinstance(client.error, Busy)
            assert (client.error.status, text(client)) == (503, "the server is stopping")
        assert running.engine.alive
        assert not closing.done()
        await world.leave(running)
        assert closing.done()
        assert world.log == ["start a", "stop a"]
        assert isinstance((await world.ask("a")).error, Busy), "also when all is over"


async def test_closing_ends_engines_that_are_still_busy_when_the_time_is_up() -> None:
    async with opened(hold_stops=True) as world:
        running = await world.ask("a")
        closing = asyncio.create_task(world.scheduler.close(0))
        await world.settle()
        assert world.log == ["start a", "stop a"]
        assert not closing.done(), "the engine is not gone yet"
        world.effects.let_go()
        await world.settle()
        assert closing.done()
        assert not running.engine.alive


@pytest.mark.parametrize("timeout_s", [0, 60])
async def test_closing_ends_a_load_once_and_waits_for_it(timeout_s: float) -> None:
    async with opened(hold_loads=True, hold_aborts=True) as world:
        client, queued = await world.ask("a"), await world.ask("b")
        closing = asyncio.create_task(world.scheduler.close(timeout_s))
        await world.settle()
        assert isinstance(client.error, Busy)
        assert isinstance(queued.error, Busy)
        assert not closing.done()
        world.effects.let_go()
        await world.settle()
        assert closing.done()
        assert world.log == ["start a", "abort a"]


async def test_closing_right_behind_a_request_starts_nothing() -> None:
    async with opened() as world:
        client = world.send("a")
        await asyncio.sleep(0)  # its wish is out, not yet heard
        await world.scheduler.close(0)
        await world.settle()
        assert isinstance(client.error, Busy)
        assert world.effects.running == []


async def test_an_engine_that_cannot_be_stopped_does_not_stop_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(max_loaded=1) as world:
        await world.leave(await world.ask("a"))

        async def fail(engine: Any, *saving: Any) -> None:
            engine.die()
            raise OSError("no such process")

        with monkeypatch.context() as patch:
            patch.setattr(world.effects, "stop", fail)
            client = await world.ask("b")
        assert client.holds
        assert "stopping an engine failed" in caplog.text


# --- everything at once ---


class Chaos:
    """Random steps in random interleavings, each followed by a look at what must always hold."""

    MAX_LOADED = 2

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.runners: set[Any] = set()

    async def step(self) -> None:
        acts = [self.ask] * 6 + [self.leave] * 4 + [self.hang_up] * 3 + [self.end_load] * 3
        acts += [self.end_stop] * 3 + [self.pass_time, self.die, self.unload, self.hold]
        self.dice.choice(acts)()
        for _ in range(self.dice.choice([0, 0, 1, 2, 3, 12])):
            await asyncio.sleep(0)
        self.check()

    def ask(self) -> None:
        self.world.send(
            self.dice.choice("abc"),
            slots=2,
            num_ctx=self.dice.choice([512, 512, 1024]),
            keep_alive_ns=self.dice.choice([None, None, 0, SECOND, FOREVER]),
        )

    def leave(self) -> None:
        if holders := [client for client in self.world.clients if client.holds]:
            self.dice.choice(holders).leave()

    def hang_up(self) -> None:
        if present := [client for client in self.world.clients if not client.task.done()]:
            self.dice.choice(present).hang_up()

    def end_load(self) -> None:
        if (load := self.world.effects.load) is not None and not load.done():
            if self.dice.random() < 0.7:
                load.set_result(None)
            else:
                self.world.effects.fail_load(LoadFailed("broken"))

    def end_stop(self) -> None:
        held = [future for future in (*self.world.effects.stops, self.world.effects.abort) if future is not None]
        if held := [future for future in held if not future.done()]:
            self.dice.choice(held).set_result(None)

    def pass_time(self) -> None:
        self.world.effects.pass_time(self.dice.choice([0.5, 1, 300]))

    def die(self) -> None:
        if alive := [engine for engine in self.world.effects.engines if engine.alive]:
            self.dice.choice(alive).die(unnoticed=self.dice.random() < 0.3)

    def unload(self) -> None:
        self.world.scheduler.unload(self.dice.choice("abc"))

    def hold(self) -> None:
        effects = self.world.effects
        effects.hold_loads, effects.hold_stops, effects.hold_aborts = (self.dice.random() < 0.5 for _ in range(3))

    def check(self) -> None:
        effects = self.world.effects  # that no two engines are started at once, it checks itself
        assert len(effects.running) + (effects.loading is not None) <= self.MAX_LOADED
        assert len(self.world.loaded) <= self.MAX_LOADED
        self.runners |= {client.lease.runner for client in self.world.clients if client.lease is not None}
        for runner in self.runners:
            assert 0 <= runner.refs <= runner.wanted.plan.slots
        for client in self.world.clients:
            if client.holds and client.engine.alive:
                assert not client.engine.name.startswith("stopped"), "no engine is stopped under a running request"

    async def wind_down(self) -> None:
        """Nobody comes any more and nothing is held: whoever still waits must get an answer."""
        self.world.effects.let_go()
        for _ in range(len(self.world.clients) + 10):
            await self.world.settle()
            self.world.effects.let_go()
            for client in self.world.clients:
                if client.holds:
                    client.leave()
            self.check()
        assert not [client for client in self.world.clients if not client.task.done()], "somebody waits for ever"
        for name in "abc":
            await self.world.unload(name)
        self.world.check_nothing_left()
        assert all(runner.refs == 0 and not runner.waiting for runner in self.runners)


@pytest.mark.parametrize("seed", range(24))
async def test_nothing_is_lost_or_left_in_any_interleaving(seed: int) -> None:
    dice = random.Random(seed)
    async with opened(max_loaded=Chaos.MAX_LOADED, max_queue=4, max_waiting=3) as world:
        chaos = Chaos(world, dice)
        for _ in range(250):
            await chaos.step()
        await chaos.wind_down()
        answers = [client for client in world.clients if client.lease is not None or client.error is not None]
        assert len(answers) > 20, "the steps did lead somewhere"

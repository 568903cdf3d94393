"""The scheduler: one task owns every loaded model and everybody who waits for one.

Whoever needs a model asks for a lease; the task reads `events` one at a time, changes its tables and calls out through
`Effects`, whose results come back as events. No locks, no polling.
What to load and whom to evict is computed in `plan.py`. Source: scheduler §3, §4, §6, §7, §11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from ..durations import FOREVER, SECOND
from ..engines import Engine, MemoryUse, Progress
from ..engines.process import describe_exit
from ..errors import Busy, Cancelled, LlameroError, OutOfMemory, RanOutOfMemory
from . import events, plan
from .line import Line
from .plan import Machine, Wanted
from .pool import Pool, Slot
from .runner import NOTHING_CLAIMED, Claim, Lease, Runner, State, Ticket
from .views import LoadingView, RunnerView, Snapshot, WaitingView

log = logging.getLogger(__name__)

T = TypeVar("T")

STOPPING = "the server is stopping"

MAKE_WAY_S = 30.0
"""How long requests for an engine still go past somebody who waits for it to end."""
SAVE_IDLE_S = 10.0
"""How long a slot is idle before it is saved: somebody who goes on sooner needs no file (scheduler §9.6)."""
SAVE_FRESH_TOKENS = 512
"""Prefilled since it was last saved: for fewer the disk is left alone until the model goes."""
SHORT_TOKENS = SAVE_FRESH_TOKENS
"""What the engine copies into its cache in memory, and back, in some milliseconds."""
UNLOAD_SAVE_S = 5.0
"""For all slots of an engine together: somebody may be waiting for its memory."""
END_SAVE_S = 1.5
"""The same when the server stops, which it has to within 5 s, 3 of which running requests may take."""


class Effects(Protocol):
    """Everything the scheduler does to the world."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        """Load; LoadFailed otherwise. Cancelling it ends what it started."""

    async def stop(self, engine: Engine, idle: Sequence[Slot], save_s: float) -> None:
        """End an engine and wait until its memory is back; first, what its idle slots hold is saved if that is wanted
        and takes no longer than so many seconds."""

    async def save(self, engine: Engine, slot: Slot) -> None:
        """Save what an idle slot holds. Raises nothing."""

    def work(self, engines: int) -> None:
        """Take note of how many engines have something to do now."""

    @property
    def measures(self) -> bool:
        """Whether `measure` has anything to do before a load."""

    async def measure(self, used: MemoryUse) -> None:
        """Find out what is free where only asking tells. Raises nothing."""

    def machine(self, used: MemoryUse) -> Machine:
        """The machine as it is now, given what our own engines use."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call once after a delay; the answer cancels it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    max_loaded: Callable[[], int]
    """Asked at each load: the number of GPUs is known a moment after the start."""
    max_queue: int
    max_waiting: int
    keep_alive_ns: int


class Scheduler:
    """Start it with `open`, end it with `close`; in between use `lease`, `unload` and `snapshot`."""

    def __init__(self, effects: Effects, limits: Limits) -> None:
        self._effects = effects
        self._limits = limits
        self._events: asyncio.Queue[events.Event] = asyncio.Queue()
        self._runners: dict[str, Runner] = {}
        self._pending: Line[Ticket] = Line()
        """Those who wait for the loader, which serves the first of them."""
        self._measuring: asyncio.Task[None] | None = None
        self._is_measured = False
        """Whether nothing was loaded or stopped since the machine was measured."""
        self._deaths: Counter[str] = Counter()
        """Engines that ended by themselves, by model."""
        self._victim: Runner | None = None
        """The engine that was chosen to go and whose last lease the loader awaits."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._ending = False
        self._quiet = asyncio.Event()
        """Set once the server stops and no lease is left."""
        self._main: asyncio.Task[None] | None = None

    # --- what others call ------------------------------------------------------------------------------------------

    def open(self) -> None:
        self._main = asyncio.create_task(self._run(), name="scheduler")

    async def close(self, timeout_s: float) -> None:
        """Refuse everybody who waits, give running requests `timeout_s`, then end every engine. Safe to call twice."""
        if self._main is None or self._main.done():
            return
        self._events.put_nowait(events.Close())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        self._events.put_nowait(events.End())
        await self._main

    @asynccontextmanager
    async def lease(
        self, wanted: Wanted, model: Any, keep_alive_ns: int | None, claim: Claim = NOTHING_CLAIMED
    ) -> AsyncIterator[Lease]:
        """A loaded engine for the length of the block; it is loaded, waited for and evicted for as needed.

        Raises Busy (a queue is full, or the server stops), OutOfMemory (does not fit), LoadFailed.
        """
        if self._main is not None and self._main.done():
            raise Busy(STOPPING)
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        ticket = Ticket(wanted, model, keep_alive_ns, claim, future, time.monotonic())
        self._events.put_nowait(events.Asked(ticket))
        try:
            lease = await ticket.future
        except asyncio.CancelledError:
            self._events.put_nowait(events.GaveUp(ticket))
            raise
        try:
            yield lease
        except RanOutOfMemory:
            self._events.put_nowait(events.RanOut())
            raise
        finally:
            self._events.put_nowait(events.Released(lease))

    def unload(self, key: str) -> None:
        """Stop a model as soon as nobody uses it. Nothing happens when it is not loaded."""
        self._events.put_nowait(events.Unload(key))

    def snapshot(self) -> Snapshot:
        """What is loaded, loading and waited for: to be shown, never to decide by."""
        now_s, now_ns = time.monotonic(), self._effects.now_ns()
        ready = [runner for runner in self._runners.values() if runner.usable]
        views = [RunnerView(r.model, r.wanted, _memory(r), self._expiry(r, now_ns)) for r in ready]
        return Snapshot(
            tuple(sorted(views, key=lambda view: -(view.expires_at_ns // SECOND))),
            tuple(LoadingView(r.model, r.progress) for r in self._runners.values() if r.state is State.LOADING),
            tuple(
                WaitingView(position, ticket.model, int((now_s - ticket.asked_at_s) * 1000), ticket.party)
                for line in (self._pending, *(runner.waiting for runner in ready))
                for position, ticket in enumerate(line.in_order(now_s), 1)
            ),
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is loaded, loading, waited for or being stopped."""
        return not (self._runners or self._pending or self._tasks)

    # --- the task --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not (self._ending and not self._runners and self._events.empty()):
            event = await self._events.get()
            try:
                self._handle(event)
            except Exception:
                log.exception("scheduler: an event was not handled: %r", type(event).__name__)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.Asked(ticket):
                self._on_asked(ticket)
            case events.GaveUp(ticket):
                self._on_gave_up(ticket)
            case events.Released(lease):
                self._on_released(lease)
            case events.Settled(lease, tokens):
                self._on_settled(lease, tokens)
            case events.Loaded(runner, engine):
                self._on_loaded(runner, engine)
            case events.LoadFailed(runner, error):
                self._on_load_failed(runner, error)
            case events.Expired(runner):
                if runner.state is State.READY and runner.refs == 0:  # else somebody was quicker
                    self._stop(runner)
            case events.SaveDue(runner, slot):
                self._on_save_due(runner, slot)
            case events.Died(runner):
                self._on_died(runner)
            case events.Stopped(runner):
                self._forget(runner)
                self._is_measured = False
                self._advance()
            case events.Measured():
                self._measuring, self._is_measured = None, True
                self._advance()
            case events.RanOut():
                for runner in list(self._runners.values()):
                    if runner.state is State.READY:
                        self._retire(runner)
            case events.Unload(key):
                if (found := self._runners.get(key)) is not None:
                    self._retire(found)
            case events.Close():
                self._on_close()
            case events.End():
                self._ending = True
                for runner in self._runners.values():
                    if runner.state is not State.STOPPING:
                        self._stop(runner)

    def _on_asked(self, ticket: Ticket) -> None:
        """1. The server stops: refuse.
        2. A loaded engine that suits: lease it at once, or wait for one of its slots; the load queue is bypassed. Not
           when somebody has waited too long for that engine to go.
        3. The load queue is full: refuse. The request that the loader serves does not count.
        4. An engine that suits is being loaded: wait with those who wait for it.
        5. Otherwise queue for the loader.
        """
        runner = self._runners.get(ticket.wanted.plan.key)
        if runner is not None and (not runner.serves(ticket.wanted) or self._must_go(runner)):
            runner = None
        if self._closing:  # 1
            self._refuse(ticket, Busy(STOPPING))
        elif runner is not None and runner.state is State.READY:  # 2
            self._join(runner, ticket)
        elif self._queued > self._limits.max_queue:  # 3
            self._refuse(ticket, Busy())
        elif runner is not None:  # 4
            self._join(runner, ticket)
        else:  # 5
            self._pending.add(ticket)
            self._advance()

    def _join(self, runner: Runner, ticket: Ticket) -> None:
        """A slot of this engine: now, or in turn. Those who wait for it to load have all its slots before them."""
        if len(runner.waiting) >= runner.pool.free_seats + self._limits.max_waiting:
            self._refuse(ticket, Busy())
            return
        if runner.state is State.READY and ticket.claim.visits and not ticket.future.done():
            self._grant(runner, ticket, 0)
            return
        runner.waiting.add(ticket)
        if runner.state is State.READY:
            self._serve(runner)

    def _on_gave_up(self, ticket: Ticket) -> None:
        if ticket.lease is not None:  # it was granted in the same moment
            self._on_released(ticket.lease)
        elif ticket in self._pending:
            self._pending.remove(ticket)
            self._advance()
        else:
            for runner in self._runners.values():
                if ticket in runner.waiting:
                    runner.waiting.remove(ticket)
                    if runner.state is State.LOADING and not runner.waiting:
                        self._stop(runner)  # nobody waits for this load any more
                    return

    def _on_released(self, lease: Lease) -> None:
        runner = lease.runner
        if lease.seat is None:
            runner.visitors -= 1
        else:
            runner.pool.give_back(lease.seat, time.monotonic())
            self._watch(runner, lease.seat.slot)
        self._count_work()
        self._notice_quiet()
        if runner.state is not State.READY:
            return
        if runner.usable:
            self._serve(runner)
            self._rest(runner)
            self._advance()
        else:
            self._on_died(runner)

    def _on_settled(self, lease: Lease, tokens: int) -> None:
        runner = lease.runner
        if lease.seat is not None:
            runner.pool.settle(lease.seat, min(tokens, runner.seat_tokens))
        if runner.usable:
            self._serve(runner)

    def _serve(self, runner: Runner) -> None:
        """Seat those who wait, in their turn, as long as there is a slot and room. Nobody overtakes: who needs much
        room would never get it."""
        while (ticket := runner.waiting.first(time.monotonic())) is not None:
            tokens = min(ticket.claim.tokens or runner.seat_tokens, runner.seat_tokens)
            if ticket.future.done():
                runner.waiting.remove(ticket)
            elif ticket.claim.visits or runner.pool.has_room(tokens):
                runner.waiting.serve(ticket)
                self._grant(runner, ticket, tokens)
            else:
                return

    def _rest(self, runner: Runner) -> None:
        """When nobody uses it, the keep-alive clock starts."""
        if runner.refs == 0:
            self._on_idle(runner)

    def _watch(self, runner: Runner, slot: Slot) -> None:
        """A slot has become idle: if it stays so, what it holds is saved."""
        if slot.fresh_tokens >= SAVE_FRESH_TOKENS and runner.state is State.READY:
            due = partial(self._events.put_nowait, events.SaveDue(runner, slot))
            runner.cancel_saves[slot.index] = self._effects.call_later(SAVE_IDLE_S, due)

    def _on_save_due(self, runner: Runner, slot: Slot) -> None:
        runner.cancel_saves.pop(slot.index, None)
        if runner.usable and slot in runner.pool.idle and runner.engine is not None:
            self._spawn(self._effects.save(runner.engine, slot), f"save {runner.engine.pid}")

    def _on_idle(self, runner: Runner) -> None:
        runner.expires_at_ns = self._effects.now_ns() + runner.keep_alive_ns
        if runner.keep_alive_ns <= 0:
            self._stop(runner)
        elif runner.keep_alive_ns < FOREVER:
            runner.cancel_timer = self._effects.call_later(
                runner.keep_alive_ns / SECOND, lambda: self._events.put_nowait(events.Expired(runner))
            )

    def _on_loaded(self, runner: Runner, engine: Engine) -> None:
        runner.engine = engine
        runner.loading = None
        runner.load_ended_s = time.monotonic()
        if runner.state is State.STOPPING:  # it was not wanted any more, and the cancelling came too late
            self._end(runner, engine)
            return
        runner.state = State.READY
        runner.progress = 1.0
        engine.exited.add_done_callback(lambda _: self._events.put_nowait(events.Died(runner)))
        self._serve(runner)
        self._rest(runner)
        self._advance()

    def _on_load_failed(self, runner: Runner, error: LlameroError) -> None:
        self._forget(runner)
        self._is_measured = False
        if isinstance(error, OutOfMemory) and runner.waiting and self._try_again(runner, error):
            self._advance()
            return
        if not isinstance(error, Cancelled):
            log.warning("load failed model=%s: %s", runner.wanted.plan.model.name, error)
        for ticket in runner.waiting:
            self._refuse(ticket, error)
        runner.waiting.clear()
        self._advance()

    def _try_again(self, runner: Runner, error: LlameroError) -> bool:
        """Whether those who wait for a load that ran out of memory may hope for another, with less or with more room.

        Each of them is told: who is served first the next time is not known yet.
        """
        others = len(self._runners) > 0
        if plan.after_want_of_memory(runner.wanted, others_loaded=others) is None:
            return False
        log.warning("load ran out of memory model=%s, trying again: %s", runner.wanted.plan.model.name, error)
        for ticket in runner.waiting:
            wish = plan.after_want_of_memory(ticket.wanted, others_loaded=others)
            ticket.wanted = replace(ticket.wanted, wish=wish or ticket.wanted.wish)
        self._pending.put_back(runner.waiting)
        runner.waiting.clear()
        return True

    def _on_died(self, runner: Runner) -> None:
        """The engine ended by itself: those who wait for a slot queue for a fresh one, those who run see it break."""
        if runner.state is not State.READY:
            return
        assert runner.engine is not None
        name = runner.wanted.plan.model.name
        self._deaths[name] += 1
        pid, deaths = runner.engine.pid, self._deaths[name]
        log.error("engine died model=%s pid=%d deaths=%d: %s", name, pid, deaths, _last_words(runner.engine))
        self._stop(runner)
        self._pending.put_back(runner.waiting)  # they were let in once: the queue's bound is not for them
        runner.waiting.clear()
        self._advance()

    def _on_close(self) -> None:
        self._closing = True
        stopping = Busy(STOPPING)
        for ticket in [*self._pending, *(t for runner in self._runners.values() for t in runner.waiting)]:
            self._refuse(ticket, stopping)
        self._pending.clear()
        for runner in self._runners.values():
            runner.waiting.clear()
            if runner.state is State.LOADING:
                self._stop(runner)
        self._notice_quiet()

    # --- loading and evicting --------------------------------------------------------------------------------------

    @property
    def _queued(self) -> int:
        """Requests that wait for the loader, the one that it serves included."""
        joined = sum(len(runner.waiting) for runner in self._runners.values() if runner.state is State.LOADING)
        return len(self._pending) + joined

    def _advance(self) -> None:
        """The loader: take the oldest request as far as it can go now. Called after everything that may free its way.

        1. Its client has gone: skip it.
        2. One thing at a time: while an engine is loading or stopping, everybody queues.
        3. Its model is loaded and suits after all: lease.
        4. Its model is loaded with other settings: retire that engine first.
        5. It ran out of memory beside others: retire them all.
        6. As many models as allowed are loaded: retire one.
        7. What is free must be measured: wait for that.
        8. It does not fit beside what is loaded: retire one.
        9. It does not fit at all: refuse, with the figures.
        10. Load it.
        """
        while (ticket := self._pending.first(time.monotonic())) is not None:
            if ticket.future.done():  # 1
                self._pending.remove(ticket)
                continue
            if self._measuring or any(runner.state is not State.READY for runner in self._runners.values()):  # 2
                return
            runner = self._runners.get(ticket.wanted.plan.key)
            if runner is not None and runner.serves(ticket.wanted):  # 3
                self._pending.serve(ticket)
                self._join(runner, ticket)
                continue
            if runner is not None:  # 4
                ticket.wanted = plan.with_adapters_of(runner.wanted, ticket.wanted)
                self._retire(runner, ticket)
                return
            if self._runners and ticket.wanted.wish.needs_all:  # 5
                for other in list(self._runners.values()):
                    self._retire(other, ticket)
                return
            if len(self._runners) >= self._limits.max_loaded():  # 6
                self._retire_one(ticket)
                return
            if self._effects.measures and not self._is_measured:  # 7
                self._measure()
                return
            machine = self._effects.machine(self._used())
            ticket.wanted = plan.renewed(ticket.wanted, machine)
            if plan.fits(ticket.wanted, machine, others_loaded=bool(self._runners)):  # 10
                self._load(ticket)
                return
            if self._runners:  # 8
                self._retire_one(ticket)
                return
            self._pending.serve(ticket)  # 9
            self._refuse(ticket, OutOfMemory(plan.too_large(ticket.wanted, machine)))

    def _measure(self) -> None:
        self._measuring = self._spawn(self._effects.measure(self._used()), "measure")
        self._measuring.add_done_callback(lambda task: self._events.put_nowait(events.Measured()))

    def _load(self, first: Ticket) -> None:
        """Start an engine for the first of the queue, and for those right behind it whom it suits as well."""
        loads = first.wanted.plan
        pool = Pool(loads.total_ctx_tokens, loads.seats, SHORT_TOKENS if loads.cache_ram_mib else 0)
        runner = Runner(first.wanted, first.model, self._limits.keep_alive_ns, pool)
        self._runners[runner.key] = runner
        for ticket in self._pending.in_order(time.monotonic()):
            if not runner.serves(ticket.wanted):
                break
            self._pending.serve(ticket)
            self._join(runner, ticket)

        def progress(share: float) -> None:
            runner.progress = share

        self._is_measured = False
        runner.load_began_s = time.monotonic()
        work = self._effects.start(runner.wanted, progress)
        runner.loading = self._spawn(work, f"load {runner.wanted.plan.model.name}")
        runner.loading.add_done_callback(partial(self._report_load, runner))

    def _report_load(self, runner: Runner, task: asyncio.Task[Engine]) -> None:
        """What became of a load. It is read off the task, since one that is cancelled before it began runs no code."""
        error = Cancelled() if task.cancelled() else task.exception()
        if error is None:
            self._events.put_nowait(events.Loaded(runner, task.result()))
            return
        if not isinstance(error, LlameroError):
            log.error("loading failed unexpectedly", exc_info=error)
            error = LlameroError(f"loading failed: {error}")
        self._events.put_nowait(events.LoadFailed(runner, error))

    def _retire_one(self, ticket: Ticket) -> None:
        if self._victim is not None and self._victim.keep_alive_ns == 0:
            self._make_way(self._victim, ticket)
            return  # it is awaited, whoever else has become idle meanwhile
        candidates = [
            plan.Candidate(key, runner.wanted.plan.model, runner.keep_alive_ns, runner.refs > 0)
            for key, runner in self._runners.items()
        ]
        victim = plan.choose_victim(candidates)
        if victim is not None:
            self._victim = self._runners[victim.key]
            self._retire(self._victim, ticket)

    def _retire(self, runner: Runner, ticket: Ticket | None = None) -> None:
        """Let an engine go: now when it is idle, else when its last lease ends. Running requests are never cut.

        Only a request that comes later may bring a keep-alive with which the engine stays. `ticket` is whoever gets
        the room.
        """
        if ticket is not None:
            self._make_way(runner, ticket)
        runner.keep_alive_ns = 0
        runner.expires_at_ns = self._effects.now_ns()
        for ticket in runner.waiting:
            ticket.keep_alive_ns = None
        if runner.state is State.READY and runner.refs == 0:
            self._stop(runner)

    def _make_way(self, runner: Runner, ticket: Ticket) -> None:
        if runner.makes_way_for is None or runner.makes_way_for not in self._pending:
            runner.makes_way_for, runner.makes_way_since_s = ticket, time.monotonic()

    def _must_go(self, runner: Runner) -> bool:
        """Whether somebody has waited long enough for an engine to go: then he is next, and whoever wants that engine
        comes behind him. People who always find it in use would keep it for ever."""
        waits = runner.makes_way_for
        if waits is None or waits not in self._pending:
            return False
        if time.monotonic() - runner.makes_way_since_s < MAKE_WAY_S:
            return False
        self._pending.put_back([waits])
        return True

    def _stop(self, runner: Runner) -> None:
        self._drop_timer(runner)
        while runner.cancel_saves:
            runner.cancel_saves.popitem()[1]()
        runner.state = State.STOPPING
        if runner.engine is not None:
            self._end(runner, runner.engine)
        elif runner.loading is not None:
            runner.loading.cancel()

    def _end(self, runner: Runner, engine: Engine) -> None:
        save_s = END_SAVE_S if self._ending else UNLOAD_SAVE_S
        task = self._spawn(self._effects.stop(engine, runner.pool.idle, save_s), f"stop {engine.pid}")
        task.add_done_callback(partial(self._report_stop, runner))

    def _report_stop(self, runner: Runner, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("stopping an engine failed model=%s", runner.wanted.plan.model.name, exc_info=error)
        self._events.put_nowait(events.Stopped(runner))

    # --- small steps -----------------------------------------------------------------------------------------------

    def _grant(self, runner: Runner, ticket: Ticket, tokens: int) -> None:
        assert runner.engine is not None
        self._drop_timer(runner)
        if ticket.keep_alive_ns is not None:
            runner.keep_alive_ns = ticket.keep_alive_ns
        now_s, claim = time.monotonic(), ticket.claim
        seat = None
        if claim.visits:
            runner.visitors += 1
        else:
            seat = runner.pool.take(tokens, claim.owner, claim.trail, now_s)
            if (cancel := runner.cancel_saves.pop(seat.slot.index, None)) is not None:
                cancel()
        waited_s = now_s - ticket.asked_at_s
        load_s = max(0.0, runner.load_ended_s - max(runner.load_began_s, ticket.asked_at_s))

        def settle(tokens: int) -> None:
            self._events.put_nowait(events.Settled(lease, tokens))

        lease = Lease(runner, runner.engine, seat, settle, max(0.0, waited_s - load_s), load_s)
        ticket.lease = lease
        ticket.future.set_result(lease)
        self._count_work()

    @staticmethod
    def _refuse(ticket: Ticket, error: LlameroError) -> None:
        if not ticket.future.done():
            ticket.future.set_exception(error)

    def _count_work(self) -> None:
        self._effects.work(sum(runner.refs > 0 for runner in self._runners.values()))

    def _notice_quiet(self) -> None:
        if self._closing and not any(runner.refs for runner in self._runners.values()):
            self._quiet.set()

    def _forget(self, runner: Runner) -> None:
        self._drop_timer(runner)
        if self._victim is runner:
            self._victim = None
        del self._runners[runner.key]

    @staticmethod
    def _drop_timer(runner: Runner) -> None:
        if runner.cancel_timer is not None:
            runner.cancel_timer()
            runner.cancel_timer = None

    @staticmethod
    def _expiry(runner: Runner, now_ns: int) -> int:
        """When it will go if nobody comes. One that was retired in use shows as stopping until its last lease ends."""
        if runner.expires_at_ns is not None and (runner.refs == 0 or runner.keep_alive_ns == 0):
            return runner.expires_at_ns
        return now_ns + runner.keep_alive_ns

    def _used(self) -> MemoryUse:
        uses = [_memory(runner) for runner in self._runners.values()]
        gpus: Counter[str] = Counter()
        for use in uses:
            gpus.update(dict(use.gpus))
        return MemoryUse(
            sum(use.total_bytes for use in uses),
            sum(use.vram_bytes for use in uses),
            sum(use.mapped_bytes for use in uses),
            tuple(gpus.items()),
        )

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _memory(runner: Runner) -> MemoryUse:
    return runner.engine.memory if runner.engine is not None else MemoryUse()


def _last_words(engine: Engine) -> str:
    """How it ended, and the last line of what it said about that."""
    ended = describe_exit(engine.exited.result()) if engine.exited.done() else "it is ending"
    lines = engine.last_error.splitlines()
    return ended if not lines or lines[-1] == ended else f"{ended}: {lines[-1]}"

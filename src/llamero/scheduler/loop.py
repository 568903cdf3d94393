"""The scheduler: one task owns every loaded model and everybody who waits for one.

Whoever needs a model asks for a lease; the task reads events (`_Asked`, `_GaveUp`, `_Released`, `_Loaded`, ...) one at
a time, changes its tables and calls out through `Effects`, whose results come back as events. No locks, no polling.
What to load and whom to evict is computed in `plan.py`. Source: scheduler §3, §4, §6, §7, §11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol, TypeVar

from ..durations import FOREVER, SECOND
from ..engines import Engine, MemoryUse, Progress
from ..errors import Busy, Cancelled, LlameroError, OutOfMemory
from . import plan
from .plan import Machine, Wanted

log = logging.getLogger(__name__)

T = TypeVar("T")

STOPPING = "the server is stopping"


class Effects(Protocol):
    """Everything the scheduler does to the world."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        """Load; LoadFailed otherwise. Cancelling it ends what it started."""

    async def stop(self, engine: Engine) -> None:
        """End an engine and wait until its memory is back."""

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


class State(Enum):
    LOADING = auto()
    READY = auto()
    STOPPING = auto()


@dataclass(eq=False, slots=True)
class Runner:
    """Our record of one engine. Compared by identity: a replaced runner's late events must not touch its successor."""

    wanted: Wanted
    model: Any
    """Whatever the caller wants to be shown for it; the scheduler never looks inside."""
    keep_alive_ns: int
    state: State = State.LOADING
    engine: Engine | None = None
    refs: int = 0
    waiting: deque[Ticket] = field(default_factory=deque)
    expires_at_ns: int | None = None
    """None until it was idle for the first time."""
    progress: float = 0.0
    load_began_s: float = 0.0
    load_ended_s: float = 0.0
    loading: asyncio.Task[Engine] | None = None
    cancel_timer: Callable[[], None] | None = None

    @property
    def key(self) -> str:
        return self.wanted.plan.key

    @property
    def free_slots(self) -> int:
        return self.wanted.plan.requests_at_once - self.refs

    @property
    def usable(self) -> bool:
        return self.state is State.READY and self.engine is not None and self.engine.alive

    def serves(self, wanted: Wanted) -> bool:
        """Whether it suits a request now, or will as soon as it is loaded."""
        return (self.usable or self.state is State.LOADING) and not plan.must_reload(self.wanted, wanted)


@dataclass(eq=False, slots=True)
class Ticket:
    """One request's wish for a model, until it is granted, refused or given up."""

    wanted: Wanted
    model: Any
    keep_alive_ns: int | None
    future: asyncio.Future[Lease]
    asked_at_s: float
    lease: Lease | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Lease:
    """The right to use a loaded engine until it is released."""

    runner: Runner
    engine: Engine
    queued_s: float = 0.0
    """Waited for a slot, for the loader, for room: for everything but this engine's load."""
    load_s: float = 0.0
    """Waited for this engine's load."""


@dataclass(frozen=True, slots=True)
class RunnerView:
    """What `/api/ps` shows of a loaded model."""

    model: Any
    wanted: Wanted
    memory: MemoryUse
    expires_at_ns: int


@dataclass(frozen=True, slots=True)
class LoadingView:
    model: Any
    progress: float


@dataclass(frozen=True, slots=True)
class WaitingView:
    position: int
    model: Any
    waiting_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    loaded: tuple[RunnerView, ...]
    loading: tuple[LoadingView, ...]
    queue: tuple[WaitingView, ...]


# --- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _GaveUp:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _Released:
    lease: Lease


@dataclass(frozen=True, slots=True)
class _Loaded:
    runner: Runner
    engine: Engine


@dataclass(frozen=True, slots=True)
class _LoadFailed:
    runner: Runner
    error: LlameroError


@dataclass(frozen=True, slots=True)
class _Expired:
    runner: Runner


@dataclass(frozen=True, slots=True)
class _Died:
    runner: Runner


@dataclass(frozen=True, slots=True)
class _Stopped:
    runner: Runner


@dataclass(frozen=True, slots=True)
class _Unload:
    key: str


@dataclass(frozen=True, slots=True)
class _Close:
    """Take nothing on any more."""


@dataclass(frozen=True, slots=True)
class _End:
    """Stop every engine, also those in use."""


_Event = _Asked | _GaveUp | _Released | _Loaded | _LoadFailed | _Expired | _Died | _Stopped | _Unload | _Close | _End


class Scheduler:
    """Start it with `open`, end it with `close`; in between use `lease`, `unload` and `snapshot`."""

    def __init__(self, effects: Effects, limits: Limits) -> None:
        self._effects = effects
        self._limits = limits
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._runners: dict[str, Runner] = {}
        self._pending: deque[Ticket] = deque()
        """Those who wait for the loader, which serves the first of them."""
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
        self._events.put_nowait(_Close())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        self._events.put_nowait(_End())
        await self._main

    @asynccontextmanager
    async def lease(self, wanted: Wanted, model: Any, keep_alive_ns: int | None) -> AsyncIterator[Lease]:
        """A loaded engine for the length of the block; it is loaded, waited for and evicted for as needed.

        Raises Busy (a queue is full, or the server stops), OutOfMemory (does not fit), LoadFailed.
        """
        if self._main is not None and self._main.done():
            raise Busy(STOPPING)
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        ticket = Ticket(wanted, model, keep_alive_ns, future, time.monotonic())
        self._events.put_nowait(_Asked(ticket))
        try:
            lease = await ticket.future
        except asyncio.CancelledError:
            self._events.put_nowait(_GaveUp(ticket))
            raise
        try:
            yield lease
        finally:
            self._events.put_nowait(_Released(lease))

    def unload(self, key: str) -> None:
        """Stop a model as soon as nobody uses it. Nothing happens when it is not loaded."""
        self._events.put_nowait(_Unload(key))

    def snapshot(self) -> Snapshot:
        """What is loaded, loading and waited for: to be shown, never to decide by."""
        now_s, now_ns = time.monotonic(), self._effects.now_ns()
        ready = [runner for runner in self._runners.values() if runner.usable]
        views = [RunnerView(r.model, r.wanted, _memory(r), self._expiry(r, now_ns)) for r in ready]
        return Snapshot(
            tuple(sorted(views, key=lambda view: -(view.expires_at_ns // SECOND))),
            tuple(LoadingView(r.model, r.progress) for r in self._runners.values() if r.state is State.LOADING),
            tuple(
                WaitingView(position, ticket.model, int((now_s - ticket.asked_at_s) * 1000))
                for position, ticket in enumerate(self._pending, 1)
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

    def _handle(self, event: _Event) -> None:
        match event:
            case _Asked(ticket):
                self._on_asked(ticket)
            case _GaveUp(ticket):
                self._on_gave_up(ticket)
            case _Released(lease):
                self._on_released(lease)
            case _Loaded(runner, engine):
                self._on_loaded(runner, engine)
            case _LoadFailed(runner, error):
                self._on_load_failed(runner, error)
            case _Expired(runner):
                if runner.state is State.READY and runner.refs == 0:  # else somebody was quicker
                    self._stop(runner)
            case _Died(runner):
                self._on_died(runner)
            case _Stopped(runner):
                self._forget(runner)
                self._advance()
            case _Unload(key):
                if (found := self._runners.get(key)) is not None:
                    self._retire(found)
            case _Close():
                self._on_close()
            case _End():
                self._ending = True
                for runner in self._runners.values():
                    if runner.state is not State.STOPPING:
                        self._stop(runner)

    def _on_asked(self, ticket: Ticket) -> None:
        """1. The server stops: refuse.
        2. A loaded engine that suits: lease it at once, or wait for one of its slots; the load queue is bypassed.
        3. The load queue is full: refuse. The request that the loader serves does not count.
        4. An engine that suits is being loaded: wait with those who wait for it.
        5. Otherwise queue for the loader.
        """
        runner = self._runners.get(ticket.wanted.plan.key)
        if runner is not None and not runner.serves(ticket.wanted):
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
            self._pending.append(ticket)
            self._advance()

    def _join(self, runner: Runner, ticket: Ticket) -> None:
        """A slot of this engine: now, or in turn. Those who wait for it to load have all its slots before them."""
        if runner.state is State.READY and runner.free_slots > 0:
            self._grant(runner, ticket)
        elif len(runner.waiting) < runner.free_slots + self._limits.max_waiting:
            runner.waiting.append(ticket)
        else:
            self._refuse(ticket, Busy())

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
        runner.refs -= 1
        self._notice_quiet()
        if runner.state is not State.READY:
            return
        if runner.usable:
            self._serve(runner)
            self._advance()
        else:
            self._on_died(runner)

    def _serve(self, runner: Runner) -> None:
        """Hand free slots to those who wait, oldest first. When nobody is left, the keep-alive clock starts."""
        while runner.waiting and runner.free_slots > 0:
            self._grant(runner, runner.waiting.popleft())
        if runner.refs == 0:
            self._on_idle(runner)

    def _on_idle(self, runner: Runner) -> None:
        runner.expires_at_ns = self._effects.now_ns() + runner.keep_alive_ns
        if runner.keep_alive_ns <= 0:
            self._stop(runner)
        elif runner.keep_alive_ns < FOREVER:
            runner.cancel_timer = self._effects.call_later(
                runner.keep_alive_ns / SECOND, lambda: self._events.put_nowait(_Expired(runner))
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
        engine.exited.add_done_callback(lambda _: self._events.put_nowait(_Died(runner)))
        self._serve(runner)
        self._advance()

    def _on_load_failed(self, runner: Runner, error: LlameroError) -> None:
        self._forget(runner)
        if not isinstance(error, Cancelled):
            log.warning("load failed model=%s: %s", runner.wanted.plan.model.name, error)
        for ticket in runner.waiting:
            self._refuse(ticket, error)
        runner.waiting.clear()
        self._advance()

    def _on_died(self, runner: Runner) -> None:
        """The engine ended by itself: those who wait for a slot queue for a fresh one, those who run see it break."""
        if runner.state is not State.READY:
            return
        assert runner.engine is not None
        log.error(
            "engine died pid=%d model=%s: %s",
            runner.engine.pid,
            runner.wanted.plan.model.name,
            runner.engine.last_error,
        )
        self._stop(runner)
        self._pending.extendleft(reversed(runner.waiting))  # they were let in once: the queue's bound is not for them
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
        5. As many models as allowed are loaded: retire one.
        6. It does not fit beside what is loaded: retire one.
        7. It does not fit at all: refuse, with the figures.
        8. Load it.
        """
        while self._pending:
            ticket = self._pending[0]
            if ticket.future.done():  # 1
                self._pending.popleft()
                continue
            if any(runner.state is not State.READY for runner in self._runners.values()):  # 2
                return
            runner = self._runners.get(ticket.wanted.plan.key)
            if runner is not None and runner.serves(ticket.wanted):  # 3
                self._join(runner, self._pending.popleft())
                continue
            if runner is not None:  # 4
                ticket.wanted = plan.with_adapters_of(runner.wanted, ticket.wanted)
                self._retire(runner)
                return
            if len(self._runners) >= self._limits.max_loaded():  # 5
                self._retire_one()
                return
            machine = self._effects.machine(self._used())
            if plan.fits(ticket.wanted, machine, others_loaded=bool(self._runners)):  # 8
                self._load(ticket)
                return
            if self._runners:  # 6
                self._retire_one()
                return
            self._pending.popleft()  # 7
            self._refuse(ticket, OutOfMemory(plan.too_large(ticket.wanted, machine)))

    def _load(self, first: Ticket) -> None:
        """Start an engine for the first of the queue, and for those right behind it whom it suits as well."""
        runner = Runner(first.wanted, first.model, self._limits.keep_alive_ns)
        self._runners[runner.key] = runner
        while self._pending and runner.serves(self._pending[0].wanted):
            self._join(runner, self._pending.popleft())

        def progress(share: float) -> None:
            runner.progress = share

        runner.load_began_s = time.monotonic()
        work = self._effects.start(runner.wanted, progress)
        runner.loading = self._spawn(work, f"load {runner.wanted.plan.model.name}")
        runner.loading.add_done_callback(partial(self._report_load, runner))

    def _report_load(self, runner: Runner, task: asyncio.Task[Engine]) -> None:
        """What became of a load. It is read off the task, since one that is cancelled before it began runs no code."""
        error = Cancelled() if task.cancelled() else task.exception()
        if error is None:
            self._events.put_nowait(_Loaded(runner, task.result()))
            return
        if not isinstance(error, LlameroError):
            log.error("loading failed unexpectedly", exc_info=error)
            error = LlameroError(f"loading failed: {error}")
        self._events.put_nowait(_LoadFailed(runner, error))

    def _retire_one(self) -> None:
        if self._victim is not None and self._victim.keep_alive_ns == 0:
            return  # it is awaited, whoever else has become idle meanwhile
        candidates = [
            plan.Candidate(key, runner.wanted.plan.model, runner.keep_alive_ns, runner.refs > 0)
            for key, runner in self._runners.items()
        ]
        victim = plan.choose_victim(candidates)
        if victim is not None:
            self._victim = self._runners[victim.key]
            self._retire(self._victim)

    def _retire(self, runner: Runner) -> None:
        """Let an engine go: now when it is idle, else when its last lease ends. Running requests are never cut.

        Only a request that comes later may bring a keep-alive with which the engine stays.
        """
        runner.keep_alive_ns = 0
        runner.expires_at_ns = self._effects.now_ns()
        for ticket in runner.waiting:
            ticket.keep_alive_ns = None
        if runner.state is State.READY and runner.refs == 0:
            self._stop(runner)

    def _stop(self, runner: Runner) -> None:
        self._drop_timer(runner)
        runner.state = State.STOPPING
        if runner.engine is not None:
            self._end(runner, runner.engine)
        elif runner.loading is not None:
            runner.loading.cancel()

    def _end(self, runner: Runner, engine: Engine) -> None:
        task = self._spawn(self._effects.stop(engine), f"stop {engine.pid}")
        task.add_done_callback(partial(self._report_stop, runner))

    def _report_stop(self, runner: Runner, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("stopping an engine failed model=%s", runner.wanted.plan.model.name, exc_info=error)
        self._events.put_nowait(_Stopped(runner))

    # --- small steps -----------------------------------------------------------------------------------------------

    def _grant(self, runner: Runner, ticket: Ticket) -> None:
        if ticket.future.done():
            return
        assert runner.engine is not None
        self._drop_timer(runner)
        if ticket.keep_alive_ns is not None:
            runner.keep_alive_ns = ticket.keep_alive_ns
        runner.refs += 1
        waited_s = time.monotonic() - ticket.asked_at_s
        load_s = max(0.0, runner.load_ended_s - max(runner.load_began_s, ticket.asked_at_s))
        ticket.lease = Lease(runner, runner.engine, max(0.0, waited_s - load_s), load_s)
        ticket.future.set_result(ticket.lease)

    @staticmethod
    def _refuse(ticket: Ticket, error: LlameroError) -> None:
        if not ticket.future.done():
            ticket.future.set_exception(error)

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
        return MemoryUse(sum(use.total_bytes for use in uses), sum(use.vram_bytes for use in uses))

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _memory(runner: Runner) -> MemoryUse:
    return runner.engine.memory if runner.engine is not None else MemoryUse()

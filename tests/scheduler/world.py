"""A world for the scheduler: engines that load when told to, a clock that stands still, clients that stay until told.

    async with opened(max_loaded=1, hold_loads=True) as world:
        client = await world.ask("a")
        await world.finish_load()
        assert client.engine

Leaving the block sends everybody away, closes the scheduler and checks that nothing at all is left. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamero.durations import MINUTE, SECOND
from llamero.engines import Endpoint, Engine, MemoryUse, Progress
from llamero.engines.devices import Gpu
from llamero.engines.wire import Wire
from llamero.errors import LlameroError
from llamero.options import merge_options
from llamero.scheduler.facts import ModelFacts
from llamero.scheduler.loop import Limits, Scheduler
from llamero.scheduler.plan import Defaults, Machine, Wanted, want
from llamero.scheduler.pool import Slot
from llamero.scheduler.runner import NOTHING_CLAIMED, Claim, Lease
from llamero.scheduler.shape import Shape

GIB = 2**30
RAM_GIB = 64
START_NS = 1_700_000_000 * SECOND
TURNS = 12
"""Rounds of the event loop after which everything that can happen without the outside has happened."""


def facts(name: str, *, size_gib: float = 1, **figures: Any) -> ModelFacts:
    return ModelFacts(key=name, path=Path(f"/models/{name}"), size_bytes=int(size_gib * GIB), **figures)


class FakeEngine:
    """An engine that only counts as one."""

    endpoint = Endpoint("secret")
    build = "fake"
    slot_folder = None
    last_error = "signal: SIGKILL"

    def __init__(self, pid: int, wanted: Wanted, vram_bytes: int) -> None:
        self.pid = pid
        self.wanted = wanted
        self.name = wanted.plan.key
        self.memory = MemoryUse(wanted.estimate_bytes, vram_bytes)
        self.alive = True
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def wire(self) -> Wire:
        raise AssertionError("the scheduler does not talk to engines")

    async def stop(self) -> None:
        raise AssertionError("engines are stopped through the effects")

    def die(self, *, unnoticed: bool = False) -> None:
        """End; `unnoticed` leaves out the notice, as between a process's end and its reaping."""
        self.alive = False
        if not unnoticed and not self.exited.done():
            self.exited.set_result(-9)


@dataclass
class Timer:
    due_ns: int
    call: Callable[[], None]


@dataclass
class FakeEffects:
    """What the scheduler does is written into `log`; what is under way can be held and let go."""

    ram_bytes: int = RAM_GIB * GIB
    vram_bytes: int = 0
    cores: int = 1
    busy_cores: tuple[float, float] = (0.0, 0.0)
    load_turns: int = 1
    """Rounds of the event loop that a load takes when it is not held."""
    hold_loads: bool = False
    hold_stops: bool = False
    hold_aborts: bool = False
    """A cancelled load does not end before `let_abort`."""
    swallow_cancel: bool = False
    """A cancelled load comes to its end all the same."""
    log: list[str] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    now: int = START_NS
    loading: Wanted | None = None
    progress: Progress | None = None
    load: asyncio.Future[None] | None = None
    abort: asyncio.Future[None] | None = None
    stops: list[asyncio.Future[None]] = field(default_factory=list)
    measures: bool = False
    hold_measuring: asyncio.Event | None = None
    """Measuring does not end before it is set."""
    at_work: list[int] = field(default_factory=list)
    """How many engines had something to do, each time that it was told."""
    saves_s: list[float] = field(default_factory=list)
    """For each stop, how long it could have saved slots."""

    async def start(self, wanted: Wanted, progress: Progress) -> Engine:
        assert self.loading is None, "one engine is being started at a time"
        self.loading, self.progress = wanted, progress
        self.load = asyncio.get_running_loop().create_future()
        self.log.append(f"start {wanted.plan.key}")
        try:
            await self._end_of_load(self.load)
        except asyncio.CancelledError:
            self.log.append(f"abort {wanted.plan.key}")
            raise
        finally:
            self.loading = self.progress = self.load = None
        engine = FakeEngine(len(self.engines) + 1, wanted, wanted.predicted_bytes if self.vram_bytes else 0)
        self.engines.append(engine)
        return engine

    async def _end_of_load(self, load: asyncio.Future[None]) -> None:
        try:
            if self.hold_loads:
                await load
            for _ in range(self.load_turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self.hold_aborts:
                self.abort = asyncio.get_running_loop().create_future()
                try:
                    await self.abort
                except asyncio.CancelledError:
                    self.log.append("abort interrupted")
                    raise
            if not self.swallow_cancel:
                raise

    async def save(self, engine: Engine, slot: Slot) -> None:
        assert isinstance(engine, FakeEngine)
        self.log.append(f"save {engine.name} {slot.index}")

    def work(self, engines: int) -> None:
        self.at_work.append(engines)

    async def stop(self, engine: Engine, idle: Sequence[Slot], save_s: float) -> None:
        assert isinstance(engine, FakeEngine)
        assert not engine.name.startswith("stopped"), "an engine is stopped once"
        self.log += [f"save {engine.name} {slot.index}" for slot in idle if slot.fresh_tokens]
        self.saves_s.append(save_s)
        self.log.append(f"stop {engine.name}")
        engine.name = f"stopped {engine.name}"
        if self.hold_stops:
            self.stops.append(asyncio.get_running_loop().create_future())
            await self.stops[-1]
        engine.die()

    async def measure(self, used: MemoryUse) -> None:
        self.log.append("measure")
        if self.hold_measuring is not None:
            await self.hold_measuring.wait()

    def machine(self, used: MemoryUse) -> Machine:
        return Machine(
            ram_available_bytes=self.ram_bytes - used.total_bytes,
            ram_total_bytes=self.ram_bytes,
            cores=self.cores,
            busy_cores=self.busy_cores,
            gpus=self._gpus(used),
        )

    def _gpus(self, used: MemoryUse) -> tuple[Gpu, ...]:
        return (Gpu("CUDA0", "a card", self.vram_bytes, self.vram_bytes - used.vram_bytes),) if self.vram_bytes else ()

    def now_ns(self) -> int:
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        timer = Timer(self.now + round(delay_s * SECOND), call)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    @property
    def running(self) -> list[str]:
        """Names of the engines that live."""
        return [engine.name for engine in self.engines if engine.alive]

    def pass_time(self, seconds: float) -> None:
        """Move the clock; what is due rings, in its order."""
        self.now += round(seconds * SECOND)
        for timer in sorted([each for each in self.timers if each.due_ns <= self.now], key=lambda each: each.due_ns):
            self.timers.remove(timer)
            timer.call()

    def fail_load(self, error: Exception) -> None:
        assert self.load is not None
        self.load.set_exception(error)
        self.load.exception()  # seen, also by a load that is not held and does not look

    def let_go(self) -> None:
        """Hold nothing back any more."""
        self.hold_loads = self.hold_stops = self.hold_aborts = False
        for held in [self.load, self.abort, *self.stops]:
            if held is not None and not held.done():
                held.set_result(None)


class Client:
    """One request. Once it has its lease it keeps it until `leave` or `hang_up`."""

    def __init__(self, scheduler: Scheduler, wanted: Wanted, keep_alive_ns: int | None, claim: Claim) -> None:
        self.wanted = wanted
        self.lease: Lease | None = None
        self.error: LlameroError | None = None
        self._done = asyncio.Event()
        self._breaks_off: LlameroError | None = None
        self.task = asyncio.create_task(self._run(scheduler, keep_alive_ns, claim))

    async def _run(self, scheduler: Scheduler, keep_alive_ns: int | None, claim: Claim) -> None:
        try:
            async with scheduler.lease(self.wanted, self.wanted.plan.key, keep_alive_ns, claim) as self.lease:
                await self._done.wait()
                if self._breaks_off is not None:
                    raise self._breaks_off
        except LlameroError as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self.lease is None and not self.task.done()

    @property
    def holds(self) -> bool:
        return self.lease is not None and not self.task.done()

    @property
    def engine(self) -> FakeEngine:
        """The engine that it was given."""
        assert self.lease is not None, f"no lease, error {self.error!r}"
        assert isinstance(self.lease.engine, FakeEngine)
        return self.lease.engine

    def leave(self) -> None:
        """Its answer is complete."""
        self._done.set()

    def break_off(self, error: LlameroError) -> None:
        """The engine leaves it without an answer."""
        self._breaks_off = error
        self._done.set()

    def hang_up(self) -> None:
        self.task.cancel()


@dataclass
class World:
    effects: FakeEffects
    scheduler: Scheduler
    clients: list[Client] = field(default_factory=list)

    def wanted(
        self,
        name: str,
        *,
        shift: bool | None = None,
        slots: int = 1,
        size_gib: float = 1,
        layers: int = 0,
        token_bytes: int = 0,
        sees: bool = False,
        **options: Any,
    ) -> Wanted:
        """`token_bytes`: what a token takes of the KV cache. One that `sees` has a projector."""
        machine, defaults = self.effects.machine(MemoryUse()), Defaults(slots=slots)
        eyes = (Path("/models/eyes"),) if sees else ()
        shape = Shape(kv=token_bytes // 2)
        model = facts(name, size_gib=size_gib, layers=layers, shape=shape, projectors=eyes)
        return want(model, merge_options(options), shift, machine, defaults)

    def send(
        self, name: str, *, keep_alive_ns: int | None = None, claim: Claim = NOTHING_CLAIMED, **wishes: Any
    ) -> Client:
        """A request is on its way; nothing has happened yet."""
        client = Client(self.scheduler, self.wanted(name, **wishes), keep_alive_ns, claim)
        self.clients.append(client)
        return client

    async def ask(self, name: str, **wishes: Any) -> Client:
        client = self.send(name, **wishes)
        await self.settle()
        return client

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def leave(self, *clients: Client) -> None:
        for client in clients:
            client.leave()
            await self.settle()

    async def hang_up(self, *clients: Client) -> None:
        for client in clients:
            client.hang_up()
        await self.settle()

    async def pass_time(self, seconds: float) -> None:
        self.effects.pass_time(seconds)
        await self.settle()

    async def unload(self, name: str) -> None:
        self.scheduler.unload(name)
        await self.settle()

    async def finish_load(self) -> None:
        assert self.effects.load is not None
        self.effects.load.set_result(None)
        await self.settle()

    async def fail_load(self, error: Exception) -> None:
        self.effects.fail_load(error)
        await self.settle()

    @property
    def log(self) -> list[str]:
        return self.effects.log

    @property
    def loaded(self) -> list[str]:
        """What `ps` lists."""
        return [view.model for view in self.scheduler.snapshot().loaded]

    def check_nothing_left(self) -> None:
        assert self.effects.running == []
        assert self.effects.loading is None
        assert self.effects.timers == []
        assert self.scheduler.idle


@asynccontextmanager
async def opened(
    *,
    max_loaded: int = 3,
    max_queue: int = 512,
    max_waiting: int = 512,
    keep_alive_ns: int = 5 * MINUTE,
    **effects: Any,
) -> AsyncIterator[World]:
    limits = Limits(
        max_loaded=lambda: max_loaded, max_queue=max_queue, max_waiting=max_waiting, keep_alive_ns=keep_alive_ns
    )
    hands = FakeEffects(**effects)
    world = World(hands, Scheduler(hands, limits))
    world.scheduler.open()
    yield world
    for client in world.clients:
        client.hang_up()
    hands.let_go()
    await world.settle()
    hands.let_go()  # what came up only now
    await world.scheduler.close(0)
    world.check_nothing_left()
    assert all(client.task.done() for client in world.clients)

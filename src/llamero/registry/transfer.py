"""The bytes of one blob on their way: parts in flight side by side, retried, shared and saved, verified as they come.

What became of it is for `download` to judge. Source: store-registry §3.3 no. 7 to 10, GAP-09, GAP-10; security §10.1.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import BadRequest, Forbidden, LlameroError, RegistryError, StorageError
from ..names import Digest
from ..store.partials import Partial
from . import parts as parts_of
from .feed import Feed, Source, Stalled, is_final
from .follower import Follower
from .limit import Pace
from .parts import MAX_IN_FLIGHT, MAX_PARTS, Part
from .rhythm import every

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How patient and how eager a transfer is. The figures are the reference's where it has them."""

    tries: int = 6
    """Failures of one part, all together; stalls are none."""
    backoff_s: float = 1.0
    """The pause after the first failure; it doubles."""
    stall_s: float = 30.0
    report_s: float = 0.06
    save_s: float = 1.0
    """What a killed process loses at most (S-109)."""
    tend_s: float = 0.5
    """How often speeds are measured, the disk is made to write, and requests are added."""
    first_requests: int = 1
    """Requests at the start. They double as long as that pays: a line that is full with few gains nothing by more, and
    with few the blob's beginning is there first, which is verified meanwhile."""
    pays: float = 1.25
    """So many times the speed is what more requests must have brought."""
    fast_bytes_per_s: float = 400e6
    """A speed at which more requests are not tried: memory, disk and sha256 are the limit then."""
    steal_after_s: float = 5.0
    """A part that will take longer is shared with a request that has nothing else to do (GAP-10)."""
    least_share: float = 0.05
    """A request that would fetch less of it than this is given up."""


class _Lane:
    """One request after the other for one part, and how fast they are."""

    def __init__(self, part: Part, feeds: Sequence[Feed]) -> None:
        self.part = part
        self.feeds = deque(feeds)
        """Sources that have not failed this part."""
        self.task: asyncio.Task[None] | None = None
        self.received_bytes = 0
        self.bytes_per_s = 0.0
        """By the last few measurements."""
        self.is_pausing = False
        """After a failure."""
        self.asked_s = self._began_s = time.monotonic()
        self._measured_bytes = 0

    def measure(self, elapsed_s: float) -> None:
        latest = (self.received_bytes - self._measured_bytes) / elapsed_s
        self._measured_bytes = self.received_bytes
        self.bytes_per_s = (self.bytes_per_s + latest) / 2

    @property
    def mean_bytes_per_s(self) -> float:
        return self.received_bytes / max(time.monotonic() - self._began_s, 1e-6)


class Transfer:
    """One go at a blob with one list of sources.

    All of it runs in one event loop, but for the follower and the flushes, so the parts need no lock.
    """

    def __init__(
        self,
        partial: Partial,
        digest: Digest,
        size_bytes: int,
        sources: Sequence[Source],
        *,
        pace: Pace,
        report: Callable[[int], None],
        tuning: Tuning,
    ) -> None:
        self._partial = partial
        self._size_bytes = size_bytes
        self._pace = pace
        self._report = report
        self._tuning = tuning
        self._feeds = [Feed(source, digest, size_bytes, tuning.stall_s) for source in sources]
        self._contributors: set[Source | None] = set()
        """Whose bytes are in the file; None stands for what was there already."""
        self._parts = self._resume() or self._begin()
        """By offset."""
        self._waiting = deque(part for part in self._parts if not part.is_done)
        self._lanes: list[_Lane] = []
        self._requests = tuning.first_requests
        """How many lanes there may be now."""
        self._completed_bytes = sum(part.completed_bytes for part in self._parts)
        self._front = 0
        """Index of the first part that is not done: what lies before it can be verified."""
        self._speeds: list[float] = []
        """Bytes per second of the parts that are done."""
        self._best_bytes_per_s = 0.0
        self._tended_bytes = self._completed_bytes
        self._tended_s = time.monotonic()
        self._group = asyncio.TaskGroup()
        self._all_done = asyncio.Event()

    def is_all_from(self, source: Source) -> bool:
        return self._contributors == {source}

    async def run(self) -> Digest:
        """Fetch what is missing. Returns the digest of the whole file."""
        self._follower = Follower(self._partial.read_into)
        try:
            self._advance_front()
            await self._fetch_all()
            return await self._follower.finish()
        finally:
            self._follower.stop()

    # --- what is on disk -------------------------------------------------------------------------------------------

    def _resume(self) -> list[Part] | None:
        """The parts of an interrupted download, if all that is on disk fits together."""
        states = self._partial.states()
        parts = parts_of.read(states, self._size_bytes)
        if parts is None or self._partial.size_bytes != self._size_bytes:
            if states:
                log.warning("the state of an interrupted download makes no sense: it starts anew")
            return None
        if any(part.completed_bytes for part in parts):
            self._contributors.add(None)
        self._partial.allocate(self._size_bytes)
        return parts

    def _begin(self) -> list[Part]:
        self._partial.clear()
        try:
            self._partial.allocate(self._size_bytes)
        except StorageError:
            self._partial.discard()  # there is nothing in it to resume
            raise
        parts = parts_of.plan(self._size_bytes)
        for part in parts:
            self._save(part)
        return parts

    def _save(self, part: Part) -> None:
        self._partial.save_state(part.number, part.state)

    def _save_running(self) -> None:
        for lane in self._lanes:
            self._save(lane.part)
        self._partial.keep_reserve()

    # --- the course of it ------------------------------------------------------------------------------------------

    async def _fetch_all(self) -> None:
        try:
            async with self._group as group:
                chores = [
                    group.create_task(every(self._tuning.report_s, lambda: self._report(self._completed_bytes))),
                    group.create_task(every(self._tuning.save_s, self._save_running)),
                    group.create_task(every(self._tuning.tend_s, self._tend)),
                    group.create_task(self._flush()),
                ]
                self._dispatch()
                await self._all_done.wait()
                for chore in chores:
                    chore.cancel()
        except BaseExceptionGroup as errors:
            # the first one ended the others
            raise errors.exceptions[0] from errors.exceptions[0].__cause__

    async def _flush(self) -> None:
        """Have the disk write while bytes arrive, so that it has little left to do in the end."""
        while True:
            await asyncio.sleep(self._tuning.tend_s)
            await asyncio.to_thread(self._partial.flush)

    def _dispatch(self) -> None:
        """1. Waiting parts are begun in order, as many as there may be at once. 2. Then slow ones are shared.

        3. When nothing runs any more, that was the end.
        """
        while len(self._lanes) < self._requests and (part := self._next_part()) is not None:
            lane = _Lane(part, self._feeds)
            self._lanes.append(lane)
            lane.task = self._group.create_task(self._carry(lane))
        if not self._lanes:
            self._all_done.set()

    def _next_part(self) -> Part | None:
        return self._waiting.popleft() if self._waiting else self._steal()

    async def _carry(self, lane: _Lane) -> None:
        try:
            await self._fetch_part(lane)
        finally:
            self._lanes.remove(lane)
        if lane.received_bytes:
            self._speeds.append(lane.mean_bytes_per_s)
        self._dispatch()

    # --- one part --------------------------------------------------------------------------------------------------

    async def _fetch_part(self, lane: _Lane) -> None:
        """1. A stall: again at once. 2. While another source remains, any failure: that one.

        3. A refusal by the last one that ever served nothing, or by our own rules: an error at once. 4. Any other
        failure of it: again after a pause, up to the last try.
        """
        tries = 0
        while not lane.part.is_done:
            feed = lane.feeds[0]
            try:
                await self._attempt(lane, feed)
            except Stalled:
                log.warning("part %d stalled; retrying", lane.part.number)
                self._next_source(lane)  # 1.
            except (RegistryError, Forbidden, BadRequest) as error:
                if self._next_source(lane):  # 2.
                    log.warning("part %d from %s: %s", lane.part.number, feed.source.origin.kind, error)
                    continue
                if not isinstance(error, RegistryError) or (not feed.has_answered and is_final(error)):
                    raise  # 3.
                await self._pause(lane, tries, error)  # 4.
                tries += 1

    def _next_source(self, lane: _Lane) -> bool:
        """Whether there is one. Who never said where the blob is is asked for no later part either."""
        if len(lane.feeds) == 1:
            return False
        failed = lane.feeds.popleft()
        if not failed.has_answered and failed in self._feeds:
            self._feeds.remove(failed)
        return True

    async def _pause(self, lane: _Lane, tries: int, error: LlameroError) -> None:
        if tries + 1 >= self._tuning.tries:
            raise RegistryError(f"max retries exceeded: {error}") from error
        log.warning("part %d, try %d: %s; retrying", lane.part.number, tries, error)
        lane.is_pausing = True
        await asyncio.sleep(self._tuning.backoff_s * 2**tries)
        lane.is_pausing = False

    async def _attempt(self, lane: _Lane, feed: Feed) -> None:
        part = lane.part
        whole = part.offset == 0 and part.end == self._size_bytes
        lane.asked_s = time.monotonic()
        try:
            async with feed.open(part.position, part.end, whole=whole) as body:
                while not part.is_done:
                    data = await body.read()
                    await self._pace.take(len(data))
                    self._contributors.add(feed.source)
                    self._keep(lane, data)
        finally:
            with suppress(StorageError):  # a full disk's own error is on its way already
                self._save(part)

    def _keep(self, lane: _Lane, data: bytes) -> None:
        part = lane.part
        # the part's end may have moved while we waited, and a server may not stop where it was told to
        kept = memoryview(data)[: part.remaining_bytes]
        self._partial.write(kept, part.position)
        part.completed_bytes += len(kept)
        lane.received_bytes += len(kept)
        self._completed_bytes += len(kept)
        if part is self._parts[self._front]:
            self._advance_front()

    def _advance_front(self) -> None:
        while self._front + 1 < len(self._parts) and self._parts[self._front].is_done:
            self._front += 1
        if self._parts:
            self._follower.advance(self._parts[self._front].position)

    # --- how many at once, and who helps whom ----------------------------------------------------------------------

    def _tend(self) -> None:
        now = time.monotonic()
        elapsed_s, self._tended_s = now - self._tended_s, now
        bytes_per_s = (self._completed_bytes - self._tended_bytes) / elapsed_s
        self._tended_bytes = self._completed_bytes
        for lane in self._lanes:
            lane.measure(elapsed_s)
        if bytes_per_s > self._best_bytes_per_s * self._tuning.pays:
            self._best_bytes_per_s = bytes_per_s
            if bytes_per_s < self._tuning.fast_bytes_per_s:
                self._requests = min(2 * self._requests, MAX_IN_FLIGHT)
        self._dispatch()

    def _steal(self) -> Part | None:
        """Split what is left of the latest part by the speeds, so that both halves are ready at the same time.

        The new part takes the next number and gets its own state file: Ollama adds up the files and removes 0 to n-1,
        in whatever order they lie in the blob. Should a kill fall between the two writes, the states contradict each
        other and the download starts anew.
        """
        candidates = [lane for lane in self._lanes if not lane.is_pausing]
        if not self._speeds or not candidates or len(self._parts) >= MAX_PARTS:
            return None
        usual = statistics.median(self._speeds)
        late = max(candidates, key=lambda lane: self._needs_s(lane, usual))
        if self._needs_s(late, usual) <= self._tuning.steal_after_s:
            return None
        part, speed = late.part, self._speed(late, usual)
        share = speed / (speed + usual)
        at = part.position + int(part.remaining_bytes * share if share > self._tuning.least_share else 0)
        if not part.offset < at < part.end:  # a part without bytes cannot be asked for
            return None
        rest = part.split(at, len(self._parts))
        self._save(part)
        self._save(rest)
        self._parts.insert(self._parts.index(part) + 1, rest)
        self._advance_front()
        if part.is_done and late.task is not None:
            late.task.cancel()
        log.info("part %d is slow: part %d takes %d bytes of it", part.number, rest.number, rest.size_bytes)
        return rest

    def _speed(self, lane: _Lane, usual: float) -> float:
        """Expected bytes per second: as usual, until a request has had the time to show its own."""
        if time.monotonic() - lane.asked_s < self._tuning.steal_after_s:
            return max(lane.bytes_per_s, usual)
        return lane.bytes_per_s

    def _needs_s(self, lane: _Lane, usual: float) -> float:
        speed = self._speed(lane, usual)
        return lane.part.remaining_bytes / speed if speed else float("inf")

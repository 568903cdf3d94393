"""Models of many small blobs, one per tensor: several at once, each in one stream, hashed as it arrives.

Few large files are `download`'s. Source: store-registry §3.5. What is unfinished lies in `.tmp` files, and only of a
large blob is it kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import BadRequest, Forbidden, RegistryError
from ..names import Digest
from ..store import Store, partials
from ..store.manifests import Layer
from ..store.partials import Partial
from .download import LOOK_S
from .feed import Feed, Source, Stalled, is_final
from .limit import Pace
from .rhythm import every

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tuning:
    """The reference's figures."""

    scheduled: int = 64
    """Blobs that are being looked for at once, so that the streams never wait for a redirect."""
    tries: int = 6
    """Counted failures of one blob."""
    backoff_s: float = 0.01
    """Times the square of the failures; at most 2 to their number less one seconds."""
    stall_s: float = 10.0
    slow_after_s: float = 5.0
    slow_share: float = 0.1
    """A stream is slow below this share of the median speed."""
    free_slow_tries: int = 2
    """So often it is tried again for that without being counted."""
    samples: int = 30
    """Of the latest blobs, for the median; fewer than the least prove nothing."""
    least_samples: int = 5
    sample_bytes: int = 100 * 1024
    """The speed of a smaller blob is that of its request."""
    resume_bytes: int = 64 << 20
    """A smaller blob starts anew."""
    report_s: float = 0.06


async def download_many(
    store: Store,
    layers: Sequence[Layer],
    sources: Sequence[Source],
    *,
    streams: int,
    pace: Pace,
    report: Callable[[int], None],
    tuning: Tuning | None = None,
) -> None:
    """Return when all blobs are in the store, whole and verified; at most `streams` bodies come at once.

    `sources` are asked in order, each until it fails. `report` gets the bytes of all blobs together, sixteen times a
    second and in the end. RegistryError, Forbidden, BadRequest, DiskFull, StorageError; the first one ends the others.
    """
    tuning = tuning or Tuning()
    many = _Many(store, sources, max(1, streams), pace, tuning)
    different = {layer.digest: layer for layer in layers}.values()
    missing = [layer for layer in different if not store.blobs.has(layer.digest, layer.size_bytes)]
    lacking = (partials.lacking_bytes(store.blobs, layer.digest, layer.size_bytes) for layer in missing)
    store.blobs.require_space(sum(lacking))
    reporter = asyncio.create_task(every(tuning.report_s, lambda: report(many.completed_bytes)))
    try:
        async with asyncio.TaskGroup() as group:
            for layer in different:
                group.create_task(many.bring(layer))
    except BaseExceptionGroup as errors:
        # the first one ended the others
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    finally:
        reporter.cancel()
    report(many.completed_bytes)


class _TooSlow(Exception):
    """Another connection is likely to be much faster."""

    def __str__(self) -> str:
        return "too slow"


class _Many:
    def __init__(self, store: Store, sources: Sequence[Source], streams: int, pace: Pace, tuning: Tuning) -> None:
        self._blobs = store.blobs
        self._sources = sources
        self._scheduled = asyncio.Semaphore(tuning.scheduled)
        self._streams = asyncio.Semaphore(streams)
        self._pace = pace
        self._tuning = tuning
        self._positions: dict[Digest, int] = {}
        """How much of each blob is there."""
        self._speeds: deque[float] = deque(maxlen=tuning.samples)
        """Bytes per second of the blobs that were finished last."""

    @property
    def completed_bytes(self) -> int:
        return sum(self._positions.values())

    async def bring(self, layer: Layer) -> None:
        """One blob, unless it is there; whoever else is fetching it is waited for."""
        async with self._scheduled:
            while not self._blobs.has(layer.digest, layer.size_bytes):
                partial = partials.claim(self._blobs, layer.digest, ".tmp")
                if partial is None:
                    await asyncio.sleep(LOOK_S)
                    continue
                with partial:
                    if self._blobs.has(layer.digest, layer.size_bytes):  # whoever had the lock has just finished
                        partial.discard()
                    else:
                        await self._fetch(layer, partial)
        self._positions[layer.digest] = layer.size_bytes

    async def _fetch(self, layer: Layer, partial: Partial) -> None:
        try:
            await self._retry(layer, partial)
        except BaseException:
            if not self._can_resume(layer):
                partial.discard()
            raise

    async def _retry(self, layer: Layer, partial: Partial) -> None:
        """1. A stall: again at once. 2. Too slow: again at once, and counted from the third time on.

        3. While another source remains, any failure: that one. 4. A refusal by the last one that ever served nothing,
        or by our own rules: an error at once. 5. Any other failure of it: again after a pause, up to the last try.
        """
        feeds = deque(Feed(source, layer.digest, layer.size_bytes, self._tuning.stall_s) for source in self._sources)
        failures = slow = 0
        while True:
            feed = feeds[0]
            try:
                await self._attempt(layer, partial, feed)
                return
            except Stalled:  # 1.
                log.warning("blob %s stalled; retrying", layer.digest.short)
                if len(feeds) > 1:
                    feeds.popleft()
                continue
            except _TooSlow as caught:  # 2.
                slow += 1
                if slow <= self._tuning.free_slow_tries:
                    continue
                error: Exception = caught
            except (RegistryError, Forbidden, BadRequest) as caught:
                if len(feeds) > 1:  # 3.
                    log.warning("blob %s from %s: %s", layer.digest.short, feed.source.origin.kind, caught)
                    feeds.popleft()
                    continue
                if not isinstance(caught, RegistryError) or (not feed.has_answered and is_final(caught)):
                    raise  # 4.
                error = caught
            failures += 1  # 5.
            if failures >= self._tuning.tries:
                raise RegistryError(f"max retries exceeded: {error}") from error
            log.warning("blob %s, try %d: %s; retrying", layer.digest.short, failures, error)
            await asyncio.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        return min(failures**2 * self._tuning.backoff_s, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.5)

    async def _attempt(self, layer: Layer, partial: Partial, feed: Feed) -> None:
        content_hash = hashlib.sha256()
        position = await asyncio.to_thread(self._resume, layer, partial, content_hash.update)
        self._positions[layer.digest] = position
        if position < layer.size_bytes:
            await feed.locate()  # before it takes one of the streams
            async with self._streams, feed.open(position, layer.size_bytes, whole=True) as body:
                clock = _Clock(self._usual_bytes_per_s(), self._tuning)
                while position < layer.size_bytes:
                    data = await body.read()
                    clock.received(len(data))
                    if len(data) > layer.size_bytes - position:
                        raise RegistryError(f"size mismatch: more than {layer.size_bytes} bytes", retryable=True)
                    partial.write(data, position)
                    content_hash.update(data)
                    position += len(data)
                    self._positions[layer.digest] = position
                    with clock.stopped():
                        await self._pace.take(len(data))
            if layer.size_bytes >= self._tuning.sample_bytes:
                self._speeds.append(clock.bytes_per_s)
        found = Digest(content_hash.hexdigest())
        if found != layer.digest:
            partial.clear()
            raise RegistryError(f"digest mismatch: want {layer.digest}, got {found}", retryable=True)
        await asyncio.to_thread(partial.place)

    def _can_resume(self, layer: Layer) -> bool:
        return layer.size_bytes >= self._tuning.resume_bytes

    def _resume(self, layer: Layer, partial: Partial, update: Callable[[memoryview], None]) -> int:
        """Hash what is there already. Returns how much that is; what may not be used is removed."""
        partial.keep_reserve()
        there_bytes = partial.size_bytes
        if not self._can_resume(layer) or there_bytes > layer.size_bytes:
            partial.clear()
            return 0
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        position = 0
        while position < there_bytes and (read := partial.read_into(buffer[: there_bytes - position], position)):
            update(buffer[:read])
            position += read
        return position

    def _usual_bytes_per_s(self) -> float:
        """0 as long as too few blobs are done."""
        return statistics.median(self._speeds) if len(self._speeds) >= self._tuning.least_samples else 0.0


class _Clock:
    """How fast one body comes, the time that our own limits take left out."""

    def __init__(self, usual_bytes_per_s: float, tuning: Tuning) -> None:
        self._least_bytes_per_s = usual_bytes_per_s * tuning.slow_share
        self._slow_after_s = tuning.slow_after_s
        self._began_s = time.monotonic()
        self._received_bytes = 0

    @property
    def _elapsed_s(self) -> float:
        return max(time.monotonic() - self._began_s, 1e-6)

    @property
    def bytes_per_s(self) -> float:
        return self._received_bytes / self._elapsed_s

    def received(self, n_bytes: int) -> None:
        """_TooSlow when that is not enough after some time."""
        self._received_bytes += n_bytes
        if self._elapsed_s > self._slow_after_s and self.bytes_per_s < self._least_bytes_per_s:
            raise _TooSlow

    @contextmanager
    def stopped(self) -> Iterator[None]:
        stopped_s = time.monotonic()
        yield
        self._began_s += time.monotonic() - stopped_s

"""One blob into the store: fetched once for all who want it, verified, and from the registry itself in case of doubt.

It knows no model and no manifest; `transfer` moves the bytes. Source: store-registry §3.3, §3.4, GAP-10, GAP-11;
security §12. Partial files are Ollama's own, so either program goes on where the other one was interrupted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial as bind

from ..errors import RegistryError
from ..names import Digest
from ..store import Store, partials
from ..store.partials import Partial
from . import parts
from .feed import Source
from .limit import Pace
from .transfer import Transfer, Tuning

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often somebody who waits for another's download looks at it."""


async def download(
    store: Store,
    digest: Digest,
    size_bytes: int,
    sources: Sequence[Source],
    *,
    pace: Pace,
    report: Callable[[int], None],
    tuning: Tuning | None = None,
) -> None:
    """Return when the blob is in the store, whole and verified. One that is there in the right size costs nothing.

    `sources` are asked in order, and the last one, the registry, is what counts in the end: content that came from
    others or from an earlier attempt and is wrong is fetched again from it alone. Of several that want the same blob,
    in this process or in another one of ours, one transfers; the others report its progress and take over if it ends.
    `report` gets the bytes that are there, sixteen times a second.

    RegistryError, Forbidden, BadRequest, DiskFull, StorageError. Whatever happens, cancellation included, the parts
    that are there stay for the next attempt, except when their digest is wrong.
    """
    blobs = store.blobs
    while not blobs.has(digest, size_bytes):
        partial = partials.claim(blobs, digest)
        if partial is None:
            report(min(parts.completed_bytes(partials.states(blobs, digest)), size_bytes))
            await asyncio.sleep(LOOK_S)
            continue
        with partial:
            if blobs.has(digest, size_bytes):  # whoever had the lock before us has just finished
                partial.discard()
                continue
            begin = bind(Transfer, partial, digest, size_bytes, pace=pace, report=report, tuning=tuning or Tuning())
            await _fetch(partial, digest, sources, begin)
    report(size_bytes)


async def _fetch(
    partial: Partial, digest: Digest, sources: Sequence[Source], begin: Callable[[Sequence[Source]], Transfer]
) -> None:
    transfer = begin(sources)
    found = await transfer.run()
    if found != digest and not transfer.is_all_from(sources[-1]):
        log.warning("blob %s came out as %s: it is fetched again, from the registry alone", digest, found)
        partial.clear()
        found = await begin(sources[-1:]).run()
    if found != digest:
        partial.discard()
        raise RegistryError(f"digest mismatch, file must be downloaded again: want {digest}, got {found}")
    await asyncio.to_thread(partial.flush)
    partial.place()

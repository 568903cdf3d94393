"""The prompt cache at work: slots of engines written to disk, and read back when that is quicker than reading a prompt.

Which files there are is `store.prefixes`' business; when a slot is idle long enough, the scheduler's. Whatever fails
here costs a prefill and a line in the log, and nothing else. Source: scheduler §9.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engines import Engine
from ..errors import EngineDied, EngineError, EngineGone, StorageError
from ..messages import Usage
from ..store.prefixes import BLOCK_TOKENS, MIN_TOKENS, Identity, Match, Prefixes
from ..store.slot_file import BadSlotFile
from .pool import Pool, Seat, Slot

log = logging.getLogger(__name__)

MIN_GAIN_TOKENS = 256
"""To be read back, above what a slot holds already."""

MIN_MEASURED_TOKENS = 64
"""A shorter prefill is mostly overhead and says little about speed."""
MIN_GUESSED_TOKENS = 16
"""As long as nothing better is known: the speed is more than this says."""

QUICK_PREFILL_S = 1.0
"""The most that whoever comes back to a conversation may wait, so that everybody else's answers are quicker meanwhile;
much of it only where a speed is guessed from a few tokens. What takes longer is long enough to have been saved."""

_NEWEST = 0.5
"""How much the last measurement counts in a speed."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What must be known of a slot's prompt to save it."""

    identity: Identity
    model: str
    """As people call it."""
    token_bytes: float
    """Of the KV cache, for one token."""
    tokens: int = 0
    """That the slot holds."""


class PromptCache:
    """One for all engines of a server."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._prefill_per_s: dict[str, float] = {}
        """Tokens that are read in a second, by the digest of the weights."""
        self._bytes_per_s = 0.0
        """From a file into a slot, checksum included; 0: not yet measured."""

    @contextlib.contextmanager
    def engine_folder(self) -> Iterator[Path | None]:
        """Where one engine may save slots; None when nothing is to be saved, or the disk has no room for a folder."""
        with contextlib.ExitStack() as stack:
            folder = None
            if self._prefixes.limit_bytes:
                with contextlib.suppress(StorageError):  # the store has said what is wrong
                    folder = stack.enter_context(self._prefixes.engine_folder())
            yield folder

    def learn(self, identity: Identity, usage: Usage) -> None:
        """How quickly this model reads its prompts, seen by an answer."""
        tokens = usage.prompt_tokens - usage.cached_tokens
        known = self._prefill_per_s.get(identity.weights)
        if tokens >= (MIN_MEASURED_TOKENS if known else MIN_GUESSED_TOKENS) and usage.prompt_ns > 0:
            self._prefill_per_s[identity.weights] = _smooth(known, tokens * 1e9 / usage.prompt_ns)

    def can_go(self, slot: Slot) -> bool:
        """Whether it costs little to empty a slot: what it holds is in a file, or read again in a moment."""
        if not isinstance(slot.holding, Holding):
            return False
        prefill_per_s = self._prefill_per_s.get(slot.holding.identity.weights, 0.0)
        return slot.fresh_tokens <= prefill_per_s * QUICK_PREFILL_S

    # --- restoring -------------------------------------------------------------------------------------------------

    async def has(self, identity: Identity) -> bool:
        """Whether it is worth counting the tokens of a prompt."""
        try:
            return await asyncio.to_thread(self._prefixes.has, identity)
        except StorageError:
            return False

    async def restore(
        self,
        engine: Engine,
        seat: Seat,
        pool: Pool,
        identity: Identity,
        tokens: Sequence[int],
        held_tokens: int,
        most_tokens: int,
    ) -> bool:
        """Put what is saved of a prompt into the slot that is leased for it, if that is worth it.

        `held_tokens` of the prompt are in the slot already; more than `most_tokens` do not fit. Raises EngineGone when
        the engine ended over it.
        """
        try:
            match = await asyncio.to_thread(self._prefixes.find, identity, tokens)
            if match is None or match.entry.tokens > most_tokens or not self._pays(match, identity, held_tokens):
                return False
            return await self._put_into(engine, seat, pool, identity, match)
        except StorageError:
            return False  # it has said why

    async def _put_into(self, engine: Engine, seat: Seat, pool: Pool, identity: Identity, match: Match) -> bool:
        assert engine.slot_folder is not None
        slot, began_s = seat.slot, time.monotonic()
        with contextlib.ExitStack() as stack:
            lent = self._prefixes.lent(identity, match, engine.slot_folder)
            name = await asyncio.to_thread(stack.enter_context, lent)
            if name is None:
                return False
            try:
                await self._read_back(engine, slot, pool, name)
            except EngineError as error:
                slot.fresh_tokens = seat.common_blocks = 0  # it is empty now
                log.warning("a saved prompt was refused and is removed: %s", error)
                await asyncio.to_thread(self._prefixes.remove, match.entry)
                if isinstance(error, EngineDied):
                    raise EngineGone(str(error)) from error
                return False
        seat.is_shared = True  # whoever's prompt was in the slot, it is gone
        slot.fresh_tokens = 0
        self._bytes_per_s = _smooth(self._bytes_per_s, match.entry.size_bytes / (time.monotonic() - began_s))
        return True

    async def _read_back(self, engine: Engine, slot: Slot, pool: Pool, name: str) -> None:
        """Sound files are refused for want of room only, which idle slots take up: then those go, unused for longest
        first, as they would for a prompt that is read."""
        idle = sorted((each for each in pool.idle if each.turns), key=lambda each: each.used_at_s)
        while True:
            try:
                await engine.wire.restore_slot(slot.index, name)
                return
            except EngineDied:
                raise
            except EngineError:
                idle = [each for each in idle if each in pool.idle]
                if not idle:
                    raise
                gone = idle.pop(0)
                gone.empty()
                await engine.wire.erase_slot(gone.index)

    def _pays(self, match: Match, identity: Identity, held_tokens: int) -> bool:
        gain_tokens = match.tokens - held_tokens
        if gain_tokens < MIN_GAIN_TOKENS:
            return False
        prefill_per_s = self._prefill_per_s.get(identity.weights)
        if not (prefill_per_s and self._bytes_per_s):
            return True  # nobody would have saved it otherwise
        return match.entry.size_bytes / self._bytes_per_s < gain_tokens / prefill_per_s

    # --- saving ----------------------------------------------------------------------------------------------------

    async def save(self, engine: Engine, slot: Slot) -> None:
        """Keep what an idle slot holds, if it is worth it. Raises nothing."""
        holding, turns = slot.holding, slot.turns
        if engine.slot_folder is None or not isinstance(holding, Holding) or holding.tokens < MIN_TOKENS:
            return
        path = engine.slot_folder / secrets.token_hex(16)
        try:
            if not await asyncio.to_thread(self._prefixes.make_room, int(holding.token_bytes * holding.tokens)):
                return
            await engine.wire.save_slot(slot.index, path.name)
            if slot.turns != turns:
                return  # somebody sat down meanwhile: whose prompt is in the file, nobody knows
            slot.fresh_tokens = 0
            tokens = await asyncio.to_thread(self._prefixes.put, holding.identity, path, holding.model)
            log.debug("prompt saved tokens=%d model=%s", tokens, holding.model)
        except (BadSlotFile, EngineError) as error:
            log.warning("a prompt could not be saved: %s", error)
        except StorageError:
            pass  # it has said why
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def save_all(self, engine: Engine, slots: Iterable[Slot], timeout_s: float) -> None:
        """Keep what these slots hold that no file does, before their engine ends: those used last first."""
        worth = [slot for slot in slots if slot.fresh_tokens >= BLOCK_TOKENS]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for slot in sorted(worth, key=lambda each: -each.used_at_s):
                    if engine.alive:
                        await self.save(engine, slot)


def _smooth(known: float | None, measured: float) -> float:
    return measured if not known else _NEWEST * measured + (1 - _NEWEST) * known

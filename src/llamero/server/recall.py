"""What one answer takes out of the prompt cache on disk, and what it leaves to be saved. Source: scheduler §9.6."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from ..engines import Engine, LoadPlan
from ..errors import EngineError, EngineGone
from ..scheduler.estimate import token_bytes
from ..scheduler.facts import facts_of
from ..scheduler.loop import SAVE_FRESH_TOKENS, SAVE_IDLE_S, UNLOAD_SAVE_S
from ..scheduler.pool import Slot
from ..scheduler.prompt_cache import MIN_GAIN_TOKENS, Holding, PromptCache
from ..scheduler.runner import Lease
from ..store.manifests import PROJECTOR
from ..store.models import Model
from ..store.prefixes import Identity
from .dialogue import Dialogue

log = logging.getLogger(__name__)

CHARS_PER_TOKEN = 2
"""At least, in any language and vocabulary that a long prompt is likely to be of: half of what English has."""

EMPTY_TIMEOUT_S = 1.0
"""It takes the engine a moment, unless it is in the middle of a long batch."""


class Recall:
    """Of one lease. `lora` is the request's selection of adapters, as the engine takes it."""

    def __init__(self, prompts: PromptCache, lease: Lease, model: Model, lora: list[dict[str, Any]]) -> None:
        self._prompts = prompts
        self._lease = lease
        self._model = model
        self._lora = lora

    def begin(self) -> None:
        """Say whose and what the slot's prompt is from now on: a request that is broken off leaves nothing to save."""
        lease, model = self._lease, self._model
        if lease.seat is None or lease.engine.slot_folder is None:
            return
        slot, plan = lease.seat.slot, lease.engine.plan
        identity = identity_of(model, plan, lease.engine, self._lora, slot.owner)
        if not (isinstance(slot.holding, Holding) and slot.holding.identity == identity):
            slot.holding = Holding(identity, model.name.display, token_bytes(facts_of(model), plan.kv_type))
            slot.fresh_tokens = 0

    async def clear_the_way(self) -> None:
        """For a text that must come out the same each time: where in the cache its prompt lies changes last bits, and
        that depends on what idle slots hold. What runs beside it stays (scheduler R-76: one request at a time). What
        would have been saved in some seconds is saved now: nobody's conversation shall pay for another one's seed."""
        lease = self._lease
        if lease.seat is not None and lease.engine.plan.pool_tokens:
            long = [slot for slot in lease.runner.pool.idle if slot.fresh_tokens >= SAVE_FRESH_TOKENS]
            await self._prompts.save_all(lease.engine, long, UNLOAD_SAVE_S)
        await self._empty(lambda slot: slot.turns > 0)

    async def make_way(self) -> None:
        """Empty slots that nobody came back to for a while and that are cheap to fill again: each token in the cache
        that all slots share slows every answer down, whoever's it is."""
        since_s = time.monotonic() - SAVE_IDLE_S
        await self._empty(lambda slot: slot.tokens > 0 and slot.used_at_s < since_s and self._prompts.can_go(slot))

    async def _empty(self, goes: Callable[[Slot], bool]) -> None:
        """Empty idle slots of the shared cache, as long as the engine does it at once: one that has become busy would
        do it behind an answer."""
        lease = self._lease
        if lease.seat is None or not lease.engine.plan.pool_tokens:
            return
        try:
            async with asyncio.timeout(EMPTY_TIMEOUT_S):
                for slot in filter(goes, lease.runner.pool.idle):
                    slot.empty()
                    await lease.engine.wire.erase_slot(slot.index)
        except EngineGone:
            raise
        except (EngineError, TimeoutError) as error:  # a foreign engine may know no such thing
            log.debug("a slot could not be emptied: %s", error)

    async def restore(self, dialogue: Dialogue) -> int:
        """Bring back what is saved of a prompt, if that is worth it. Returns the nanoseconds that it took."""
        began_ns = time.monotonic_ns()
        seat, engine = self._lease.seat, self._lease.engine
        if seat is None or not isinstance(seat.slot.holding, Holding):
            return 0
        identity = seat.slot.holding.identity
        held_share = seat.common_blocks / max(1, len(seat.slot.trail)) if seat.is_shared else 0
        if dialogue.image_count or dialogue.chars * (1 - held_share) < MIN_GAIN_TOKENS * CHARS_PER_TOKEN:
            return 0
        if not await self._prompts.has(identity):
            return 0
        tokens = await dialogue.tokens()
        held_tokens = int(len(tokens) * held_share)
        most_tokens = engine.plan.ctx_tokens
        if len(tokens) >= most_tokens:
            return 0  # it will be shortened, and then begin otherwise
        is_restored = await self._prompts.restore(
            engine, seat, self._lease.runner.pool, identity, tokens, held_tokens, most_tokens
        )
        return time.monotonic_ns() - began_ns if is_restored else 0

    def note(self, dialogue: Dialogue) -> None:
        """What the slot holds when the answer is over, or broken off."""
        seat, usage = self._lease.seat, dialogue.bill.total
        if seat is None:
            return
        if not usage.prompt_tokens:
            seat.slot.tokens = seat.tokens  # at most: it was broken off
            return
        slot, window_tokens = seat.slot, self._lease.engine.plan.ctx_tokens
        held_tokens = usage.prompt_tokens + usage.predicted_tokens
        slot.tokens = min(held_tokens, window_tokens)
        if not isinstance(slot.holding, Holding):
            return
        self._prompts.learn(slot.holding.identity, usage)
        # a window that was shifted remembers what is gone; a prompt with pictures is not found again by its tokens
        is_lost = held_tokens > window_tokens or dialogue.image_count > 0
        slot.holding = dataclasses.replace(slot.holding, tokens=0 if is_lost else held_tokens)
        # what was not saved before counts as far as this prompt went on from it
        slot.fresh_tokens = min(slot.fresh_tokens, usage.cached_tokens) + held_tokens - usage.cached_tokens


def identity_of(model: Model, plan: LoadPlan, engine: Engine, lora: list[dict[str, Any]], owner: str) -> Identity:
    """Everything that makes the same tokens the same keys and values in this engine, and whose they are."""
    scales = [(plan.all_adapters[each["id"]].name, float(each["scale"])) for each in lora if each["scale"]]
    # two sets of rope factors, of which the length of the cache chooses; all else about rope is in the weights
    is_long_rope = model.gguf is not None and model.gguf.has("rope.scaling.original_context_length")
    return Identity(
        owner=owner,
        weights=str(model.weights_digest),
        projectors=tuple(str(layer.digest) for layer in model.manifest.of_type(PROJECTOR)),
        adapters=tuple(scales),
        kv_types=(plan.kv_type or "f16", plan.kv_type or "f16"),
        rope=str(plan.total_ctx_tokens) if is_long_rope else "",
        engine=f"{engine.build} flash={plan.flash_attention}",
    )

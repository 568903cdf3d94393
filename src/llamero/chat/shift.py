"""What an answer loses when it grows beyond its context window. Pure. Source: native-api §2.9 (step 3), §2.3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..messages import Done
from .prompt import MAX_CONTEXTS_PREDICTED

_NEVER_KEPT = 4
"""Places of the window that the engine leaves free of kept tokens, so that there is something to discard."""


def losses(done: Done, ctx_tokens: int, options: Mapping[str, Any], *, shifts: bool, adds_bos: bool) -> list[str]:
    """What must be said about the length of an answer. `shifts`: the engine goes on when its window is full."""
    usage, asked = done.usage, options["num_predict"]
    said = []
    if shifts:
        kept, count = discarded(
            ctx_tokens, options["num_keep"], usage.prompt_tokens, usage.predicted_tokens, adds_bos=adds_bos
        )
        if count:
            said.append(f"the answer outgrew the context: {count} tokens after the first {kept} were discarded")
    bound = MAX_CONTEXTS_PREDICTED * ctx_tokens
    if done.reason == "length" and usage.predicted_tokens >= bound and not 0 < asked <= bound:
        said.append(f"the answer was ended after {bound} tokens, {MAX_CONTEXTS_PREDICTED} times the context")
    return said


def discarded(
    ctx_tokens: int, keep: int, prompt_tokens: int, predicted_tokens: int, *, adds_bos: bool
) -> tuple[int, int]:
    """How many tokens stayed at the front, and how many behind them the engine has thrown away.

    Whenever all places of the window but one are taken, half of what is not kept goes. Negative `keep`: the whole
    prompt stays, as far as it fits.
    """
    kept = max(0, min((prompt_tokens if keep < 0 else keep) + adds_bos, ctx_tokens - _NEVER_KEPT))
    room = ctx_tokens - 1
    excess = prompt_tokens + predicted_tokens - 1 - room  # the last token is never read back
    if excess <= 0:
        return 0, 0
    at_once = (room - kept) // 2
    return kept, at_once * math.ceil(excess / at_once)

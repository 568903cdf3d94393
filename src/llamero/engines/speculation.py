"""How llama.cpp's server is told to guess the next tokens, for the model to confirm several of them at a time.

What guesses, and how far ahead, is in the load plan; no request can change it. Source: scheduler §10.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import LoadPlan, Speculation

NAMES: Mapping[Speculation, str] = {
    # Of the ways to guess by n-grams this one looks at nothing but the request's own tokens. `ngram-mod` remembers what
    # all others said: whoever asks would notice it by the speed, and the same seed would give another text. The maps
    # abort the process when the context shifts.
    "ngram": "ngram-simple",
    "draft": "draft-simple",
    "mtp": "draft-mtp",
    "dflash": "draft-dflash",
}
"""The engine's names."""

REFUSED = "failed to initialize speculative decoding context"
"""Of its log: it goes on without, and frees what it had loaded for it."""


def settings(plan: LoadPlan) -> dict[str, Any]:
    """As attributes of the wheel's parameters."""
    if not plan.speculation:
        return {}
    name = NAMES[plan.speculation].upper().replace("-", "_")
    chosen: dict[str, Any] = {"speculative.types": [f"COMMON_SPECULATIVE_TYPE_{name}"]}
    if plan.speculation == "ngram":
        chosen["speculative.ngram_simple.size_n"] = plan.match_tokens
        chosen["speculative.ngram_simple.size_m"] = plan.draft_tokens
        return chosen
    chosen["speculative.draft.n_max"] = plan.draft_tokens
    if plan.speculation == "mtp":
        chosen["speculative.draft.backend_sampling"] = True
    if plan.draft_model is not None:
        chosen["speculative.draft.mparams.path"] = str(plan.draft_model)
        if plan.gpu_layers == 0:
            chosen["speculative.draft.n_gpu_layers"] = 0
    return chosen


def flags(plan: LoadPlan) -> list[str]:
    """As flags of a `llama-server` program."""
    if not plan.speculation:
        return []
    chosen = ["--spec-type", NAMES[plan.speculation]]
    if plan.speculation == "ngram":
        sizes = ("--spec-ngram-simple-size-n", plan.match_tokens, "--spec-ngram-simple-size-m", plan.draft_tokens)
        return chosen + [str(each) for each in sizes]
    chosen += ["--spec-draft-n-max", str(plan.draft_tokens)]
    if plan.speculation == "mtp":
        chosen.append("--spec-draft-backend-sampling")
    if plan.draft_model is not None:
        chosen += ["--spec-draft-model", str(plan.draft_model)]
        if plan.gpu_layers == 0:
            chosen += ["--spec-draft-ngl", "0"]
    return chosen

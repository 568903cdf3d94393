"""What guesses the next tokens of answers, so that the model confirms several at a time: chosen for one engine. Pure.

Guesses never change what is answered, only how quickly. Source: scheduler §2.1, §10.1.
"""

from __future__ import annotations

from dataclasses import replace

from ..engines import LoadPlan
from .facts import ModelFacts

NGRAM_MATCH_TOKENS = 5
"""That must have come before in the same order. Fewer repeat by chance in prose, where every wrong guess costs time;
with more, less of a quotation is noticed (bench/speculation.py)."""
NGRAM_DRAFT_TOKENS = 8
"""Guessed at a time, no fewer than had to match: the engine would guess nothing. Reading them takes the time of some
three tokens on a CPU, and a longer guess is less often right to its end."""

DRAFT_TOKENS = 4
"""Of a draft model, unless `draft_num_predict` says otherwise (scheduler §2.1)."""
MAX_DRAFT_TOKENS = 64
"""No model guesses so much in a row rightly."""

UNGUESSED_TOKENS = 2
"""The engine guesses nothing for an answer that is bounded to so few."""

NO_DRAFT_MODEL = "draft_num_predict has no effect: the model has no draft model"


def speculating(
    plan: LoadPlan, facts: ModelFacts, draft_num_predict: int | None, *, uses_ngrams: bool, warnings: list[str]
) -> LoadPlan:
    """The plan with what guesses in it.

    1. A model that pools writes nothing.
    2. A draft model, or layers of the model's own that were trained for it and are asked for, guess as many tokens as
       `draft_num_predict` says; with 0 they do not.
    3. Else what has followed the same tokens before in the same request, if `uses_ngrams`. Not in models with a
       recurrent state: a wrong guess costs them a copy of it, and the right tokens are computed twice.

    The engine aborts when the guesses of all slots are more than one batch.
    """
    most_tokens = plan.batch_tokens // plan.slots - 1
    if plan.pools:  # 1
        return plan
    has_drafter = facts.drafter is not None or facts.looks_ahead
    tokens = _draft_tokens(facts, draft_num_predict, most_tokens if has_drafter else MAX_DRAFT_TOKENS, warnings)
    if tokens > 0 and facts.drafter is not None:  # 2
        return replace(plan, speculation=facts.drafter.kind, draft_tokens=tokens, draft_model=facts.drafter.path)
    if tokens > 0 and facts.looks_ahead:
        return replace(plan, speculation="mtp", draft_tokens=tokens)
    if tokens > 0:
        warnings.append(NO_DRAFT_MODEL)
    tokens = min(NGRAM_DRAFT_TOKENS, most_tokens)
    if not uses_ngrams or facts.shape.state or tokens < NGRAM_MATCH_TOKENS:  # 3
        return plan
    return replace(plan, speculation="ngram", draft_tokens=tokens, match_tokens=NGRAM_MATCH_TOKENS)


def _draft_tokens(facts: ModelFacts, asked: int | None, most_tokens: int, warnings: list[str]) -> int:
    if asked is None:
        return min(DRAFT_TOKENS, most_tokens) if facts.drafter is not None else 0
    tokens = max(0, min(asked, most_tokens, MAX_DRAFT_TOKENS))
    if tokens != asked:
        warnings.append(f"draft_num_predict {asked} changed to {tokens}")
    return tokens

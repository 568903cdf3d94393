"""What guesses tokens ahead, by model, options and the engine that it is loaded into (scheduler §2.1, §10.1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamero.engines import LoadPlan, Speculation
from llamero.options import merge_options
from llamero.scheduler.estimate import estimate
from llamero.scheduler.facts import Drafter, ModelFacts
from llamero.scheduler.plan import Defaults, Machine, Wanted, must_reload, want
from llamero.scheduler.shape import Shape
from llamero.scheduler.speculation import (
    DRAFT_TOKENS,
    MAX_DRAFT_TOKENS,
    NGRAM_DRAFT_TOKENS,
    NGRAM_MATCH_TOKENS,
    NO_DRAFT_MODEL,
    speculating,
)
from tests.scheduler.world import GIB, facts

MIB = 2**20
MACHINE = Machine(ram_available_bytes=8 * GIB, ram_total_bytes=16 * GIB)
PLAN = LoadPlan(key="m", model=Path("/m"), ctx_tokens=2048, slots=4, batch_tokens=512)

PLAIN = facts("m")
SMALL = Path("/small")
DRAFTED = replace(PLAIN, drafter=Drafter(SMALL, "draft", Shape(weights_bytes=100 * MIB)))
LOOKS_AHEAD = replace(PLAIN, looks_ahead=True)
RECURRENT = replace(PLAIN, shape=Shape(state=4096))
EMBEDDER = replace(DRAFTED, is_embedder=True)


def chosen(
    model: ModelFacts, asked: int | None = None, *, ngrams: bool = True, **plan: object
) -> tuple[LoadPlan, list[str]]:
    warnings: list[str] = []
    base = replace(PLAN, embedding=model.is_embedder, **plan)  # type: ignore[arg-type]  # fields by name
    return speculating(base, model, asked, uses_ngrams=ngrams, warnings=warnings), warnings


@pytest.mark.parametrize(
    ("model", "asked", "ngrams", "way", "tokens", "file"),
    [
        pytest.param(PLAIN, None, True, "ngram", NGRAM_DRAFT_TOKENS, None, id="nothing drafts: repeated text does"),
        pytest.param(PLAIN, None, False, "", 0, None, id="unless it is switched off"),
        pytest.param(PLAIN, 0, True, "ngram", NGRAM_DRAFT_TOKENS, None, id="the option is about draft models only"),
        pytest.param(RECURRENT, None, True, "", 0, None, id="a recurrent state is not wound back for nothing"),
        pytest.param(DRAFTED, None, True, "draft", DRAFT_TOKENS, SMALL, id="a draft model drafts by itself"),
        pytest.param(DRAFTED, None, False, "draft", DRAFT_TOKENS, SMALL, id="whatever the setting for repeated text"),
        pytest.param(DRAFTED, 7, True, "draft", 7, SMALL, id="so many as asked for"),
        pytest.param(DRAFTED, 0, True, "ngram", NGRAM_DRAFT_TOKENS, None, id="with 0 it does not"),
        pytest.param(DRAFTED, 0, False, "", 0, None, id="and then nothing does"),
        pytest.param(LOOKS_AHEAD, None, False, "", 0, None, id="own layers only when they are asked for"),
        pytest.param(LOOKS_AHEAD, 2, True, "mtp", 2, None, id="then they do"),
        pytest.param(EMBEDDER, 4, True, "", 0, None, id="who embeds writes nothing"),
    ],
)
def test_who_guesses(
    model: ModelFacts, asked: int | None, ngrams: bool, way: Speculation, tokens: int, file: Path | None
) -> None:
    plan, warnings = chosen(model, asked, ngrams=ngrams)
    assert (plan.speculation, plan.draft_tokens, plan.draft_model) == (way, tokens, file)
    assert plan.match_tokens == (NGRAM_MATCH_TOKENS if way == "ngram" else 0)
    assert warnings == []


@pytest.mark.parametrize("kind", ["draft", "mtp", "dflash"])
def test_a_drafting_file_says_how(kind: Speculation) -> None:
    model = replace(PLAIN, drafter=Drafter(SMALL, kind, Shape()))
    assert chosen(model)[0].speculation == kind


@pytest.mark.parametrize(
    ("model", "asked", "plan", "tokens", "warning"),
    [
        pytest.param(DRAFTED, -1, {}, 0, "draft_num_predict -1 changed to 0", id="below nothing"),
        pytest.param(
            DRAFTED,
            2**62,
            {},
            MAX_DRAFT_TOKENS,
            f"draft_num_predict {2**62} changed to {MAX_DRAFT_TOKENS}",
            id="absurd",
        ),
        pytest.param(
            DRAFTED, 16, {"slots": 4, "batch_tokens": 32}, 7, "draft_num_predict 16 changed to 7", id="a small batch"
        ),
        pytest.param(PLAIN, 4, {}, 0, NO_DRAFT_MODEL, id="nobody to draft"),
    ],
)
def test_what_cannot_be_is_brought_into_bounds_and_named(
    model: ModelFacts, asked: int, plan: dict[str, int], tokens: int, warning: str
) -> None:
    found, warnings = chosen(model, asked, ngrams=False, **plan)
    assert (found.draft_tokens, warnings) == (tokens, [warning])


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 8, 31, 32])
@pytest.mark.parametrize("model", [PLAIN, DRAFTED], ids=["repeated text", "draft model"])
@pytest.mark.parametrize("batch", [32, 64, 512])
def test_all_guesses_fit_into_one_batch(slots: int, model: ModelFacts, batch: int) -> None:
    """The engine aborts otherwise."""
    plan, warnings = chosen(model, slots=slots, batch_tokens=batch)
    assert plan.slots * (1 + plan.draft_tokens) <= batch
    assert warnings == []
    assert plan.scored_tokens == plan.slots * (1 + plan.draft_tokens)


# --- reloads -------------------------------------------------------------------------------------------------------


def wanted(model: ModelFacts = PLAIN, *, logprobs: bool = False, ngrams: bool = True, **options: int) -> Wanted:
    defaults = Defaults(slots=2, uses_ngrams=ngrams)
    return want(model, merge_options(options), None, MACHINE, defaults, tells_logprobs=logprobs)


def test_log_probabilities_are_told_by_an_engine_that_does_not_guess() -> None:
    for model in (PLAIN, DRAFTED):
        assert wanted(model).plan.speculation
        assert wanted(model, logprobs=True).plan == wanted(model).plan.undrafted


@pytest.mark.parametrize(
    ("loaded", "asked", "reload"),
    [
        pytest.param(wanted(), wanted(logprobs=True), True, id="it guesses"),
        pytest.param(wanted(ngrams=False), wanted(logprobs=True), False, id="it never did"),
        pytest.param(wanted(logprobs=True), wanted(), False, id="one that does not guess serves everybody"),
        pytest.param(wanted(DRAFTED), wanted(DRAFTED, logprobs=True), True, id="a draft model guesses"),
        pytest.param(wanted(DRAFTED, logprobs=True), wanted(DRAFTED), False, id="it is not loaded again at once"),
        pytest.param(wanted(DRAFTED), wanted(DRAFTED, draft_num_predict=4), False, id="the same, said aloud"),
        pytest.param(wanted(DRAFTED), wanted(DRAFTED, draft_num_predict=5), True, id="partly R-06 more of them"),
        pytest.param(wanted(DRAFTED), wanted(DRAFTED, draft_num_predict=0), True, id="none of them"),
        pytest.param(wanted(DRAFTED), wanted(), True, id="the same weights without a draft model"),
        pytest.param(wanted(), wanted(ngrams=False), False, id="repeated text is our own choice"),
    ],
)
def test_what_forces_a_reload(loaded: Wanted, asked: Wanted, reload: bool) -> None:
    assert must_reload(loaded, asked) is reload


# --- memory --------------------------------------------------------------------------------------------------------


def test_the_estimate_counts_the_draft_model() -> None:
    """Its weights, a KV cache as long as the model's, and what it computes."""
    shape = Shape(weights_bytes=100 * MIB, kv=1024, width=64, heads=1, vocabulary=1000)
    model = replace(PLAIN, drafter=Drafter(SMALL, "draft", shape))
    plan = wanted(model, num_ctx=1024).plan
    guess = estimate(model, plan)
    assert guess.drafter > 100 * MIB + 1024 * 2 * plan.total_ctx_tokens
    assert guess.drafter < 110 * MIB
    assert estimate(model, plan.undrafted).drafter == 0
    assert guess.total_bytes - estimate(model, plan.undrafted).total_bytes >= guess.drafter


def test_the_estimate_counts_the_scores_of_guessed_tokens() -> None:
    model = replace(PLAIN, shape=Shape(width=64, heads=1, attention=64, vocabulary=1_000_000))
    plan = wanted(model).plan
    more = estimate(model, plan).compute - estimate(model, plan.undrafted).compute
    assert more == plan.slots * plan.draft_tokens * 1_000_000 * 4

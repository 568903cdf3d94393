"""Numbers made of rounds: medians, rates, counts, and how they are written. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from .records import ModelResult, Round

NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Some rounds in one. Speeds and times are medians of the rounds that were answered, None when none tells."""

    ttft_s: float | None
    prefill_per_s: float | None
    decode_per_s: float | None
    total_s: float | None
    prompt_tokens: int
    predicted_tokens: int
    """Both of all rounds together."""
    rounds: int
    failures: int
    checked: int
    right: int


def figures(rounds: Sequence[Round]) -> Figures:
    answered = [each for each in rounds if not each.failure]
    checked = [each for each in answered if each.verdict != "unchecked"]
    return Figures(
        ttft_s=_median(each.ttft_s for each in answered),
        prefill_per_s=_median(prefill_per_s(each) for each in answered),
        decode_per_s=_median(decode_per_s(each) for each in answered),
        total_s=_median(each.total_s for each in answered),
        prompt_tokens=sum(each.prompt_tokens for each in answered),
        predicted_tokens=sum(each.predicted_tokens for each in answered),
        rounds=len(rounds),
        failures=len(rounds) - len(answered),
        checked=len(checked),
        right=sum(each.verdict == "right" for each in checked),
    )


def model_figures(model: ModelResult) -> Figures:
    """All tasks together."""
    return figures([each for task in model.tasks for each in task.rounds])


def prefill_per_s(one: Round) -> float | None:
    """Tokens of the prompt per second."""
    return one.prompt_tokens / one.prompt_s if one.prompt_tokens and one.prompt_s > 0 else None


def decode_per_s(one: Round) -> float | None:
    """Tokens of the answer per second."""
    return one.predicted_tokens / one.predicted_s if one.predicted_tokens and one.predicted_s > 0 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def mean_ratio(ratios: Iterable[float | None]) -> float | None:
    """The geometric mean: twice as fast and half as fast cancel out."""
    known = [value for value in ratios if value is not None and value > 0]
    return exp(sum(map(log, known)) / len(known)) if known else None


# --- as text -------------------------------------------------------------------------------------------------------


def seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def rate(value: float | None) -> str:
    """Tokens per second."""
    return NOTHING if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def share(count: int, of: int) -> str:
    return f"{count}/{of}" if of else NOTHING

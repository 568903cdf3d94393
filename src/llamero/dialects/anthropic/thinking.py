"""How much a model shall think, and what of it a reply shows. Source: compat-api §9.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...messages import Think, ThinkLevel
from ..fields import Fields

Display = Literal["shown", "omitted", "hidden"]
"""Omitted thinking is an empty block with a signature. Hidden is what nobody asked for and a model could not help."""

MAX_BUDGET = 2**31 - 1
"""Tokens; what the engine can count to."""

_LEVELS: dict[str, ThinkLevel] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
_KINDS = ("enabled", "disabled", "adaptive", "between_tools")


@dataclass(frozen=True, slots=True)
class Thinking:
    think: Think
    max_tokens: int | None
    display: Display
    warnings: tuple[str, ...]


def read_thinking(body: Fields, extension: Think, *, by_default: bool) -> Thinking:
    """`extension` is the field `think` of compat-api §1.3, which counts where this dialect's own fields say nothing.

    Anthropic's models do not think unless they are asked to; with `by_default` ours do as they like.
    """
    config, output = body.object("thinking"), body.object("output_config")
    kind = config and config.text("type")
    effort = ((output and output.text("effort")) or "").strip().lower()
    level = _LEVELS.get(effort)
    warnings = []
    if effort and level is None:
        warnings.append(f"output_config.effort {effort!r} is unknown and has no effect")
    if config and kind not in _KINDS:
        warnings.append(f"thinking of type {kind!r} is unknown and taken as 'adaptive'")
    think: Think
    if kind == "disabled":
        think = False
    elif kind == "enabled":
        think = level or True
    elif level is None and extension is not None:
        think = extension
    elif config is None and not effort and not by_default:
        think = False
    else:
        think = level
    return Thinking(think, _budget(config), _display(config, think), tuple(warnings))


def _budget(config: Fields | None) -> int | None:
    """Anthropic wants 1,024 at least, and less than the whole answer may have; small models do with less."""
    tokens = config.integer("budget_tokens") if config else None
    if config is None or tokens is None:
        return None
    if tokens < 0:
        raise config.invalid("budget_tokens", f"'{config.at('budget_tokens')}' must not be negative")
    return min(tokens, MAX_BUDGET)


def _display(config: Fields | None, think: Think) -> Display:
    if think is False:
        return "hidden"
    return "omitted" if config and config.text("display") == "omitted" else "shown"

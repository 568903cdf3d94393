"""How much a model shall think, and what of it a reply shows. Source: compat-api §9.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...messages import Think, ThinkLevel
from ..fields import Fields

Display = Literal["shown", "omitted", "hidden"]
"""Omitted thinking is an empty block with a signature. Hidden is what nobody asked for and a model could not help."""

_LEVELS: dict[str, ThinkLevel] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
_KINDS = ("enabled", "disabled", "adaptive", "between_tools")


@dataclass(frozen=True, slots=True)
class Thinking:
    think: Think
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
    if config and config.integer("budget_tokens") is not None:
        warnings.append("thinking.budget_tokens is not enforced")
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
    return Thinking(think, _display(config, think), tuple(warnings))


def _display(config: Fields | None, think: Think) -> Display:
    if think is False:
        return "hidden"
    return "omitted" if config and config.text("display") == "omitted" else "shown"

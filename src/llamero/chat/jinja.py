"""What the text of a model's Jinja tells, without rendering it: how to say whether to think, and the tags. Pure.

The engine renders Jinja, and reads the answers to it. What stands here is for what it must be told (modelfile-templates
§8.2), and for prompts and answers that go past its reading (§3.4).
"""

from __future__ import annotations

import re
from typing import Any

from ..messages import THINK_LEVELS, Think
from .pipeline import Tags

HARMONY = "harmony"

_UNREAD_CALLS = (("<start_function_call>", "functiongemma"), ("<function_calls>", "olmo3"))
"""With tools, the engine ends every answer of the first with an error, and makes JSON of the second's Python."""

_QUOTED = re.compile(r"""['"](\w+)['"]""")
_OFF = ("none", "no_think")
"""Words for no effort at all, in templates that have one."""

_THINKING_VARIABLE = re.compile(r"(?<![\w.'\"\[])thinking(?![\w'\"\]])")


def thinking_arguments(think: Think, jinja: str) -> dict[str, Any]:
    """The template's arguments that say whether and how hard to think, in the words that it looks for."""
    if think is None:
        return {}
    arguments: dict[str, Any] = {"enable_thinking": bool(think)}
    level = think if think in THINK_LEVELS else ""
    if "reasoning_effort" in jinja and (effort := _effort(think, jinja)):
        arguments["reasoning_effort"] = effort
    if "reasoning_strength" in jinja:
        arguments["reasoning_strength"] = (level or "high") if think else "none"
    if "medium_effort" in jinja and level == "medium":
        arguments["medium_effort"] = True
    if _THINKING_VARIABLE.search(jinja):
        arguments["thinking"] = bool(think)
    return arguments


def _effort(think: Think, jinja: str) -> str:
    """A level that the template knows: some raise an error for every other one. Empty: nothing is to be said."""
    known = set(_QUOTED.findall(jinja))
    level = think if isinstance(think, str) else "medium"
    if "xhigh" in known:  # it knows no `high`, and takes nothing at all for the most
        return "" if not think else "xhigh" if level in ("high", "max") else level
    if not think:
        return next((word for word in _OFF if word in known), "low")
    if level == "max" and "max" not in known:
        return "high"
    if level == "medium" and level not in known and {"low", "high"} <= known:
        return "high"
    return level


_TAGS = (
    ("<|channel|>", "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>", "<|channel>thought", "<channel|>"),
    ("<|START_TEXT|>", "<|START_THINKING|>", "<|END_THINKING|><|START_TEXT|>"),
    ("<|START_THINKING|>", "<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("[THINK]", "[THINK]", "[/THINK]"),
    ("<seed:think>", "<seed:think>", "</seed:think>"),
    ("</think>", "<think>", "</think>"),
)
"""What a family's Jinja shows, and the tags of its thinking. The first counts."""


def tags(jinja: str) -> Tags:
    """The tags of thinking, for answers that the engine does not read."""
    return next((Tags(opening, closing) for mark, opening, closing in _TAGS if mark in jinja), Tags())


def is_plain(jinja: str) -> bool:
    """Whether an answer without tools is text, and nothing else."""
    return not tags(jinja).opening and not parser(jinja)


def parser(jinja: str) -> str:
    """The built-in parser that reads answers in the template's form, if the generic ones cannot."""
    return HARMONY if "<|channel|>" in jinja else unread_calls(jinja)


def unread_calls(jinja: str) -> str:
    """The built-in parser for a form of calls that the engine takes for another one, or refuses (§8.1)."""
    return next((name for mark, name in _UNREAD_CALLS if mark in jinja), "")

"""Built-in parsers of raw output, by the names that models give (`PARSER`). They prompt nothing.

Source: modelfile-templates §8. The engine reads the output of most families by itself; these are for prompts that we
rendered, on the Go-template path.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...messages import Think
from ..pipeline import Parser
from . import bodies
from .declared import Declared
from .harmony import MARKS, HarmonyParser
from .sections import Family, SectionParser

__all__ = ["family_parser", "visible_tokens"]

_JSON_CALLS = ("<tool_call>", "</tool_call>")
_OLMO_CALLS = ("<function_calls>", "</function_calls>")
_LFM2_CALLS = ("<|tool_call_start|>", "<|tool_call_end|>")
_THINK = ("<think>", "</think>")

_QWEN3 = Family(bodies.json_object, *_JSON_CALLS)
_QWEN3_THINKING = Family(bodies.json_object, *_JSON_CALLS, *_THINK, begins_thinking=True, calls_end_thinking=True)
_XML_THINKING = Family(bodies.functions, *_JSON_CALLS, *_THINK, begins_thinking=True, calls_end_thinking=True)
_GLM = Family(bodies.argument_pairs, *_JSON_CALLS, *_THINK, begins_thinking=True, wants_required=True)
_LAGUNA = dataclasses.replace(_GLM, calls_end_thinking=True)
_DEEPSEEK = Family(
    bodies.separated,
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    *_THINK,
    begins_thinking=True,
    noise=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
)
_GEMMA4 = Family(bodies.gemma, "<|tool_call>", "<tool_call|>", "<|channel>thought\n", "<channel|>", hides_thinking=True)

FAMILIES: Mapping[str, Family] = {
    "qwen3": _QWEN3,
    "qwen3-thinking": _QWEN3_THINKING,
    "qwen3-vl-instruct": _QWEN3,
    "qwen3-vl-thinking": _QWEN3_THINKING,
    "qwen3-coder": Family(bodies.functions, *_JSON_CALLS),
    "qwen3.5": _XML_THINKING,
    "ornith": _XML_THINKING,
    "nemotron-3-nano": _XML_THINKING,
    "nemotron-3.5-nano": _XML_THINKING,
    "glm-4.7": _GLM,
    "glm-ocr": Family(bodies.argument_pairs, *_JSON_CALLS, wants_required=True),
    "laguna": _LAGUNA,
    "poolside-v1": _LAGUNA,
    "deepseek3": _DEEPSEEK,
    "cogito": dataclasses.replace(_DEEPSEEK, acts_at_once=True),
    "olmo3": Family(bodies.python, *_OLMO_CALLS),
    "olmo3-think": Family(bodies.python, *_OLMO_CALLS, *_THINK, begins_thinking=True),
    "lfm2": Family(bodies.python, *_LFM2_CALLS, takes_bare_calls=True),
    "lfm2-thinking": Family(bodies.python, *_LFM2_CALLS, *_THINK, takes_bare_calls=True),
    "ministral": Family(bodies.bracketed, "[TOOL_CALLS]", "", "[THINK]", "[/THINK]", hides_thinking=True),
    "gemma4": _GEMMA4,
    "gemma4-no-thinking": _GEMMA4,
    "functiongemma": Family(bodies.gemma, "<start_function_call>", "<end_function_call>"),
    "cohere": Family(
        bodies.json_list,
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        begins_thinking=True,
        noise=("<|START_TEXT|>", "<|END_TEXT|>"),
    ),
}


def visible_tokens(name: str) -> tuple[str, ...]:
    """Special tokens that this parser reads: the engine must be asked to show them (§6.4)."""
    if name == "harmony":
        return MARKS
    family = FAMILIES.get(name)
    if family is None:
        return ()
    tags = (family.opens_call, family.closes_call, family.opens_thinking, family.closes_thinking, *family.noise)
    return tuple(piece for tag in tags for piece in re.findall(r"<[^>]*>|\[[^]]*\]", tag))


def family_parser(
    name: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    new_id: Callable[[], str],
    think: Think = None,
    is_continued: bool = False,
    max_calls: int | None = None,
) -> Parser | None:
    """The parser of that name, or None: there is none, and the generic ones read the output.

    `is_continued`: the conversation ends with an assistant message that the model goes on with.
    """
    declared = Declared(tools)
    if name == "harmony":
        return HarmonyParser(declared.names, new_id=new_id, is_continued=is_continued, max_calls=max_calls)
    family = FAMILIES.get(name)
    if family is None:
        return None
    thinks = bool(think)
    is_open = thinks and family.begins_thinking and not is_continued and not (family.acts_at_once and declared)
    return SectionParser(family, declared, new_id=new_id, thinks=thinks, is_open=is_open, max_calls=max_calls)

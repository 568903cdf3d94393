"""Which parsers read the raw text of an answer: the family's own, or the generic ones for what the template shows.

Source: modelfile-templates §6.4, §7.3, §8.1. Only answers to prompts that we rendered are read here; where the engine
renders the template it reads the answer too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..messages import Think
from . import families
from .choice import MustCall, Tool, ToolChoice, name_of
from .families import family_parser
from .pipeline import Parser, Tags
from .tools import ToolParser

PASS_THROUGH = "passthrough"
"""The parser that reads nothing."""


def visible_tokens(tags: Tags, *, named: str, thinks: bool, calls: bool) -> list[str]:
    """Special tokens that the engine must be asked to show, in its field `preserved_tokens`."""
    return [*families.visible_tokens(named)] or tags.visible_tokens(thinks=thinks, calls=calls)


def reads_any_call(named: str) -> bool:
    """Whether calls are read by the tag that the template shows: no built-in parser has a say."""
    return named not in (PASS_THROUGH, "harmony", *families.FAMILIES)


def choose_parsers(
    tags: Tags,
    prompt: str,
    *,
    new_id: Callable[[], str],
    named: str = "",
    tools: Sequence[Tool] = (),
    choice: ToolChoice | None = None,
    think: Think = None,
    max_thinking_tokens: int | None = None,
    is_continued: bool = False,
) -> tuple[Parser, ...]:
    """The parsers for `Reader`, in order.

    `named`: the model's PARSER; unknown ones give way to the generic. `tools`: the request's, of which `choice` says
    which may be called. `max_thinking_tokens`: after so many the generic parser of thinking has heard enough.
    `is_continued`: the conversation ends with an assistant message that the model goes on with.
    """
    choice = choice or ToolChoice()
    offered = choice.offered(tools)
    if named == PASS_THROUGH:
        return ()
    family = family_parser(
        named, offered, new_id=new_id, think=think, is_continued=is_continued, max_calls=choice.max_calls
    )
    if family is not None:
        return (family,)
    thinking = tags.thinking(think, prompt, max_thinking_tokens)
    calls = ToolParser(map(name_of, offered), tags.call, new_id=new_id, max_calls=choice.max_calls) if offered else None
    return tuple(parser for parser in (thinking, calls) if parser is not None)


def call_parser(
    call: MustCall, tools: Sequence[Tool], choice: ToolChoice, *, new_id: Callable[[], str]
) -> tuple[Parser, ...]:
    """The parsers for an answer under the constraint of `must_call`: nothing but calls."""
    names = map(name_of, choice.offered(tools))
    return (ToolParser(names, call.tag, new_id=new_id, max_calls=choice.max_calls),)

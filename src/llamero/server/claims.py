"""What a request may fill of an engine's KV cache, and which conversation it goes on with; told before it is rendered.

Nothing is counted here: that costs a rendering. The bound on tokens is generous, and corrected when the engine has read
the prompt. Source: scheduler §4.7, §9.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..messages import ChatRequest, GenerateRequest, GenerationRequest, Message, Request
from ..scheduler.runner import Claim
from ..store.models import Model
from .caller import caller

BLOCK_CHARS = 256
"""Of a message, at most, that are compared as one."""

MESSAGE_TOKENS = 32
"""Around the text of one message, in any template."""
TEMPLATE_SHARE = 4
"""Of a template's characters no more than one in so many becomes a token of the prompt: the rest is its program."""


def visit() -> Claim:
    """Of a request that generates nothing: it takes no slot."""
    return Claim(party=caller.get().party, owner=caller.get().owner, visits=True)


def whole(request: Request) -> Claim:
    """Of a request that may take as much as one can."""
    who = caller.get()
    return Claim(party=who.party, owner=who.owner, is_batch=who.is_batch or request.is_batch)


def of_answer(request: GenerationRequest, model: Model, options: Mapping[str, Any]) -> Claim:
    """Of a request for an answer."""
    who = caller.get()
    texts = [*_texts(request, model)]
    return Claim(
        tokens=_most_tokens(request, texts, model, options["num_predict"]),
        party=who.party,
        owner=who.owner,
        is_batch=who.is_batch or request.is_batch,
        trail=trail(texts),
    )


def trail(texts: Iterable[str]) -> tuple[int, ...]:
    """Chained hashes of messages, block by block: they live no longer than the process, whose hashes they are."""
    links, link = [], 0
    for text in texts:
        for start in range(0, len(text), BLOCK_CHARS):
            link = hash((link, text[start : start + BLOCK_CHARS]))
            links.append(link)
    return tuple(links)


def _most_tokens(request: GenerationRequest, texts: list[str], model: Model, num_predict: int) -> int:
    """A token is a byte at least. 0: nobody knows."""
    if num_predict <= 0 or _has_media(request, model):
        return 0
    given = sum(len(text.encode()) for text in texts) + MESSAGE_TOKENS * len(texts)
    if isinstance(request, GenerateRequest):
        given += len(request.context) + len(request.tokens) + len(request.template) // TEMPLATE_SHARE
    template = len(model.template_in_force)
    return given + template // TEMPLATE_SHARE + num_predict


def _has_media(request: GenerationRequest, model: Model) -> bool:
    messages = (*model.messages, *(request.messages if isinstance(request, ChatRequest) else ()))
    return any(message.images for message in messages) or bool(isinstance(request, GenerateRequest) and request.images)


def _texts(request: GenerationRequest, model: Model) -> Iterator[str]:
    """What the prompt is made of, in its order."""
    if isinstance(request, ChatRequest):
        yield model.system
        yield from (msgspec.json.encode(tool).decode() for tool in request.tools)
        for message in (*model.messages, *request.messages):
            yield _text(message)
    elif isinstance(request, GenerateRequest):
        if not request.raw:
            yield request.system or model.system
            yield from map(_text, model.messages)
        yield request.prompt
        yield request.suffix


def _text(message: Message) -> str:
    calls = msgspec.json.encode([call.arguments for call in message.tool_calls]).decode() if message.tool_calls else ""
    return f"{message.role}\0{message.content}\0{message.thinking}\0{calls}"

"""From a request to the engine's request: which messages, which sampling, which body. Pure.

The engine renders a model's Jinja template itself, so a prompt here is a list of messages; `/completion` bodies are for
prompts that are text already. Source: modelfile-templates §3.2, §3.4, §4.1; scheduler §12.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..messages import Message
from . import pictures, schema
from .media import Media

MAX_CONTEXTS_PREDICTED = 10
"""An open-ended answer ends after this many context windows: with context shift it would never end by itself."""


RANDOM_SEED = 2**32 - 1
"""The engine has 32 bits for a seed, and this value asks for a random one."""


def assemble(system: str, stored: Sequence[Message], asked: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation that a chat request stands for: model SYSTEM, model MESSAGEs, then what was sent.

    The model's SYSTEM steps back when the request's first message is a system message.
    """
    own = (Message("system", system),) if system and not (asked and asked[0].role == "system") else ()
    return (*own, *stored, *asked)


def strip_old_thinking(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Cut a leading `<think>…</think>` out of the assistant's turns before the last user turn (qwen3, deepseek-r1)."""
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    return tuple(
        _without_thinking(message) if message.role == "assistant" and i < last_user else message
        for i, message in enumerate(messages)
    )


def _without_thinking(message: Message) -> Message:
    if not message.content.startswith("<think>"):
        return message
    _, closed, rest = message.content.partition("</think>")
    return dataclasses.replace(message, content=rest.lstrip()) if closed else message


def kept(messages: Sequence[Message], start: int, *, from_user: bool = False) -> tuple[Message, ...]:
    """The conversation without its first `start` messages; system messages stay, moved to the front.

    With `from_user` what is left begins with words of the user: the last of those dropped stay where there are others.
    """
    dropped, rest = messages[:start], messages[start:]
    system = [message for message in dropped if message.role == "system"]
    first = next((message.role for message in rest if message.role != "system"), "user")
    asked = [message for message in dropped if message.role == "user"] if from_user and first != "user" else []
    return (*system, *asked[-1:], *rest)


async def fit(messages: Sequence[Message], limit_tokens: int, count: Callable[[int], Awaitable[int]]) -> int:
    """How many messages must be dropped from the front so that the rest fits; the last one always stays.

    `count(start)` gives the tokens of the conversation without its first `start` messages. The answer is that of trying
    0, 1, 2, … in turn; it is found by bisection, because every try costs a rendering.
    """
    last = len(messages) - 1
    if last <= 0 or await count(0) <= limit_tokens:
        return 0
    low, high = 0, last  # `low` does not fit; `high` does, or is all there is left
    while high - low > 1:
        middle = (low + high) // 2
        if await count(middle) <= limit_tokens:
            high = middle
        else:
            low = middle
    return high


def sampling(options: Mapping[str, Any], ctx_tokens: int, engine_keeps: int = 0) -> dict[str, Any]:
    """The sampling part of every engine request. Zero values are sent too: absent means the engine's own default.

    `engine_keeps` is that default for `num_keep`. Numbers that only we understand are put in the engine's words.
    """
    predict, seed = options["num_predict"], options["seed"]
    keep = max(-1, min(options["num_keep"], ctx_tokens))
    last = options["repeat_last_n"]
    bound = MAX_CONTEXTS_PREDICTED * ctx_tokens
    body: dict[str, Any] = {
        "stream": True,
        # a reused prompt gives other last bits, hence another text for one seed
        "cache_prompt": not (seed >= 0 and options["temperature"] > 0),
        "n_predict": bound if predict <= 0 or predict > bound else predict,
        **{
            name: options[name]
            for name in (
                "temperature",
                "top_k",
                "top_p",
                "min_p",
                "repeat_penalty",
                "frequency_penalty",
                "presence_penalty",
            )
        },
        "repeat_last_n": ctx_tokens if last < 0 else min(last, ctx_tokens),
        "seed": seed % RANDOM_SEED if seed >= 0 else -1,
    }
    if keep or engine_keeps:
        body["n_keep"] = keep
    if options["typical_p"]:
        body["typical_p"] = options["typical_p"]
    if options["stop"]:
        body["stop"] = list(options["stop"])
    return body


def template_body(
    messages: Sequence[Message],
    media: Mapping[bytes, Media],
    tools: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `/apply-template` and `/v1/chat/completions` both need to render a prompt.

    `tools` is the part of the body that speaks of them (`choice.ToolChoice.for_chat`), `arguments` what the template
    gets besides (`jinja.thinking_arguments`).
    """
    body: dict[str, Any] = {"messages": [_message(message, media) for message in messages], **(tools or {})}
    if arguments:
        body["chat_template_kwargs"] = dict(arguments)
    return body


def matched(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with calls and their results named after each other: templates look for either.

    A call without an id gets one, and a result the name or the id of the call that it answers: by the one that it
    has, else in order.
    """
    complete: list[Message] = []
    waiting: dict[str, str] = {}
    """Names by id, of the calls without a result."""
    for message in messages:
        if message.tool_calls:
            calls = tuple(
                call if call.id else dataclasses.replace(call, id=_call_id(len(complete), number))
                for number, call in enumerate(message.tool_calls)
            )
            waiting |= {call.id: call.name for call in calls}
            message = dataclasses.replace(message, tool_calls=calls)
        elif message.role == "tool":
            message = _named(message, waiting)
            waiting.pop(message.tool_call_id, None)
        complete.append(message)
    return tuple(complete)


def _named(result: Message, waiting: Mapping[str, str]) -> Message:
    id_, name = result.tool_call_id, result.tool_name
    if not id_:
        id_ = next((known for known, called in waiting.items() if name in ("", called)), "")
    return dataclasses.replace(result, tool_call_id=id_, tool_name=name or waiting.get(id_, ""))


def _call_id(message: int, call: int) -> str:
    """Nine letters and digits: some templates take nothing else (Mistral's)."""
    return f"call{message % 1000:03d}{call % 100:02d}"


def continued(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with its last assistant messages as one: the engine goes on with one and refuses two.

    One that says nothing is an answer that has not begun: for it, the engine would leave out the assistant's header.
    """
    *before, last = messages
    while before and before[-1].role == last.role == "assistant" and not before[-1].tool_calls:
        earlier = before.pop()
        last = dataclasses.replace(
            last,
            content="\n\n".join(filter(None, (earlier.content, last.content))),
            thinking="\n\n".join(filter(None, (earlier.thinking, last.thinking))),
            images=earlier.images + last.images,
        )
    says = last.content or last.thinking or last.images or last.tool_calls
    return (*before, last) if says or last.role != "assistant" or not before else tuple(before)


def _message(message: Message, media: Mapping[bytes, Media]) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": _content(message, media)}
    if message.thinking:
        body["reasoning_content"] = message.thinking
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        body["name"] = message.tool_name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _content(message: Message, media: Mapping[bytes, Media]) -> str | list[dict[str, Any]]:
    """Each picture takes the place of the next literal `[img]`; those left over stand behind the text (§3.4)."""
    if not message.images:
        return message.content
    parts: list[dict[str, Any]] = []
    pieces = message.content.split(pictures.PLACE, len(message.images))
    for text, image in itertools.zip_longest(pieces, message.images):
        if text:
            parts.append({"type": "text", "text": text})
        if image is not None:
            parts.append(_part(media[image]))
    return parts


def _part(media: Media) -> dict[str, Any]:
    data = base64.b64encode(media.data).decode()
    if media.kind == "audio":
        return {
            "type": "input_audio",
            "input_audio": {"data": data, "format": "mp3" if "mpeg" in media.mime else "wav"},
        }
    return {"type": "image_url", "image_url": {"url": f"data:{media.mime};base64,{data}"}}


def completion_constraint(format: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """`format` as a part of a `/completion` body."""
    if format is None:
        return {}
    return schema.for_completion({"type": "object"} if isinstance(format, str) else format)


def logprob_fields(*, wanted: bool, top: int) -> dict[str, Any]:
    """How to ask for log-probabilities; the engine gives none for n = 0.

    In its chat as well: under OpenAI's names for it, it refuses them in a stream with tools.
    """
    return {"n_probs": max(top, 1)} if wanted else {}


def thinking_limit(tokens: int | None, opening: str, closing: str) -> dict[str, Any]:
    """How to have the engine's chat end the thinking, with its closing tag, where it has taken so many tokens.

    The tags are for templates in which it finds none itself.
    """
    if tokens is None or not (opening and closing):
        return {}
    return {
        "reasoning_budget_tokens": tokens,
        "reasoning_budget_start_tag": opening,
        "reasoning_budget_end_tags": [closing],
        "reasoning_budget_message": "",  # without it there is nothing to end the thinking with
    }


def cut_tokens(tokens: Sequence[int], ctx_tokens: int, keep: int, *, adds_bos: bool) -> list[int]:
    """A prompt of `ctx_tokens` or more, cut so that half of what is not kept stays free for the answer.

    The first `keep` tokens (negative: all that fit) and the newest ones survive.
    """
    keep = min(len(tokens) if keep < 0 else keep + adds_bos, ctx_tokens - 1)
    limit = ctx_tokens - max((ctx_tokens - keep) // 2, 1)
    return [*tokens[:keep], *tokens[len(tokens) - (limit - keep) :]]

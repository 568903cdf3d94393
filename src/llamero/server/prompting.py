"""Which way a model's prompts are made, and the dialogue that goes it. Source: modelfile-templates §3.4, §3.5.

1. `raw`: the client's text, untouched.
2. A suffix: the TEMPLATE with it, or the tokens that the model has for filling in.
3. A TEMPLATE of the request, or the model's where it counts: rendered by us.
4. Behind a `context`: rendered by the engine, but answered as text.
5. Else the engine renders the Jinja and reads the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ..chat import jinja, prompt
from ..chat.families.harmony import harmony_names
from ..chat.pipeline import Tags
from ..engines.wire import Wire
from ..messages import GenerateRequest, Message, ToolCall
from ..store.capabilities import infill_tokens
from ..store.models import Model
from ..template.cache import parsed, tags_of
from ..template.render import Template, render
from .dialogue import Dialogue, Talk, Window
from .engine_chat import EngineChat
from .rendered_chat import Manner, RenderedChat


def chat(model: Model, wire: Wire, window: Window, talk: Talk, template: str = "") -> Dialogue:
    """For a conversation. `template` is the request's own."""
    if template or model.prompt_path == "go":
        go = parsed(template) if template else model.go_template
        return RenderedChat(wire, window, talk, _go(go, model, talk))
    # a model that names a renderer shows its pictures as that would
    return EngineChat(wire, window, talk, _jinja(model), "spaced" if model.config.renderer else "front")


def completion(model: Model, wire: Wire, window: Window, talk: Talk, request: GenerateRequest) -> Dialogue:
    """For a prompt that is text: `raw`, or before a suffix. The only message of `talk` holds it."""
    if request.raw:
        manner = Manner(_untouched, _tags(model), is_raw=True)
    else:
        go = parsed(request.template) if request.template else model.go_template
        tokens = infill_tokens(model.gguf) if model.gguf else None
        if tokens and not request.template and "suffix" not in go.identifiers:
            manner = _infill(wire, tokens, request.suffix)
        else:
            manner = _fill_in(go, talk, request.suffix)
    return RenderedChat(wire, window, talk, manner)


async def after_context(
    model: Model, wire: Wire, window: Window, talk: Talk, context: Sequence[int], template: str = ""
) -> Dialogue:
    """For a prompt behind the tokens of an earlier conversation."""
    before = await wire.detokenize(context)
    if template or model.prompt_path == "go":
        go = parsed(template) if template else model.go_template
        return RenderedChat(wire, window, talk, _go(go, model, talk), before)
    text = _jinja(model)

    async def by_engine(messages: Sequence[Message]) -> str:
        plain = [message if not message.images else _without_images(message) for message in messages]
        arguments = jinja.thinking_arguments(talk.think, text)
        return await wire.apply_template(prompt.template_body(plain, {}, {}, arguments))

    return RenderedChat(wire, window, talk, Manner(by_engine, jinja.tags(text), jinja.parser(text)), before)


def _jinja(model: Model) -> str:
    return model.jinja or model.bundled_jinja


def _tags(model: Model) -> Tags:
    return Tags(*tags_of(model.go_template)) if model.prompt_path == "go" else jinja.tags(_jinja(model))


def _without_images(message: Message) -> Message:
    return Message(message.role, message.content, message.thinking)


async def _untouched(messages: Sequence[Message]) -> str:
    return messages[0].content


# --- Go templates ----------------------------------------------------------------------------------------------------


def _go(template: Template, model: Model, talk: Talk) -> Manner:
    names = harmony_names(_names(talk)) if model.parser == "harmony" else {}
    tools = [_renamed(tool, names) for tool in talk.offered]

    async def by_us(messages: Sequence[Message]) -> str:
        # in a thread: a template from a stranger may take its time, up to the limits of `template.meter`
        called = [_with_names(message, names) for message in prompt.matched(messages)]
        return await asyncio.to_thread(render, template, called, today=date.today(), tools=tools, think=talk.think)

    return Manner(by_us, Tags(*tags_of(template)), model.parser)


def _fill_in(template: Template, talk: Talk, suffix: str) -> Manner:
    async def by_us(messages: Sequence[Message]) -> str:
        before = messages[0].content
        return await asyncio.to_thread(
            render, template, today=date.today(), prompt=before, suffix=suffix, think=talk.think
        )

    return Manner(by_us, Tags(*tags_of(template)), is_raw=True)


def _names(talk: Talk) -> list[str]:
    return [tool.get("function", {}).get("name", "") for tool in talk.offered]


def _renamed(tool: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    function = tool.get("function", {})
    name = function.get("name", "")
    return {**tool, "function": {**function, "name": names[name]}} if name in names else tool


def _with_names(message: Message, names: Mapping[str, str]) -> Message:
    if not names or not (message.tool_calls or message.tool_name):
        return message
    calls = tuple(
        ToolCall(names.get(call.name, call.name), call.arguments, call.id, call.index) for call in message.tool_calls
    )
    name = names.get(message.tool_name, message.tool_name)
    return Message(message.role, message.content, message.thinking, message.images, calls, name, message.tool_call_id)


# --- filling in without a template -----------------------------------------------------------------------------------


def _infill(wire: Wire, tokens: tuple[int, int, int], suffix: str) -> Manner:
    """By the model's own tokens: what is before the gap, what is behind it, and then what belongs into it."""

    async def by_tokens(messages: Sequence[Message]) -> str:
        pre, suf, mid = [await wire.detokenize([token]) for token in tokens]
        return f"{pre}{messages[0].content}{suf}{suffix}{mid}"

    return Manner(by_tokens, Tags(), is_raw=True)

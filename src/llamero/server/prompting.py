"""Which way a model's prompts are made, and the dialogue that goes it. Source: modelfile-templates §3.4, §3.5.

1. `raw`: the client's text, untouched.
2. A suffix: the TEMPLATE with it, or the tokens that the model has for filling in.
3. A TEMPLATE of the request, or the model's where it counts: rendered by us.
4. Behind a `context`, and prompts of models that answer with text alone: rendered by the engine, answered as text.
5. Else the engine renders the Jinja and reads the answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date

from ..chat import jinja, prompt
from ..chat.choice import Tool, ToolChoice, for_jinja, name_of
from ..chat.families.harmony import harmony_names
from ..chat.pipeline import Tags
from ..engines.wire import Wire
from ..messages import GenerateRequest, Message
from ..store.capabilities import infill_tokens
from ..store.models import Model
from ..template.cache import parsed, tags_of
from ..template.render import Template, render
from .dialogue import Dialogue, Talk, Window
from .engine_chat import EngineChat
from .rendered_chat import Manner, RenderedChat


def chat(
    model: Model, wire: Wire, window: Window, talk: Talk, template: str = "", *, is_prompt: bool = False
) -> Dialogue:
    """For a conversation. `template` is the request's own; `is_prompt`: it is one prompt, which may be cut (§4.2)."""
    if template or model.prompt_path == "go":
        go = parsed(template) if template else model.go_template
        talk = _harmonized(talk) if model.parser == jinja.HARMONY else talk
        return RenderedChat(wire, window, talk, _go(go, model, talk))
    is_plain = jinja.is_plain(_jinja(model)) and not talk.think
    if is_prompt and is_plain and not any(message.images for message in talk.messages):
        return RenderedChat(wire, window, talk, _by_engine(wire, _jinja(model), talk))
    tools, warnings = for_jinja(talk.choice, talk.tools)
    dialogue = _jinja_chat(model, wire, window, dataclasses.replace(talk, tools=tools))
    dialogue.warnings += warnings
    return dialogue


def _jinja_chat(model: Model, wire: Wire, window: Window, talk: Talk) -> Dialogue:
    text = _jinja(model)
    if talk.offered and jinja.unread_calls(text):
        return RenderedChat(wire, window, talk, _by_engine(wire, text, talk))
    talk = _harmonized(talk) if jinja.parser(text) == jinja.HARMONY else talk
    # a model that names a renderer shows its pictures as that would
    return EngineChat(wire, window, talk, text, "spaced" if model.config.renderer else "front")


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
    return RenderedChat(wire, window, talk, _by_engine(wire, _jinja(model), talk), before)


def _jinja(model: Model) -> str:
    return model.jinja or model.bundled_jinja


def _tags(model: Model) -> Tags:
    return Tags(*tags_of(model.go_template)) if model.prompt_path == "go" else jinja.tags(_jinja(model))


def _by_engine(wire: Wire, text: str, talk: Talk) -> Manner:
    """The engine renders its Jinja, and we read the answer."""

    async def rendered(messages: Sequence[Message]) -> str:
        called = prompt.continued(prompt.matched(messages))
        plain = [dataclasses.replace(message, images=()) for message in called]
        arguments = jinja.thinking_arguments(talk.think, text)
        tools = ToolChoice().for_chat(talk.offered)
        return await wire.apply_template(prompt.template_body(plain, {}, tools, arguments))

    return Manner(rendered, jinja.tags(text), jinja.parser(text))


def _harmonized(talk: Talk) -> Talk:
    """With names of tools that Harmony can say."""
    names = harmony_names(map(name_of, talk.offered))
    tools = tuple(_renamed(tool, names) for tool in talk.offered)
    messages = tuple(_with_names(message, names) for message in talk.messages)
    meant = {said: name for name, said in names.items()}
    choice = dataclasses.replace(talk.choice, names=None)  # only those that may be called are left
    return dataclasses.replace(talk, messages=messages, tools=tools, choice=choice, meant=meant)


def _renamed(tool: Tool, names: Mapping[str, str]) -> Tool:
    function = tool.get("function", tool)
    return {**tool, "function": {**function, "name": names[name_of(tool)]}}


def _with_names(message: Message, names: Mapping[str, str]) -> Message:
    if not (message.tool_calls or message.tool_name):
        return message
    calls = tuple(dataclasses.replace(call, name=names.get(call.name, call.name)) for call in message.tool_calls)
    name = names.get(message.tool_name, message.tool_name)
    return dataclasses.replace(message, tool_calls=calls, tool_name=name)


async def _untouched(messages: Sequence[Message]) -> str:
    return messages[0].content


# --- Go templates ----------------------------------------------------------------------------------------------------


def _go(template: Template, model: Model, talk: Talk) -> Manner:
    think = (
        "high" if talk.think == "max" and model.parser == jinja.HARMONY else talk.think
    )  # Harmony knows three levels

    async def by_us(messages: Sequence[Message]) -> str:
        # in a thread: a template from a stranger may take its time, up to the limits of `template.meter`
        called, tools = prompt.matched(messages), talk.offered
        return await asyncio.to_thread(render, template, called, today=date.today(), tools=tools, think=think)

    return Manner(by_us, Tags(*tags_of(template)), model.parser)


def _fill_in(template: Template, talk: Talk, suffix: str) -> Manner:
    async def by_us(messages: Sequence[Message]) -> str:
        before = messages[0].content
        return await asyncio.to_thread(
            render, template, today=date.today(), prompt=before, suffix=suffix, think=talk.think
        )

    return Manner(by_us, Tags(*tags_of(template)), is_raw=True)


# --- filling in without a template -----------------------------------------------------------------------------------


def _infill(wire: Wire, tokens: tuple[int, int, int], suffix: str) -> Manner:
    """By the model's own tokens: what is before the gap, what is behind it, and then what belongs into it."""

    async def by_tokens(messages: Sequence[Message]) -> str:
        pre, suf, mid = [await wire.detokenize([token]) for token in tokens]
        return f"{pre}{messages[0].content}{suf}{suffix}{mid}"

    return Manner(by_tokens, Tags(), is_raw=True)

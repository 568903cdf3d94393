"""One answer on a leased engine: from a dialogue to the steps of a reply.

Source: native-api §2.9, §2.10, §3.7, §3.8.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from ..chat import prompt
from ..chat.choice import ToolChoice
from ..chat.shift import losses
from ..engines import LoadPlan
from ..engines.wire import Wire
from ..errors import ContextTooLong, InvalidField
from ..messages import (
    Delays,
    Done,
    Event,
    Finished,
    GenerateRequest,
    GenerationRequest,
    Message,
    Rendered,
    Started,
    Step,
    Text,
    Think,
    Thinking,
    ToolCall,
    Usage,
)
from ..scheduler.facts import facts_of
from ..scheduler.plan import Wanted
from ..scheduler.pool import Seat
from ..store.models import Model
from . import prompting
from .account import Account
from .adapters import Selection
from .checks import Constraint, check_capabilities, think_of
from .dialogue import Asked, Bill, Dialogue, Events, Talk, Window
from .recall import Recall
from .token_prompt import TokenPrompt

TEMPLATE_REFUSED = "the engine cannot use the chat template in the model's file: prompts are made by {} instead"
INSTEAD = {"go": "its TEMPLATE", "jinja": "the template of its family", "chatml": "ChatML"}


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: what it wants loaded, with which options, and what must be said about it."""

    model: Model
    options: Mapping[str, Any]
    wanted: Wanted
    warnings: tuple[str, ...]
    started_ns: int
    selection: Selection = field(default_factory=Selection)
    keep_alive_ns: int | None = None
    """How long the model stays when it is idle again; None: as it is."""

    def without_jinja(self) -> Job:
        """The same on an engine that refused the chat template in the file (modelfile-templates §3.5, end)."""
        if self.model.prompt_path != "jinja":
            return self
        model = self.model.without_jinja
        warning = TEMPLATE_REFUSED.format(INSTEAD[model.prompt_path])
        return replace(self, model=model, warnings=(*self.warnings, warning))


@dataclass(frozen=True, slots=True)
class Ready:
    """A model leased for one job."""

    job: Job
    wire: Wire
    plan: LoadPlan
    """Of the engine, which may have been loaded for another request."""
    load_ns: int
    delays: Delays
    recall: Recall
    lora: list[dict[str, Any]] = field(default_factory=list)
    """How much each adapter of the engine counts; empty where it has none."""
    seat: Seat | None = None
    """The slot that is ours; None for a request that generates nothing."""
    settle: Callable[[int], None] = lambda tokens: None
    """Say how much of the KV cache the request may fill, once its prompt is counted."""
    note: Callable[[Account], None] = lambda account: None
    """Say what the work has taken, when it is over."""

    @property
    def ctx_tokens(self) -> int:
        return self.plan.ctx_tokens

    @property
    def keep_tokens(self) -> int:
        """What the engine keeps of a prompt unless a request says it."""
        return self.plan.keep_tokens

    def account(self, usage: Usage, bill: Bill | None = None) -> Account:
        """What the work has taken, now that it is over; without a `bill` nothing was generated."""
        began_ns = self.job.started_ns
        return Account(
            model=self.job.model.name.display,
            began_ns=began_ns,
            ready_ns=began_ns + self.load_ns,
            ended_ns=time.monotonic_ns(),
            delays=self.delays,
            usage=usage,
            pace=bill.pace if bill else None,
            is_finished=bill is None or bill.is_closed,
        )

    @property
    def window(self) -> Window:
        plan = self.job.wanted.plan
        return Window(self.ctx_tokens, self.job.options["num_keep"], plan.context_shift, bool(plan.projectors))


async def chat(
    messages: tuple[Message, ...],
    tools: tuple[dict[str, Any], ...],
    choice: ToolChoice,
    request: GenerationRequest,
    constraint: Constraint,
    ready: Ready,
) -> AsyncGenerator[Step, None]:
    """Answer a conversation."""
    model = ready.job.model
    if tools:  # the template that the engine refused may have been the one that knew them
        check_capabilities(request.model, model, "chat", ["tools"])
    think = think_of(request, model)
    talk = Talk(messages, tools, choice, think, hides_thinking=request.hides_thinking and think is False)
    dialogue = prompting.chat(model, ready.wire, ready.window, talk)
    async with aclosing(_answer(dialogue, request, ready, constraint)) as steps:
        async for step in steps:
            yield step


async def count(
    messages: tuple[Message, ...], tools: tuple[dict[str, Any], ...], choice: ToolChoice, think: Think, ready: Ready
) -> int:
    """Tokens of the prompt that a conversation makes."""
    talk = Talk(messages, tools, choice, think)
    return await prompting.chat(ready.job.model, ready.wire, ready.window, talk).count()


async def generate(
    asked: Message, request: GenerateRequest, constraint: Constraint, ready: Ready
) -> AsyncGenerator[Step, None]:
    """Complete a prompt: a chat of one message, unless it is `raw`, in tokens, or stands before a suffix."""
    model, wire, window = ready.job.model, ready.wire, ready.window
    think = think_of(request, model)
    if request.tokens:
        dialogue: Dialogue = TokenPrompt(wire, window, request.tokens)
    elif request.raw or request.suffix:
        dialogue = prompting.completion(model, wire, window, Talk((asked,), think=think), request)
    else:
        system = request.system or model.system
        stored = () if request.context else model.messages
        talk = Talk((*((Message("system", system),) if system else ()), *stored, asked), think=think)
        if request.context:
            check_tokens("context", request.context, model)
            dialogue = await prompting.after_context(model, wire, window, talk, request.context, request.template)
        else:
            dialogue = prompting.chat(model, wire, window, talk, request.template, is_prompt=True)
    steps = _answer(dialogue, request, ready, constraint) if request.generates else _only_counted(dialogue, ready)
    async with aclosing(steps):
        async for step in steps:
            yield step


async def _only_counted(dialogue: Dialogue, ready: Ready) -> AsyncGenerator[Step, None]:
    """An answer without a word, and what its prompt comes to."""
    job = ready.job
    yield Started(job.warnings, fingerprint=job.model.digest)
    usage = Usage(prompt_tokens=await dialogue.count())
    total_ns = time.monotonic_ns() - job.started_ns
    yield Finished(
        "length",
        usage,
        total_ns,
        ready.load_ns,
        warnings=job.warnings,
        delays=ready.delays,
        fingerprint=job.model.digest,
    )


def check_tokens(field: str, tokens: Iterable[int], model: Model) -> None:
    """Raises InvalidField for one that the model has not."""
    vocabulary = facts_of(model).vocabulary
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise InvalidField(f"{field}: {token} is not a token of this model", field)


async def _answer(
    dialogue: Dialogue, request: GenerationRequest, ready: Ready, constraint: Constraint
) -> AsyncGenerator[Step, None]:
    if request.render_only:
        if request.truncate:
            await dialogue.fit()
        shown = await dialogue.shown()
        yield Rendered(shown, dialogue.image_count, (*ready.job.warnings, *constraint.warnings, *dialogue.warnings))
        return
    await dialogue.read_media()
    sampling = prompt.sampling(ready.job.options, ready.ctx_tokens, ready.keep_tokens)
    if request.logit_bias:
        check_tokens("logit_bias", request.logit_bias, ready.job.model)
        sampling["logit_bias"] = list(request.logit_bias.items())
    if ready.lora:
        sampling["lora"] = ready.lora
    ready.recall.begin()
    if sampling["cache_prompt"]:
        await ready.recall.make_way()
        restored_ns = await ready.recall.restore(dialogue)
        ready = replace(ready, delays=replace(ready.delays, restore_ns=restored_ns))
    else:
        await ready.recall.clear_the_way()
    if ready.seat is not None:
        sampling["id_slot"] = ready.seat.slot.index
        sampling["cache_prompt"] = sampling["cache_prompt"] and ready.seat.is_shared
    asked = Asked(sampling, constraint, request.logprobs, request.top_logprobs, request.max_thinking_tokens)
    try:
        async with aclosing(_told(dialogue, request, asked, ready)) as steps:
            async for step in steps:
                yield step
    finally:
        ready.recall.note(dialogue)
        ready.note(ready.account(dialogue.bill.total, dialogue.bill))


async def _told(
    dialogue: Dialogue, request: GenerationRequest, asked: Asked, ready: Ready
) -> AsyncGenerator[Step, None]:
    constraint = asked.constraint
    first, events = await _begin_fitting(dialogue, asked, truncate=request.truncate)
    dialogue.bill.pace.begin()
    warnings = (*ready.job.warnings, *constraint.warnings)
    has_context = isinstance(request, GenerateRequest) and request.tells_context and not request.raw
    cost = dialogue.bill.total
    if cost.prompt_tokens and ready.job.options["num_predict"] > 0:
        ready.settle(cost.prompt_tokens + ready.job.options["num_predict"])
    yield Started(
        tuple(dict.fromkeys((*warnings, *dialogue.warnings))),
        prompt_tokens=cost.prompt_tokens or None,
        cached_tokens=cost.cached_tokens if cost.prompt_tokens else None,
        fingerprint=ready.job.model.digest,
    )
    stops = frozenset(request.options.get("stop") or ())
    async with aclosing(_relay(first, events, dialogue, ready, warnings, stops, has_context=has_context)) as steps:
        async for step in steps:
            yield step


async def _begin_fitting(dialogue: Dialogue, asked: Asked, *, truncate: bool) -> tuple[Event, Events]:
    """Begin an answer. Only when the engine says that the prompt is too long is it worth counting tokens."""
    try:
        return await _begin(dialogue, asked)
    except ContextTooLong:
        if not truncate:
            raise
        if not await dialogue.fit() and not await dialogue.cut():
            raise
    try:
        return await _begin(dialogue, asked)
    except ContextTooLong:
        if not await dialogue.cut():
            raise
    return await _begin(dialogue, asked)


async def _begin(dialogue: Dialogue, asked: Asked) -> tuple[Event, Events]:
    """Send a request and wait for the first event, so that an error still has a status to travel in."""
    events = dialogue.answer(asked)
    try:
        return await anext(events), events
    except BaseException:
        await events.aclose()
        raise


async def _relay(
    first: Event,
    events: Events,
    dialogue: Dialogue,
    ready: Ready,
    warnings: tuple[str, ...],
    stops: frozenset[str],
    *,
    has_context: bool,
) -> AsyncGenerator[Step, None]:
    """Pass an answer on. With `has_context`, its prompt and its text are the `context` of the last object.

    `stops` are the request's own: to be ended by one of the model's is to be ended.
    """
    spoken: list[str] = []
    thinking_tokens = 0
    event = first
    async with aclosing(events):
        while not isinstance(event, Done):
            if isinstance(event, Text):
                spoken.append(event.text)
            thinking_tokens += isinstance(event, Thinking)  # the engine sends a token at a time
            yield dialogue.as_meant(event) if isinstance(event, ToolCall) else event
            event = await anext(events)
        context = None
        if has_context:
            context = tuple(await ready.wire.tokenize(await dialogue.shown() + "".join(spoken)))
        total_ns = time.monotonic_ns() - ready.job.started_ns
        warnings += (*dialogue.warnings, *event.warnings, *await _losses(event, ready))
        warnings = tuple(dict.fromkeys(warnings))  # an answer that was begun again says some of them again
        dialogue.bill.close()
        yield Finished(
            event.reason,
            event.usage,
            total_ns,
            ready.load_ns,
            context,
            warnings,
            ready.delays,
            thinking_tokens,
            stopped_by=event.stopped_by if event.stopped_by in stops else "",
            is_stuck=event.is_stuck,
            fingerprint=ready.job.model.digest,
            all_runs=dialogue.bill.total if dialogue.bill.has_several else None,
        )


async def _losses(done: Done, ready: Ready) -> list[str]:
    """What an answer that grew too long has cost, in words."""
    usage, plan = done.usage, ready.job.wanted.plan
    if usage.prompt_tokens + usage.predicted_tokens <= ready.ctx_tokens:
        return []
    shifts = plan.context_shift and not plan.projectors  # with a projector the engine never does
    added, _ = await ready.wire.bos()
    return losses(done, ready.ctx_tokens, ready.job.options, shifts=shifts, adds_bos=bool(added))

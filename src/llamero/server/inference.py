"""One handler for every dialect: from a request of `messages` to the steps of its reply.

It resolves the model, checks what it can do, leases an engine, and passes on what the engine says. Errors are raised,
never written; bytes are the dialect's and `answers.py`'s. Source: native-api §3.7, §3.8.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..build.remote import is_allowed
from ..chat import prompt
from ..config import Settings
from ..engines import MemoryUse
from ..engines.wire import Wire
from ..errors import BadRequest, ContextTooLong, EngineGone, Forbidden, LlameroError, ModelNotFound, NotSupported
from ..messages import (
    ChatRequest,
    Done,
    Event,
    Finished,
    GenerateRequest,
    GenerationRequest,
    Loaded,
    Message,
    Rendered,
    Request,
    Started,
    Step,
    Text,
)
from ..names import ModelName, split_source
from ..options import merge_options, read_options
from ..scheduler.effects import LocalEffects
from ..scheduler.facts import facts_of
from ..scheduler.loop import Scheduler
from ..scheduler.plan import Defaults, Wanted, want
from ..store import Store
from ..store.models import Model
from .checks import Constraint, check_capabilities, check_images, check_thinking, think_of
from .dialogue import Dialogue

log = logging.getLogger(__name__)

NO_GO_TEMPLATES = "Go templates are not supported yet"
NO_SUFFIX = "text before a suffix cannot be completed yet"
NO_REMOTE = "ollama cloud is disabled: remote model is unavailable"

PROMPT_TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: what it wants loaded, with which options, and what must be said about it."""

    model: Model
    options: Mapping[str, Any]
    wanted: Wanted
    warnings: tuple[str, ...]
    started_ns: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A model leased for one job."""

    job: Job
    wire: Wire
    ctx_tokens: int
    load_ns: int


class Inference:
    """Answers requests; shared by all connections."""

    def __init__(self, store: Store, scheduler: Scheduler, effects: LocalEffects, settings: Settings) -> None:
        self._store = store
        self._scheduler = scheduler
        self._effects = effects
        self._go_template = settings.go_template
        self._remotes = settings.remotes
        self._defaults = Defaults(
            ctx_tokens=settings.context_length,
            max_ctx_tokens=settings.max_context,
            slots=settings.num_parallel,
            kv_type=settings.kv_cache_type,
            flash_attention=settings.flash_attention,
        )

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        """Answer a conversation; without messages, load the model or (keep-alive 0) let it go."""
        started_ns = time.monotonic_ns()
        if not request.model.strip():
            raise BadRequest("model is required")
        model = await self.model(request.model, f"model '{request.model}' not found")
        if not request.messages and request.keep_alive_ns == 0:
            yield self._unload(model)
            return
        check_thinking(request, model)
        check_capabilities(request.model, model, "chat", ["tools"] if request.tools else [])
        job = self.job(model, request, started_ns)
        if not request.messages:
            async with self.lease(job, request):
                yield Loaded("load")
            return
        check_images(request, model, request.messages)
        constraint = Constraint.of(request, job.options)
        self._check_template(model)
        conversation = prompt.assemble(model.system, model.messages, request.messages)
        if model.config.model_family == "qwen3" or model.name.model == "deepseek-r1":
            conversation = prompt.strip_old_thinking(conversation)

        def work(ready: Ready) -> AsyncGenerator[Step, None]:
            dialogue = Dialogue(ready.wire, ready.ctx_tokens, conversation, request.tools, think_of(request, model))
            return _answer(dialogue, request, ready, constraint)

        async with aclosing(self._on_engine(job, request, work)) as steps:
            async for step in steps:
                yield step

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Step, None]:
        """Complete a prompt, by the model's chat template unless `raw`; without a prompt, load or let go."""
        started_ns = time.monotonic_ns()
        model = await self.model(request.model, f"model '{request.model}' not found")
        if not request.prompt and request.keep_alive_ns == 0:
            yield self._unload(model)
            return
        if request.raw and (request.template or request.system or request.context):
            raise BadRequest("raw mode does not support template, system, or context")
        check_thinking(request, model)
        check_capabilities(request.model, model, "generate", ["insert"] if request.suffix else [])
        job = self.job(model, request, started_ns)
        if not request.prompt:
            async with self.lease(job, request):
                yield Loaded("load")
            return
        asked = Message("user", request.prompt, images=request.images)
        check_images(request, model, [asked])
        constraint = Constraint.of(request, job.options)
        if not request.raw:
            self._check_template(model, request)
        work = partial(_generate, asked, request, constraint)
        async with aclosing(self._on_engine(job, request, work)) as steps:
            async for step in steps:
                yield step

    async def model(self, text: str, missing: str, *, remote: str = NO_REMOTE) -> Model:
        """The model that a request names; `missing` and `remote` are the endpoint's own wordings."""
        base, source = split_source(text)
        if source == "cloud":
            raise Forbidden(remote)
        if not base:
            raise ModelNotFound("model '' not found")
        name = ModelName.parse(base)
        try:
            model = await asyncio.to_thread(self._checked, name)
        except ModelNotFound:
            raise ModelNotFound(missing) from None
        if model.config.remote_host:
            raise ModelNotFound(missing) if source == "local" else self._not_run_here(model, remote)
        return model

    def _not_run_here(self, stub: Model, remote: str) -> LlameroError:
        """Checked again at use: a stub may come from another program (security §10.1)."""
        if not is_allowed(stub.config.remote_host, self._remotes):
            return BadRequest("this server cannot run this remote model")
        return Forbidden(remote)

    def _checked(self, name: ModelName) -> Model:
        """A model whose weights have had their one full check; the engine must never be the first to read a file."""
        model = self._store.resolve(name)
        self._store.check_weights(model)
        return model

    def job(self, model: Model, request: Request, started_ns: int) -> Job:
        """Options merged and checked, and the load plan they lead to."""
        stored, _ = read_options(model.parameters)
        asked, unknown = read_options(request.options)
        options = merge_options(stored, asked)
        shift = request.shift if isinstance(request, GenerationRequest) else None
        wanted = want(facts_of(model), options, shift, self._effects.machine(MemoryUse()), self._defaults)
        warnings = (*request.warnings, *unknown, *wanted.warnings, *self._store.source_warnings(model))
        return Job(model, options, wanted, warnings, started_ns)

    @asynccontextmanager
    async def lease(self, job: Job, request: Request) -> AsyncIterator[Ready]:
        async with self._scheduler.lease(job.wanted, job.model, request.keep_alive_ns) as lease:
            loaded = lease.runner.wanted.plan
            yield Ready(job, lease.engine.wire, loaded.ctx_tokens, time.monotonic_ns() - job.started_ns)

    async def _on_engine(
        self, job: Job, request: Request, work: Callable[[Ready], AsyncGenerator[Step, None]]
    ) -> AsyncGenerator[Step, None]:
        """The steps of `work` on a leased engine. One that had died unnoticed is replaced, once (scheduler R-08)."""
        for is_last_try in (False, True):
            begun = False
            try:
                async with self.lease(job, request) as ready, aclosing(work(ready)) as steps:
                    async for step in steps:
                        begun = True
                        yield step
                return
            except EngineGone:
                if begun or is_last_try:
                    raise
                log.warning("the engine of %s had died: a fresh one is asked", job.model.name)

    def _unload(self, model: Model) -> Loaded:
        self._scheduler.unload(str(model.weights_digest))
        return Loaded("unload")

    def _check_template(self, model: Model, request: GenerateRequest | None = None) -> None:
        """Refuse what only a Go template can render; everything else the engine renders itself."""
        asks = request is not None and bool(request.template)
        if request is not None and request.suffix and not asks:
            raise NotSupported(NO_SUFFIX)
        if asks or model.prompt_path(self._go_template) == "go":
            raise NotSupported(NO_GO_TEMPLATES)


Events = AsyncGenerator[Event, None]


async def _answer(
    dialogue: Dialogue, request: GenerationRequest, ready: Ready, constraint: Constraint
) -> AsyncGenerator[Step, None]:
    """Through the engine's chat endpoint, which renders the model's own template."""
    if request.render_only:
        if request.truncate:
            await dialogue.fit()
        yield Rendered(await dialogue.render(mark_images=True), dialogue.image_count)
        return
    await dialogue.read_media()
    extra = {
        **prompt.sampling(ready.job.options, ready.ctx_tokens),
        **constraint.for_chat(),
        **prompt.logprob_fields(wanted=request.logprobs, top=request.top_logprobs, chat=True),
    }

    def ask() -> Events:
        return ready.wire.chat({**dialogue.body(), **extra}, top_logprobs=request.top_logprobs)

    try:
        first, events = await _begin(ask)
    except ContextTooLong:
        # Only now is it worth counting tokens: a conversation that fits never pays for it.
        if not (request.truncate and await dialogue.fit()):
            raise
        first, events = await _begin(ask)
    warnings = (*ready.job.warnings, *constraint.warnings)
    if dialogue.dropped_count:
        warnings += (f"the conversation is longer than the context: {dialogue.dropped_count} oldest messages left out",)
    in_context = dialogue.render if isinstance(request, GenerateRequest) else None
    async with aclosing(_relay(first, events, ready, warnings, in_context)) as steps:
        async for step in steps:
            yield step


async def _generate(
    asked: Message, request: GenerateRequest, constraint: Constraint, ready: Ready
) -> AsyncGenerator[Step, None]:
    """`/api/generate`: a chat of one message, unless the prompt is text already (raw, or behind a `context`)."""
    if request.raw:
        steps = _complete(request.prompt, request, ready, constraint)
    else:
        model = ready.job.model
        system = request.system or model.system
        stored = () if request.context else model.messages
        conversation = (*((Message("system", system),) if system else ()), *stored, asked)
        dialogue = Dialogue(ready.wire, ready.ctx_tokens, conversation, (), think_of(request, model))
        if request.context:
            text = await ready.wire.detokenize(request.context) + await dialogue.render()
            steps = _complete(text, request, ready, constraint)
        else:
            steps = _answer(dialogue, request, ready, constraint)
    async with aclosing(steps):
        async for step in steps:
            yield step


async def _complete(
    text: str, request: GenerateRequest, ready: Ready, constraint: Constraint
) -> AsyncGenerator[Step, None]:
    """Through the engine's completion endpoint, with a prompt that is text already."""
    if request.render_only:
        yield Rendered(text, len(request.images))
        return
    if request.images:
        raise NotSupported("images are not supported in raw mode or together with context yet")
    cut, warnings = await _cut_prompt(text, request, ready)
    body = {
        "prompt": cut,
        **prompt.sampling(ready.job.options, ready.ctx_tokens),
        **constraint.for_completion(),
        **prompt.logprob_fields(wanted=request.logprobs, top=request.top_logprobs, chat=False),
    }
    first, events = await _begin(lambda: ready.wire.complete(body, top_logprobs=request.top_logprobs))

    async def rendered() -> str:
        return text

    in_context = None if request.raw else rendered
    said = (*ready.job.warnings, *constraint.warnings, *warnings)
    async with aclosing(_relay(first, events, ready, said, in_context)) as steps:
        async for step in steps:
            yield step


async def _cut_prompt(text: str, request: GenerateRequest, ready: Ready) -> tuple[str | list[int], list[str]]:
    """A prompt that is too long for the window, shortened in its middle (scheduler §14, layer 2)."""
    if not request.truncate or len(text.encode()) < ready.ctx_tokens:
        return text, []
    tokens = await ready.wire.tokenize(text, add_special=True)
    if len(tokens) < ready.ctx_tokens:
        return text, []
    if not ready.job.wanted.plan.context_shift:
        raise ContextTooLong(PROMPT_TOO_LONG)
    gguf = ready.job.model.gguf
    adds_bos = gguf is not None and gguf.get_bool("tokenizer.ggml.add_bos_token")
    short = prompt.cut_tokens(tokens, ready.ctx_tokens, ready.job.options["num_keep"], adds_bos=adds_bos)
    return short, [
        f"the prompt is longer than the context: {len(tokens) - len(short)} of {len(tokens)} tokens left out"
    ]


async def _begin(ask: Callable[[], Events]) -> tuple[Event, Events]:
    """Send a request and wait for the first event, so that an error still has a status to travel in."""
    events = ask()
    try:
        return await anext(events), events
    except BaseException:
        await events.aclose()
        raise


async def _relay(
    first: Event,
    events: Events,
    ready: Ready,
    warnings: tuple[str, ...],
    in_context: Callable[[], Awaitable[str]] | None,
) -> AsyncGenerator[Step, None]:
    """Pass an answer on. `in_context` renders the prompt once more for the `context` of the last object."""
    yield Started(warnings)
    spoken: list[str] = []
    event = first
    async with aclosing(events):
        while not isinstance(event, Done):
            if isinstance(event, Text):
                spoken.append(event.text)
            yield event
            event = await anext(events)
        context = None
        if in_context is not None:
            context = tuple(await ready.wire.tokenize(await in_context() + "".join(spoken)))
        total_ns = time.monotonic_ns() - ready.job.started_ns
        yield Finished(event.reason, event.usage, total_ns, ready.load_ns, context, warnings)

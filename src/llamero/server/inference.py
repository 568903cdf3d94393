"""One handler for every dialect: from a request of `messages` to the steps of its reply.

It resolves the model, checks what it can do, leases an engine, and passes on what the engine says. Errors are raised,
never written; bytes are the dialect's and `answers.py`'s. Source: native-api §3.7, §3.8.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from ..build.remote import is_allowed
from ..chat import prompt
from ..chat.choice import parse_choice
from ..config import Settings
from ..durations import SECOND
from ..engines import MemoryUse
from ..errors import BadRequest, EngineGone, Forbidden, LlameroError, ModelNotFound
from ..messages import (
    ChatRequest,
    Delays,
    GenerateRequest,
    GenerationRequest,
    Loaded,
    Message,
    Request,
    Step,
)
from ..names import ModelName, split_source
from ..options import merge_options, read_options
from ..scheduler.effects import LocalEffects
from ..scheduler.facts import facts_of
from ..scheduler.loop import Scheduler
from ..scheduler.plan import Defaults, want
from ..store import Store
from ..store.models import Model
from ..template.cache import parsed
from . import turn
from .checks import Constraint, check_capabilities, check_images, check_thinking, think_of
from .turn import Job, Ready

log = logging.getLogger(__name__)

NO_REMOTE = "ollama cloud is disabled: remote model is unavailable"


class Inference:
    """Answers requests; shared by all connections."""

    def __init__(self, store: Store, scheduler: Scheduler, effects: LocalEffects, settings: Settings) -> None:
        self._store = store
        self._scheduler = scheduler
        self._effects = effects
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
        choice = parse_choice(request.tool_choice, request.parallel_tool_calls, request.tools)
        job = self.job(model, request, started_ns)
        if not request.messages:
            async with self.lease(job, request):
                yield Loaded("load", job.warnings)
            return
        check_images(request, model, request.messages)
        constraint = Constraint.of(request, job.options)
        conversation = prompt.assemble(model.system, model.messages, request.messages)
        if model.config.model_family == "qwen3" or model.name.model == "deepseek-r1":
            conversation = prompt.strip_old_thinking(conversation)
        work = partial(turn.chat, conversation, request.tools, choice, request, constraint)
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
                yield Loaded("load", job.warnings)
            return
        asked = Message("user", request.prompt, images=request.images)
        check_images(request, model, [asked])
        constraint = Constraint.of(request, job.options)
        if request.template:
            parsed(request.template)  # one that is none is told before anything is loaded
        work = partial(turn.generate, asked, request, constraint)
        async with aclosing(self._on_engine(job, request, work)) as steps:
            async for step in steps:
                yield step

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that a conversation makes; nothing is generated."""
        model = await self.model(request.model, f"model '{request.model}' not found")
        check_capabilities(request.model, model, "chat", ["tools"] if request.tools else [])
        choice = parse_choice(request.tool_choice, request.parallel_tool_calls, request.tools)
        check_images(request, model, request.messages)
        conversation = prompt.assemble(model.system, model.messages, request.messages)
        job = self.job(model, request, time.monotonic_ns())
        async with self.lease(job, request) as ready:
            return await turn.count(conversation, request.tools, choice, think_of(request, model), ready)

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
        fallbacks, shift = (request.fallbacks, request.shift) if isinstance(request, GenerationRequest) else ({}, None)
        options = merge_options(fallbacks, stored, asked)
        wanted = want(facts_of(model), options, shift, self._effects.machine(MemoryUse()), self._defaults)
        warnings = (*request.warnings, *unknown, *wanted.warnings, *self._store.source_warnings(model))
        return Job(model, options, wanted, warnings, started_ns)

    @asynccontextmanager
    async def lease(self, job: Job, request: Request) -> AsyncIterator[Ready]:
        async with self._scheduler.lease(job.wanted, job.model, request.keep_alive_ns) as lease:
            loaded = lease.runner.wanted.plan
            if lease.engine.plan.chat_template != loaded.chat_template:
                job = job.without_jinja()
            delays = Delays(int(lease.queued_s * SECOND), int(lease.load_s * SECOND))
            ready_ns = time.monotonic_ns() - job.started_ns
            yield Ready(job, lease.engine.wire, loaded.ctx_tokens, loaded.keep_tokens, ready_ns, delays)

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

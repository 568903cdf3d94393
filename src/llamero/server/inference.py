"""One handler for every dialect: from a request of `messages` to the steps of its reply.

It resolves the model, checks what it can do, leases an engine, and passes on what the engine says. Errors are raised,
never written; bytes are the dialect's and `answers.py`'s. Source: native-api §3.7, §3.8.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from ..build.remote import is_allowed
from ..chat import prompt
from ..chat.choice import parse_choice
from ..config import Settings
from ..durations import SECOND
from ..engines import MemoryUse
from ..engines.wire import Wire
from ..errors import BadRequest, EngineGone, Forbidden, InvalidField, LlameroError, ModelNotFound
from ..messages import (
    ChatRequest,
    Delays,
    Finished,
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
from ..scheduler.runner import Claim
from ..scheduler.speculation import UNGUESSED_TOKENS
from ..scheduler.speeds import Speeds
from ..store import Store
from ..store.capabilities import beginning_token
from ..store.models import Model
from ..template.cache import parsed
from . import adapters, claims, rights, turn
from .adapters import Selection
from .caller import caller
from .checks import Constraint, check_capabilities, check_images, check_thinking, think_of, unheard_wishes
from .fullness import Fullness
from .recall import Recall
from .reloads import Reloads
from .shelf import Shelf
from .turn import Job, Ready
from .watch import Watch

log = logging.getLogger(__name__)

T = TypeVar("T")

NO_DRAFTING = "the draft model cannot be used with this model, which answers without it: the server's log says why"

NO_REMOTE = "ollama cloud is disabled: remote model is unavailable"


class Told(NamedTuple, Generic[T]):
    """What came of a request that generates nothing."""

    value: T
    warnings: tuple[str, ...]


class Inference:
    """Answers requests; shared by all connections."""

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        effects: LocalEffects,
        watch: Watch,
        settings: Settings,
        has_keys: Callable[[], bool],
    ) -> None:
        """`has_keys`: whether there are API keys, whose prompts are not for one another."""
        self._store = store
        self._shelf = Shelf(store)
        self._scheduler = scheduler
        self._reloads = Reloads(scheduler)
        self._effects = effects
        self._watch = watch
        self._remotes = settings.remotes
        self._defaults = Defaults.of(settings)
        self._has_keys = has_keys
        self._keep_alive_ns = settings.keep_alive_ns
        self.speeds = Speeds()
        self.fullness = Fullness()

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
        job = self.job(model, request, started_ns, await self._adapters(model, request))
        if not request.messages:
            async with self.lease(job, claims.visit()) as ready:
                yield Loaded("load", job.warnings, ready.delays)
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
        only_loads = request.loads_when_empty and not request.prompt
        if only_loads and request.keep_alive_ns == 0:
            yield self._unload(model)
            return
        request = _as_completed(request, model)
        if request.raw and (request.template or request.system or request.context):
            raise BadRequest("raw mode does not support template, system, or context")
        check_thinking(request, model)
        check_capabilities(request.model, model, "generate", ["insert"] if request.suffix else [])
        job = self.job(model, request, started_ns, await self._adapters(model, request))
        if only_loads:
            async with self.lease(job, claims.visit()) as ready:
                yield Loaded("load", job.warnings, ready.delays)
            return
        turn.check_tokens("prompt", request.tokens, model)
        asked = Message("user", request.prompt, images=request.images)
        check_images(request, model, [asked])
        constraint = Constraint.of(request, job.options)
        if request.template:
            parsed(request.template)  # one that is none is told before anything is loaded
        work = partial(turn.generate, asked, request, constraint)
        async with aclosing(self._on_engine(job, request, work)) as steps:
            async for step in steps:
                yield step

    async def count(self, request: ChatRequest) -> Told[int]:
        """Tokens of the prompt that a conversation makes; nothing is generated."""
        model = await self.model(request.model, f"model '{request.model}' not found")
        check_capabilities(request.model, model, "chat", ["tools"] if request.tools else [])
        choice = parse_choice(request.tool_choice, request.parallel_tool_calls, request.tools)
        check_images(request, model, request.messages)
        conversation = prompt.assemble(model.system, model.messages, request.messages)
        job = self.job(model, request, time.monotonic_ns())
        async with self.lease(job, claims.visit()) as ready:
            tokens = await turn.count(conversation, request.tools, choice, think_of(request, model), ready)
        return Told(tokens, job.warnings)

    async def detokenize(self, request: Request, tokens: Sequence[int], field: str = "tokens") -> Told[str]:
        """The text of tokens of the model that a request is for. Raises InvalidField for those that it has not."""
        model = await self.model(request.model, f"model '{request.model}' not found")
        turn.check_tokens(field, tokens, model)
        return await self._ask_vocabulary(model, request, lambda wire: wire.detokenize(tokens))

    async def tokenize(self, request: Request, text: str, *, add_special: bool) -> Told[list[int]]:
        """The tokens of a text; with `add_special`, with what the model puts around every text."""
        model = await self.model(request.model, f"model '{request.model}' not found")
        return await self._ask_vocabulary(model, request, lambda wire: wire.tokenize(text, add_special=add_special))

    async def _ask_vocabulary(self, model: Model, request: Request, ask: Callable[[Wire], Awaitable[T]]) -> Told[T]:
        """One question to an engine with a model's vocabulary: one that is loaded serves, however it was loaded."""
        job = self.job(model, request, time.monotonic_ns())
        job = replace(job, wanted=replace(job.wanted, takes_any=True))
        return Told(await self.once(job, lambda ready: ask(ready.wire), claims.visit()), job.warnings)

    async def once(self, job: Job, work: Callable[[Ready], Awaitable[T]], claim: Claim) -> T:
        """What comes of `work` on a leased engine. One that had died unnoticed is replaced (scheduler R-08)."""
        try:
            async with self.lease(job, claim) as ready:
                return await work(ready)
        except EngineGone:
            log.warning("the engine of %s had died: a fresh one is asked", job.model.name)
        async with self.lease(job, claim) as ready:
            return await work(ready)

    async def load(self, name: str, keep_alive_ns: int) -> None:
        """Have a model ready before anybody asks for it."""
        model = await self.model(name, f"model '{name}' not found")
        request = Request(model=name, keep_alive_ns=keep_alive_ns)
        async with self.lease(self.job(model, request, time.monotonic_ns()), claims.visit()):
            log.info("preloaded model=%s", name)

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
        model = self._shelf.resolve(name)
        self._store.check_weights(model)
        return model

    async def _adapters(self, model: Model, request: GenerationRequest) -> Selection:
        if request.adapters is None:
            return adapters.own(model)
        adapters.check(request.adapters)
        found = [(each, await self.model(each.model, f"model '{each.model}' not found")) for each in request.adapters]
        return adapters.select(model, request.model, found)

    def job(self, model: Model, request: Request, started_ns: int, selection: Selection | None = None) -> Job:
        """A request as its caller may make it: options merged and checked, and the load plan they lead to.

        Without a `selection`, with the model's own adapters.
        """
        request = rights.granted(request, caller.get(), self._keep_alive_ns)
        selection = selection or adapters.own(model)
        stored, _ = read_options(model.parameters)
        asked, unknown = read_options(request.options)
        shift = None
        if isinstance(request, GenerationRequest):
            shift, options = request.shift, merge_options(request.fallbacks, stored, asked)
            if options["seed"] >= 0:
                options["seed"] += request.number
        else:
            options = merge_options(stored, asked)
        facts = replace(facts_of(model), extra_adapters=selection.extra)
        machine = self._effects.machine(MemoryUse())
        wanted = want(
            facts,
            options,
            shift,
            machine,
            self._defaults,
            tells_logprobs=_tells_logprobs(request, options),
            keeps_prompts=not self._has_keys(),
        )
        told = (*request.warnings, *unheard_wishes(request, model), *unknown, *wanted.warnings)
        warnings = (*told, *self._store.source_warnings(model))
        return Job(model, options, wanted, warnings, started_ns, selection, request.keep_alive_ns)

    @asynccontextmanager
    async def lease(self, job: Job, claim: Claim) -> AsyncIterator[Ready]:
        if claim.visits and job.keep_alive_ns == 0:
            rights.check_unload(caller.get())
        with self._reloads.admitted(caller.get(), job.wanted):
            async with self._leased(job, claim) as ready:
                yield ready

    @asynccontextmanager
    async def _leased(self, job: Job, claim: Claim) -> AsyncIterator[Ready]:
        async with self._scheduler.lease(job.wanted, job.model, job.keep_alive_ns, claim) as lease:
            loaded = lease.runner.wanted.plan
            self._watch.leased(job.model.name.display, lease.queued_s)
            if lease.load_s:
                self.fullness.loaded(str(job.model.weights_digest))
            if lease.engine.plan.chat_template != loaded.chat_template:
                job = job.without_jinja()
            if loaded.drafts and not lease.engine.plan.drafts:
                job = replace(job, warnings=(*job.warnings, NO_DRAFTING))
            delays = Delays(int(lease.queued_s * SECOND), int(lease.load_s * SECOND))
            ready_ns = time.monotonic_ns() - job.started_ns
            lora = job.selection.for_engine(loaded)
            yield Ready(
                job,
                lease.engine.wire,
                loaded,
                ready_ns,
                delays,
                Recall(self._effects.prompts, lease, job.model, lora),
                lora,
                seat=lease.seat,
                settle=lease.settle,
                note=self._watch.answered,
            )

    async def _on_engine(
        self, job: Job, request: GenerationRequest, work: Callable[[Ready], AsyncGenerator[Step, None]]
    ) -> AsyncGenerator[Step, None]:
        """The steps of `work` on a leased engine. One that had died unnoticed is replaced, once (scheduler R-08)."""
        claim = claims.of_answer(request, job.model, job.options)
        for is_last_try in (False, True):
            begun = False
            try:
                async with self.lease(job, claim) as ready, aclosing(work(ready)) as steps:
                    async for step in steps:
                        begun = True
                        if isinstance(step, Finished):
                            self.fullness.answered(str(job.model.weights_digest), step.usage)
                            if job.model.gguf is not None:
                                self.speeds.learn(str(job.model.weights_digest), job.model.gguf, step.cost)
                        yield step
                return
            except EngineGone:
                if begun or is_last_try:
                    raise
                log.warning("the engine of %s had died: a fresh one is asked", job.model.name)

    def _unload(self, model: Model) -> Loaded:
        rights.check_unload(caller.get())
        self._scheduler.unload(str(model.weights_digest))
        return Loaded("unload")


def _tells_logprobs(request: Request, options: Mapping[str, Any]) -> bool:
    """Whether log-probabilities are wanted of tokens that the engine may have guessed."""
    if not isinstance(request, GenerationRequest) or not request.logprobs:
        return False
    return not 0 < options["num_predict"] <= UNGUESSED_TOKENS


def _as_completed(request: GenerateRequest, model: Model) -> GenerateRequest:
    """The request as this model takes it: where it has no template nothing but `raw` is, nor where there is no text."""
    if request.suffix:
        return request
    if not (request.prompt or request.tokens or request.loads_when_empty):
        request = replace(request, tokens=(_beginning(model),))
    if request.tokens or (request.raw_without_template and model.prompt_path == "chatml"):
        return replace(request, raw=True, think=request.think or False)
    return request


def _beginning(model: Model) -> int:
    """The token before all text, by which a model goes on from nothing."""
    token = None if model.gguf is None else beginning_token(model.gguf)
    if token is None:
        raise InvalidField("prompt must not be empty: the model has no token for the beginning of a text", "prompt")
    return token

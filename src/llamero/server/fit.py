"""`/api/llamero/fit`: whether and how fast a model would run here, before it is fetched.

What it rests on is put together here; `scheduler/fit.py` judges. Source: cli §3.16, native-api §3.22.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.gojson import encode
from ..engines import MemoryUse
from ..engines.bandwidth import measure_bandwidth
from ..engines.devices import read_memory
from ..errors import BadRequest, ModelNotFound, NotFound, RegistryAnswered, RegistryError
from ..names import ModelName, split_source
from ..options import merge_options, read_options
from ..registry.peek import Peek, Seen
from ..registry.pull import PullRequest
from ..scheduler import fit
from ..scheduler.effects import LocalEffects
from ..scheduler.facts import ModelFacts, facts_of, facts_of_header
from ..scheduler.fit import Offer, Report
from ..scheduler.loop import Scheduler
from ..scheduler.plan import Defaults, Machine
from ..scheduler.shape import shape_of
from ..scheduler.speeds import Speeds
from ..store import Store
from ..store.manifests import ADAPTER, PROJECTOR
from .answers import JSON
from .bodies import read
from .routes import Route
from .streams import unless_gone
from .transfers import Transfers, is_trusted


class FitBody(msgspec.Struct):
    model: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """A model wherever it is."""

    source: Literal["local", "registry"]
    own: Offer
    siblings: tuple[Offer, ...]
    facts: ModelFacts
    options: Mapping[str, Any]


class Fitting:
    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        effects: LocalEffects,
        transfers: Transfers,
        speeds: Speeds,
        settings: Settings,
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._effects = effects
        self._transfers = transfers
        self._speeds = speeds
        self._defaults = Defaults.of(settings)

    async def fit(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, FitBody, "FitRequest")
        base, source = split_source(asked.model)
        if source == "cloud" or not base:
            raise BadRequest("model is required" if not base else f"'{asked.model}' does not run here")
        name = ModelName.parse(base)
        try:
            found = await asyncio.to_thread(self._here, name)
        except ModelNotFound:
            if source == "local":
                raise ModelNotFound(f"model '{asked.model}' not found") from None
            wanted = PullRequest(name=name, insecure=asked.insecure, trusted=is_trusted(request))
            found = await unless_gone(request, self._elsewhere(wanted))
        return Response(encode(await asyncio.to_thread(self._judge, name, found, self._machine())), media_type=JSON)

    def _judge(self, name: ModelName, found: _Found, machine: Machine) -> Report:
        """Measures, and walks all tensors for each quantization."""
        bandwidth = 0.0 if machine.has_gpu else measure_bandwidth(machine.cores, machine.ram_available_bytes)
        offered = fit.offers(found.own, found.siblings)
        verdicts = fit.judge(offered, found.facts, found.options, machine, self._defaults, self._speeds, bandwidth)
        return fit.report(name.display, found.source, verdicts, machine, bandwidth)

    def _machine(self) -> Machine:
        """With the memory of the models that are loaded: they would make room."""
        held = (view.memory for view in self._scheduler.snapshot().loaded)
        free_bytes = read_memory().available_bytes + sum(use.total_bytes - use.vram_bytes for use in held)
        return replace(self._effects.machine(MemoryUse()), ram_available_bytes=free_bytes)

    def _here(self, name: ModelName) -> _Found:
        model = self._store.resolve(name)
        facts = facts_of(model)
        assert model.gguf is not None
        own = Offer(
            level=fit.level(model.gguf, model.config.file_type),
            header=model.gguf,
            size_bytes=model.size_bytes,
            name=model.name.display,
            digest=facts.key,
        )
        options, _ = read_options(model.parameters)
        return _Found("local", own, (), facts, merge_options(options))

    async def _elsewhere(self, wanted: PullRequest) -> _Found:
        given_up = threading.Event()
        try:
            peek = await asyncio.to_thread(self._transfers.peek, wanted, given_up.is_set)
        except RegistryError as error:
            if isinstance(error, RegistryAnswered) and error.answer_status == NotFound.status:
                raise ModelNotFound(f"model '{wanted.name}' is neither here nor at its registry") from error
            text = f"model '{wanted.name}' is not here, and its registry cannot tell: {error}"
            raise RegistryError(text, status=HTTPStatus.BAD_GATEWAY) from error
        finally:
            given_up.set()
        return _at_registry(peek)


def _at_registry(peek: Peek) -> _Found:
    seen, header = peek.model, peek.header
    own = Offer(
        level=fit.level(header, seen.config.file_type),
        header=header,
        size_bytes=seen.manifest.size_bytes,
        name=seen.name.display,
    )
    siblings = tuple(
        fit.sibling(own, each.config.file_type.upper(), weights.size_bytes, each.manifest.size_bytes, each.name.display)
        for each in peek.siblings
        if (weights := each.weights) is not None and _is_same_model(each, seen)
    )
    projectors = seen.manifest.of_type(PROJECTOR)
    facts = replace(
        facts_of_header(header, shape_of(header)),
        projector_bytes=sum(layer.size_bytes for layer in projectors),
        adapter_bytes=sum(layer.size_bytes for layer in seen.manifest.of_type(ADAPTER)),
        has_vision=bool(projectors) or header.has("vision.block_count"),
    )
    return _Found("registry", own, siblings, facts, merge_options())


def _is_same_model(one: Seen, other: Seen) -> bool:
    """A list of tags may hold models of several sizes; only those that say what they are can be told apart."""
    return bool(one.config.file_type) and one.config.model_type == other.config.model_type


def routes(fitting: Fitting) -> list[Route]:
    path = "/api/llamero/fit"
    summary = "Whether and how fast a model would run here"
    return [Route("POST", path, fitting.fit, summary, body=FitBody, reply=Report)]

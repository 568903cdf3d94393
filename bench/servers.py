"""What is measured, started: our server in a process of its own, and the bare engine, with the real small models."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llamero.build.convert import convert_in_child
from llamero.config import parse_host
from llamero.engines import LoadPlan
from llamero.engines.devices import physical_cores, read_memory
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.names import ModelName
from llamero.options import merge_options
from llamero.registry import starters
from llamero.scheduler.facts import facts_of
from llamero.scheduler.plan import Defaults, Machine, want
from llamero.store import Store
from tests.running import Server, linked_copy, running

from .sides import LlamaServer, Native
from .wire import Http

MODEL = "smollm2:135m"
EMBEDDER = "all-minilm:22m"
LIBGOMP_SPIN = "300000"
"""GOMP_SPINCOUNT: what libgomp's manual gives as its own choice, and what whoever runs the engine bare has."""
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "test-models"


def models_folder() -> Path:
    """A store with the starter models, fetched on the first use."""
    store = Store(CACHE)
    have = {summary.name for summary in store.list()}
    for starter in starters.STARTERS:
        if starter.name not in have:
            starters.fetch(starter, store, lambda progress: None, convert=_convert, cancelled=lambda: False)
    return CACHE


def _convert(checkpoint: Path, target: Path) -> None:
    convert_in_child(checkpoint, target, lambda completed, total: None)


@contextmanager
def our_server(**env: str) -> Iterator[Server]:
    """`ollama serve` with the two models and a new home; but for `env` with default settings."""
    env = {"LLAMERO_NEIGHBOURS": "1", **env}  # it is off for tests
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with running(path, linked_copy(models_folder(), path / "models"), **env) as server:  # type: ignore[arg-type]
            yield server


def side_of(server: Server, model: str = MODEL) -> Native:
    return Native("ours", Http.at(server.url), model)


def plan_of(model: str) -> LoadPlan:
    """What our server starts an engine with when nobody sets anything."""
    memory = read_memory()
    machine = Machine(
        ram_available_bytes=memory.available_bytes, ram_total_bytes=memory.total_bytes, cores=physical_cores()
    )
    facts = facts_of(Store(models_folder()).resolve(ModelName.parse(model)))
    return want(facts, merge_options({}), None, machine, Defaults()).plan


@contextmanager
def bare_engine(model: str = MODEL, *, spin: str = LIBGOMP_SPIN) -> Iterator[LlamaServer]:
    """The engine with the settings that our server gives it, spoken to directly.

    It lives on an event loop in a thread of its own: that reads the engine's log, which would stop the engine once
    its pipe is full, whatever the measurement waits for meanwhile. The thread outlives the engine, whose parent-death
    signal follows it.
    """
    settings = LlamaCppSettings(env={"PATH": os.environ["PATH"], "GOMP_SPINCOUNT": spin})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="engine's log")
    thread.start()
    try:
        engine = asyncio.run_coroutine_threadsafe(LlamaCpp.start(plan_of(model), settings), loop).result()
        try:
            endpoint = engine.endpoint
            host, _ = parse_host(endpoint.url)
            yield LlamaServer("bare", Http(host, endpoint.socket, endpoint.secret))
        finally:
            asyncio.run_coroutine_threadsafe(engine.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

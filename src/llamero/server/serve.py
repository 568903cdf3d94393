"""A server from its settings: start-up in its order, and everything that it consists of, wired together.

Sockets are `listen.py`'s, signals and the end `process.py`'s. Source: cli §3.1, §11; scheduler §11. Start: key pair,
bind, configuration into the log, house-keeping, accept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from .. import API_LEVEL, config
from ..config import Settings
from ..dialects.gojson import encode
from ..durations import FOREVER
from ..engines import MemoryUse, engine_folder
from ..engines.devices import GpuRules, physical_cores, read_memory
from ..engines.llamacpp import LlamaCppSettings
from ..engines.native import NativeEngines
from ..errors import LlameroError, StorageError
from ..pictures import NoPictures, RemotePictures
from ..registry.identity import ensure_key_pair
from ..registry.network import Network
from ..responses import open_responses
from ..scheduler.effects import LocalEffects
from ..scheduler.loop import Limits, Scheduler
from ..scheduler.plan import binary_size, max_loaded, tier
from ..scheduler.prompt_cache import PromptCache
from ..store import Store
from ..store.prefixes import Prefixes
from . import (
    anthropic,
    archive,
    audio,
    cloud,
    fit,
    health,
    housekeeping,
    keyring,
    native,
    openai,
    openapi,
    prompts,
    ranking,
    recommendations,
    reports,
    responses,
    share,
    tokens,
    transfers,
)
from .addresses import Address, OwnAddresses
from .admission import open_admission
from .answers import JSON
from .app import App
from .attempts import Attempts
from .audit import Audit
from .background import Background
from .fit import Fitting
from .guard import Guard
from .health import Health, Readiness
from .inference import Inference
from .keys import KeyStore
from .library import Library
from .listen import Listener, exposure, listen
from .loads import CountedEffects
from .metrics import Metrics
from .process import Process
from .request_log import KeptRequests, NoRequestLog, RequestLog
from .routes import Route, Routes
from .signals import Signals
from .tls import Files, Tls
from .traces import open_traces
from .transfers import Transfers
from .watch import Watch

log = logging.getLogger(__name__)

THREADS = reports.MAX_WORK + 32
"""For whatever touches the disk. asyncio's own number, some few, would be taken up by as many pulls."""


def serve(settings: Settings, signals: Signals) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP reads certificates and keys again. LlameroError when it cannot start."""
    public_key = ensure_key_pair(settings.home)
    if public_key is not None:
        print(f"Couldn't find '{settings.home / 'id_ed25519'}'. Generating new private key.")
        print(f"Your new public key is: \n\n{public_key}", flush=True)
    listeners = listen(settings)
    try:
        settings = replace(settings, listen=tuple(each.host for each in listeners), listen_via=listeners[0].via)
        _log_start(settings)
        files = Files.of(settings)
        tls = Tls(files) if files else None
        service = Service(settings)
        if tls is not None:
            service.reloads.append(tls.reload)
        service.keys.log()
        service.tidy()
        _log_listeners(listeners, settings, service.guard)
        process = Process(settings, service.app, listeners, tls, service.reload, signals)
        service.connections = lambda: len(process.server_state.connections)
        service.is_stopping = lambda: process.should_exit
        process.run()
    finally:
        for listener in listeners:
            listener.close()


class Service:
    """Everything a server consists of, wired together."""

    def __init__(self, settings: Settings) -> None:
        self._no_cloud = cloud.switched_off_by(settings)
        self._settings = settings = replace(settings, no_cloud=self._no_cloud != "none")
        self.reloads: list[Callable[[], None]] = []
        """What SIGHUP asks for."""
        self.connections: Callable[[], int] = lambda: 0
        self.is_stopping: Callable[[], bool] = lambda: False
        """Both are known where there is a process to ask."""
        self._own_addresses = OwnAddresses()
        self._store = Store(settings.models, no_prune=settings.no_prune, go_template=settings.go_template)
        self._prefixes = Prefixes(settings.models, settings.prefix_cache_bytes)
        self._effects = _effects(settings, self._prefixes)
        self._observers = Watch(Metrics(), open_traces(settings.traces_url))
        self._scheduler = self._make_scheduler()
        self.keys = KeyStore(
            settings.api_key,
            settings.keys_file or settings.home / "llamero" / "keys",
            file_is_named=settings.keys_file is not None,
        )
        self.reloads.append(self.keys.reload)
        self._attempts = Attempts()
        self.guard = self._make_guard()
        self._inference = Inference(
            self._store, self._scheduler, self._effects, self._observers, settings, lambda: self.keys.keys.required
        )
        self._transfers = Transfers(self._store, settings, self._is_own_listener)
        self._responses = open_responses(settings.responses, settings.home)
        self._background = Background(most_each=settings.max_concurrent_per_key)
        self._readiness = Readiness(lambda: self.is_stopping())
        self.routes = Routes(self._table(), (("/v1/messages", anthropic.ERRORS), ("/v1/", openai.SHARED_ERRORS)))
        kept: RequestLog = KeptRequests(settings.host.url) if settings.keeps_requests else NoRequestLog()
        self.app = App(
            self.routes,
            self.guard,
            Audit(settings.home / "llamero" / "audit.log"),
            self._observers,
            kept,
            admission=open_admission(settings.rate_limit, settings.max_concurrent_per_key),
            startup=self._start,
            shutdown=self._stop,
        )

    def _make_scheduler(self) -> Scheduler:
        settings = self._settings
        limits = Limits(
            max_loaded=lambda: max_loaded(settings.max_loaded_models, len(self._effects.gpus)),
            max_queue=settings.max_queue,
            max_waiting=settings.max_waiting,
            keep_alive_ns=settings.keep_alive_ns,
        )
        counted = CountedEffects(
            self._effects,
            self._observers.metrics,
            lambda: self._scheduler.snapshot(),
            lambda: self.is_stopping(),
        )
        return Scheduler(counted, limits)

    def _make_guard(self) -> Guard:
        settings = self._settings
        return Guard(
            origins=settings.origins,
            allowed_hosts=settings.allowed_hosts,
            loopback_bind=all(host.is_loopback for host in settings.listen),
            insecure_public=settings.insecure_public,
            host_names=(socket.gethostname(),),
            own_addresses=self._own_addresses,
            allow_ips=settings.allow_ips,
            trusted_proxies=settings.trusted_proxies,
            admin_loopback=settings.admin_loopback,
            keys=lambda: self.keys.keys,
            attempts=self._attempts,
        )

    def _table(self) -> list[Route]:
        """Every route, in the order in which `/openapi.json` has them."""
        settings, store, inference = self._settings, self._store, self._inference
        library = Library(store, self._scheduler, inference.fullness, self._transfers, settings)
        network = Network(settings.home, settings.registry_env, is_own_listener=self._is_own_listener)
        pictures = RemotePictures(network) if settings.fetch_images else NoPictures()
        fitting = Fitting(store, self._scheduler, self._effects, self._transfers, inference.speeds, settings)
        told = Health(
            self._readiness, self._observers.metrics, self._scheduler, self._prefixes, lambda: self.connections()
        )
        return [
            *native.routes(inference, library, self._transfers, settings, time.time_ns),
            *openai.routes(inference, store, settings, pictures, time.time_ns),
            *anthropic.routes(inference, settings, pictures),
            *responses.routes(inference, self._responses, settings, pictures, self._background, time.time_ns),
            *audio.routes(inference, settings),
            *ranking.routes(inference, settings),
            *tokens.routes(inference, settings),
            *transfers.routes(self._transfers),
            *housekeeping.routes(store, self._transfers),
            *archive.routes(store),
            *prompts.routes(self._prefixes),
            *fit.routes(fitting),
            *cloud.routes(settings.home, self._no_cloud),
            *recommendations.routes(),
            *keyring.routes(self.keys, admin_loopback=settings.admin_loopback),
            *self._share_routes(),
            *health.routes(told),
            Route("GET", "/openapi.json", self._openapi, "This description", "admin"),
        ]

    def reload(self) -> None:
        """Read again what may change while we run: each of `reloads`. One that fails keeps what it had, and is told."""
        for each in self.reloads:
            try:
                each()
            except LlameroError as error:
                log.error("not read again, what was there before stays in use: %s", error)

    def _is_own_listener(self, address: Address, port: int) -> bool:
        """Whether a registry would be this very server: it would wait for itself."""
        return port in {host.port for host in self._settings.listen} and (
            address.is_loopback or address in self._own_addresses()
        )

    def _share_routes(self) -> list[Route]:
        settings = self._settings
        if settings.share == "off":
            return []
        access = share.Access(
            needs_key=lambda: self.keys.keys.required,
            keys=share.ShareKeys(settings.home / "llamero" / "share_keys"),
            is_ours=self.guard.is_ours,
            attempts=self._attempts,
        )
        fetch = self._transfers.ensure if settings.share == "through" else share.fetch_nothing
        return share.routes(share.Share(self._store, access, fetch))

    def tidy(self) -> None:
        """House-keeping before anybody asks for anything. What is wrong is said and does not stop the server.

        Raises StorageError where there can be no store at all.
        """
        engine_folder.sweep()
        self._store.require_folder()
        try:
            self._store.start()
            self._prefixes.sweep()
        except StorageError as error:
            log.warning("the models folder could not be tidied: %s", error)

    async def _start(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        self._scheduler.open()
        self._probe = asyncio.create_task(self._look_for_gpus())
        self._preload = asyncio.create_task(self._load_models())
        self._preload.add_done_callback(lambda _: self._readiness.started())
        watched = self._effects.watch() if self._settings.minds_neighbours else asyncio.sleep(0)
        self._watch = asyncio.create_task(watched)

    async def _stop(self) -> None:
        for task in (tasks := (self._preload, self._watch, self._probe)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._background.close()
        await self._scheduler.close(0)
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self._responses.close)
        await asyncio.to_thread(self._observers.close)

    async def _look_for_gpus(self) -> None:
        await self._effects.find_gpus()
        memory = read_memory()
        if not self._effects.gpus:
            _log_device("cpu", f"{physical_cores()} cores", memory.total_bytes, memory.available_bytes)
        for gpu in self._effects.gpus:
            _log_device(gpu.name, gpu.description, gpu.total_bytes, gpu.free_bytes)
        total = self._effects.machine(MemoryUse()).gpu_total_bytes
        log.info("vram-based default context", extra={"total_vram": binary_size(total), "default_num_ctx": tier(total)})

    async def _load_models(self) -> None:
        """LLAMERO_PRELOAD: each stays until it is unloaded or has to make room."""
        await asyncio.shield(self._probe)
        for name in self._settings.preload:
            try:
                await self._inference.load(name, FOREVER)
            except LlameroError as error:
                log.warning("LLAMERO_PRELOAD: %s cannot be loaded: %s", name, error)

    async def _openapi(self, request: Request, body: bytes) -> Response:
        return Response(encode(openapi.document(self.routes)), media_type=JSON)


def _effects(settings: Settings, prefixes: Prefixes) -> LocalEffects:
    engine = LlamaCppSettings(
        env=settings.engine_env,
        program=settings.llama_server,
        load_timeout_s=settings.load_timeout_s,
        request_timeout_s=settings.request_timeout_s,
        minds_others=settings.minds_neighbours,
    )
    return LocalEffects(
        engine,
        NativeEngines(settings.home),
        PromptCache(prefixes),
        skip_ram_check=settings.skip_ram_check,
        gpu_rules=GpuRules.of(settings),
    )


def _log_start(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning(warning)
    log.info("server config", extra={"env": config.describe(settings.environment)})
    log.info("Ollama cloud disabled: true")
    if "OLLAMA_API_KEY" in settings.environment and not settings.api_key:
        log.warning("OLLAMA_API_KEY is empty and counts as not set")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not settings.allow_root:
        log.warning("the server runs as root; a user of its own is safer (LLAMERO_ALLOW_ROOT=1 silences this)")


def _log_listeners(listeners: Sequence[Listener], settings: Settings, guard: Guard) -> None:
    for each in listeners:
        log.info("Listening on %s (via %s) (version %s)", each.shown, each.via, API_LEVEL)
    has_tls = settings.tls_cert is not None
    reach = exposure(listeners, has_tls=has_tls, has_key=guard.needs_key, has_allow_list=guard.lists_addresses)
    if reach is not None:
        log.info(reach)
    for each in listeners:
        if not each.host.is_loopback and (warning := guard.start_warning(each.shown)) is not None:
            log.warning(warning)
        if (own := each.own_address) is not None and guard.shuts_out(own):
            log.warning("LLAMERO_ALLOW_IPS does not list %s: nothing on this machine can use %s", own, each.shown)
        if each.is_for_everybody and not guard.needs_key:
            log.warning("every account of this machine may use %s: set SocketMode=0660 in its unit", each.shown)


def _log_device(name: str, description: str, total_bytes: int, free_bytes: int) -> None:
    fields = {
        "id": name,
        "library": name.rstrip("0123456789").lower(),
        "description": description,
        "total": binary_size(total_bytes),
        "available": binary_size(free_bytes),
    }
    log.info("inference compute", extra=fields)

"""The server's process: sockets, start-up in its order, shutdown in time. What is served is `app.py`'s.

Source: cli §3.1, §11; scheduler §11. Start: key pair, bind, configuration into the log, house-keeping, accept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import FrameType

import msgspec
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from .. import API_LEVEL, config
from ..config import HostUrl, Settings
from ..dialects.gojson import encode
from ..durations import FOREVER
from ..engines import MemoryUse
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
    housekeeping,
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
from .answers import JSON
from .app import App
from .background import Background
from .fit import Fitting
from .guard import Guard
from .inference import Inference
from .library import Library
from .routes import Route, Routes
from .transfers import Transfers

log = logging.getLogger(__name__)

LISTEN_BACKLOG = 2048
PROBE_TIMEOUT_S = 1.0
MAX_PROBE_BYTES = 4096
"""For the question who it is that has our port."""
THREADS = reports.MAX_WORK + 32
"""For whatever touches the disk. asyncio's own number, some few, would be taken up by as many pulls."""
KEEP_ALIVE_S = 75
"""How long an idle client connection stays open; clients that pool connections reuse them for about a minute."""


class CannotListen(LlameroError):
    """An address could not be bound."""


def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Raises LlameroError for what stops it from starting."""
    public_key = ensure_key_pair(settings.home)
    if public_key is not None:
        print(f"Couldn't find '{settings.home / 'id_ed25519'}'. Generating new private key.")
        print(f"Your new public key is: \n\n{public_key}", flush=True)
    sockets = [_bind(host) for host in settings.listen]
    _log_start(settings)
    service = Service(settings)
    service.tidy()
    for listening in sockets:
        where = _shown(listening)
        log.info("Listening on %s (via %s) (version %s)", where, settings.listen_via, API_LEVEL)
        if (warning := service.guard.start_warning(where)) is not None:
            log.warning(warning)
    _Server(settings, service.app).run(sockets=sockets)


class Service:
    """Everything a server consists of, wired together."""

    def __init__(self, settings: Settings) -> None:
        no_cloud = cloud.switched_off_by(settings)
        self._settings = settings = replace(settings, no_cloud=no_cloud != "none")
        self._own_addresses = OwnAddresses()
        self._store = Store(settings.models, no_prune=settings.no_prune, go_template=settings.go_template)
        self._prefixes = Prefixes(settings.models, settings.prefix_cache_bytes)
        self._effects = LocalEffects(
            LlamaCppSettings(
                env=settings.engine_env,
                program=settings.llama_server,
                load_timeout_s=settings.load_timeout_s,
                request_timeout_s=settings.request_timeout_s,
                minds_others=settings.minds_neighbours,
            ),
            NativeEngines(settings.home),
            PromptCache(self._prefixes),
            skip_ram_check=settings.skip_ram_check,
            gpu_rules=GpuRules.of(settings),
        )
        limits = Limits(
            max_loaded=lambda: max_loaded(settings.max_loaded_models, len(self._effects.gpus)),
            max_queue=settings.max_queue,
            max_waiting=settings.max_waiting,
            keep_alive_ns=settings.keep_alive_ns,
        )
        self._scheduler = Scheduler(self._effects, limits)
        self.guard = Guard(
            origins=settings.origins,
            allowed_hosts=settings.allowed_hosts,
            loopback_bind=all(host.is_loopback for host in settings.listen),
            insecure_public=settings.insecure_public,
            host_names=(socket.gethostname(),),
            own_addresses=self._own_addresses,
        )
        self._inference = inference = Inference(self._store, self._scheduler, self._effects, settings)
        self._transfers = Transfers(self._store, settings, self._is_own_listener)
        library = Library(self._store, self._scheduler, self._transfers, settings)
        network = Network(settings.home, settings.registry_env, is_own_listener=self._is_own_listener)
        pictures = RemotePictures(network) if settings.fetch_images else NoPictures()
        table = native.routes(inference, library, self._transfers, settings, time.time_ns)
        table += openai.routes(inference, self._store, settings, pictures, time.time_ns)
        table += anthropic.routes(inference, settings, pictures)
        self._responses = open_responses(settings.responses, settings.home)
        self._background = Background()
        table += responses.routes(inference, self._responses, settings, pictures, self._background, time.time_ns)
        table += audio.routes(inference, settings)
        table += ranking.routes(inference, settings)
        table += tokens.routes(inference, settings)
        table += transfers.routes(self._transfers)
        table += housekeeping.routes(self._store, self._transfers)
        table += archive.routes(self._store)
        table += prompts.routes(self._prefixes)
        table += fit.routes(
            Fitting(self._store, self._scheduler, self._effects, self._transfers, inference.speeds, settings)
        )
        table += cloud.routes(settings.home, no_cloud)
        table += recommendations.routes()
        table += self._share_routes()
        table.append(Route("GET", "/openapi.json", self._openapi, "This description", "admin"))
        self.routes = Routes(table, (("/v1/messages", anthropic.ERRORS), ("/v1/", openai.ERRORS)))
        self.app = App(self.routes, self.guard, startup=self._start, shutdown=self._stop)

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
            api_key=settings.api_key,
            keys=share.ShareKeys(settings.home / "llamero" / "share_keys"),
            is_ours=self.guard.is_ours,
        )
        fetch = self._transfers.ensure if settings.share == "through" else share.fetch_nothing
        return share.routes(share.Share(self._store, access, fetch))

    def tidy(self) -> None:
        """House-keeping of the store before anybody asks for it; what is wrong is said and does not stop the server."""
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


class _Server(uvicorn.Server):
    """uvicorn, told to leave with status 0 when it is asked to stop, and at once when it is asked twice."""

    def __init__(self, settings: Settings, app: App) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                log_level=logging.WARNING,
                server_header=False,
                lifespan="on",
                proxy_headers=False,
                backlog=LISTEN_BACKLOG,
                limit_concurrency=settings.max_connections,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(settings.stop_timeout_s),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._leave)
        yield

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _bind(host: HostUrl) -> socket.socket:
    """A listening socket. Never another address than the one that was asked for."""
    if host.scheme == "https":
        raise CannotListen(f"{host.url} asks for TLS, which needs a certificate: not supported yet")
    target = host.host or "::"
    try:
        info = socket.getaddrinfo(target, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(f"listen tcp: lookup {host.host}: {error.strerror}") from error
    family, kind, protocol, _, address = info[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if target == "::" else 1)
        listening.bind(address)
        listening.listen(LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        if not host.host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return _bind(HostUrl(host.scheme, "0.0.0.0", host.port))  # a machine without IPv6
        reason = os.strerror(error.errno or 0).lower()
        neighbour = _who_answers(host.for_clients) if error.errno == errno.EADDRINUSE else ""
        raise CannotListen(f"listen tcp {host.netloc}: bind: {reason}{neighbour}") from error
    return listening


def _who_answers(host: HostUrl) -> str:
    """What is already there, when it is a server of our kind: most often somebody started one and forgot it."""
    try:
        connection = http.client.HTTPConnection(host.host, host.port, timeout=PROBE_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/api/version")
            body = connection.getresponse().read(MAX_PROBE_BYTES)
        version = msgspec.json.decode(body, type=native.VersionReply).version
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return ""
    return f" (an ollama server, version {_plain(version)}, is already running there; use it, or set OLLAMA_HOST)"


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isalnum() or character in ".-+")[:20]


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_start(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning(warning)
    log.info("server config", extra={"env": config.describe(settings.environment)})
    log.info("Ollama cloud disabled: true")
    if settings.api_key:
        log.warning("OLLAMA_API_KEY guards only /v2/ in this version: everything else is served without a key")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not settings.allow_root:
        log.warning("the server runs as root; a user of its own is safer (LLAMERO_ALLOW_ROOT=1 silences this)")


def _log_device(name: str, description: str, total_bytes: int, free_bytes: int) -> None:
    fields = {
        "id": name,
        "library": name.rstrip("0123456789").lower(),
        "description": description,
        "total": binary_size(total_bytes),
        "available": binary_size(free_bytes),
    }
    log.info("inference compute", extra=fields)

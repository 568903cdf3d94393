"""llama.cpp's server as an engine: from a load plan to a process that answers.

The wheel runs inside `runner.py`; a foreign `llama-server` program gets the same plan as command-line flags. Scheduling
and HTTP bodies live elsewhere (`scheduler/`, `wire.py`). Source: scheduler §10.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from ..errors import EngineError, LoadFailed, OutOfMemory
from . import Endpoint, LoadPlan, MemoryUse, Progress
from .memory import MemoryReport
from .process import Process, describe_exit
from .wire import Wire, connector

log = logging.getLogger(__name__)

POLL_QUICK_S = 0.01
"""Pause between health checks at first: a small model is up in 0.3 s."""
POLL_SLOW_S = 0.25
QUICK_POLLS_FOR_S = 2.0
HEALTH_TIMEOUT_S = 0.2
HEALTH_TIMEOUT_LOADED_S = 10.0

MAX_ERROR_CHARS = 8 * 1024

ERROR_MARKS = (
    "error:",
    "Error:",
    "CUDA error",
    "ROCm error",
    "cudaMalloc failed",
    "error loading model",
    "GGML_ASSERT",
    "llama_init_from_model:",
    "panic:",
    "fatal error:",
)

OOM_PHRASES = (
    "out of memory",
    "out of device memory",
    "cudamalloc failed",
    "hipmalloc failed",
    "failed to allocate",
    "allocation failed",
    "not enough memory",
    "insufficient memory",
    "vk_error_out_of_device_memory",
    "erroroutofmemory",
)

REQUEST_REFUSED = "send_error"

RECOVERABLE = "retrying without pipeline parallelism"

SPIN_COUNT = "1000"
"""OpenMP's threads wait for one another by spinning. Left alone they spin for so long that one busy neighbour per two
cores costs most of the decode speed; a short spin keeps the idle speed, and a third of it beside the neighbour."""


def says_out_of_memory(text: str) -> bool:
    lowered = text.lower()
    return RECOVERABLE not in lowered and any(phrase in lowered for phrase in OOM_PHRASES)


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """What starting an engine needs besides its plan."""

    env: Mapping[str, str]
    """The part of our environment that a child may see."""
    program: str = ""
    """A `llama-server` to run instead of the wheel."""
    load_timeout_s: float | None = 300.0
    """Seconds without any output after which a load is given up."""
    request_timeout_s: float | None = None


def _unheard(share: float) -> None:
    """A progress nobody asked for."""


class LlamaCpp:
    """One running engine. Made by `start`."""

    def __init__(self, plan: LoadPlan, folder: Path, endpoint: Endpoint) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.wire: Wire
        """Set once the engine answers; closed by `stop`."""
        self._folder = folder
        self._process: Process | None = None
        self._report = MemoryReport(plan.model.stat().st_size)
        self._errors: list[str] = []
        self._dots = 0

    @classmethod
    async def start(cls, plan: LoadPlan, settings: LlamaCppSettings, progress: Progress = _unheard) -> LlamaCpp:
        """Spawn the child and wait until it answers. Raises LoadFailed or OutOfMemory; nothing is left running then."""
        folder = Path(tempfile.mkdtemp(prefix="llamero-engine-"))  # 0700 by definition
        endpoint = _endpoint(folder, settings)
        try:
            engine = cls(plan, folder, endpoint)
            try:
                await engine._spawn(settings)
                await engine._wait_ready(settings, progress)
                engine.wire = Wire(engine, request_timeout_s=settings.request_timeout_s)
            except BaseException:
                await engine.stop()
                raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        log.info("engine started pid=%d model=%s", engine.pid, plan.model.name)
        return engine

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def memory(self) -> MemoryUse:
        return self._report.use

    @property
    def last_error(self) -> str:
        if self._errors or self._process is None or not self._process.exited.done():
            return "\n".join(self._errors)[-MAX_ERROR_CHARS:]
        return describe_exit(self._process.exited.result())

    @property
    def exited(self) -> asyncio.Future[int]:
        """Resolves to the exit status when the child ends, whoever ended it."""
        assert self._process is not None
        return self._process.exited

    async def stop(self) -> None:
        if hasattr(self, "wire"):
            await self.wire.close()
        if self._process is not None:
            was_alive = self._process.alive
            await self._process.kill()
            if was_alive:
                log.info("engine stopped pid=%d model=%s", self._process.pid, self.plan.model.name)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _spawn(self, settings: LlamaCppSettings) -> None:
        order: dict[str, Any] = {"parent": os.getpid()}
        if settings.program:
            order["exec"] = [settings.program, *arguments(self.plan, self.endpoint)]
        else:
            order["settings"] = parameters(self.plan, self.endpoint)
        env = {
            **settings.env,
            "GOMP_SPINCOUNT": settings.env.get("GOMP_SPINCOUNT", SPIN_COUNT),
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "LLAMA_API_KEY": self.endpoint.secret,
        }
        argv = [sys.executable, "-m", "llamero.engines.runner"]
        line = msgspec.json.encode(order) + b"\n"
        try:
            self._process = await Process.spawn(argv, env=env, cwd=self._folder, first_line=line, on_line=self._on_line)
        except OSError as error:
            raise LoadFailed(f"error starting llama-server: {error}") from error

    def _on_line(self, line: str) -> None:
        log.debug("engine pid=%d %s", self.pid, line)
        self._report.feed(line)
        if line.strip(".") == "" and line:
            self._dots += len(line)
        if REQUEST_REFUSED in line:
            return  # one client's mistake, told to that client; it says nothing about the engine
        if any(mark in line for mark in ERROR_MARKS) or says_out_of_memory(line):
            self._errors.append(_LOG_PREFIX.sub("", line))
            while sum(map(len, self._errors)) > MAX_ERROR_CHARS and len(self._errors) > 1:
                del self._errors[0]

    async def _wait_ready(self, settings: LlamaCppSettings, progress: Progress) -> None:
        """Poll /health until it says ok. The stall clock starts again with every byte the engine prints."""
        process = self._process
        assert process is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with aiohttp.ClientSession(connector=connector(self.endpoint)) as session:
            while True:
                if not process.alive:
                    status = await process.exited
                    raise self._failure(f"llama-server process has terminated: {describe_exit(status)}")
                if await _health(session, HEALTH_TIMEOUT_S) == "ok":
                    self._errors.clear()  # whatever it complained about, it got over it
                    return
                if self._errors and says_out_of_memory(self._errors[-1]):
                    raise self._failure("the model does not fit into memory")
                progress(min(0.99, self._dots / 100))  # the loader prints about a hundred dots
                now = loop.time()
                if settings.load_timeout_s is not None and now - process.last_output_s > settings.load_timeout_s:
                    raise self._failure("timed out waiting for llama-server to start")
                await asyncio.sleep(POLL_QUICK_S if now - started < QUICK_POLLS_FOR_S else POLL_SLOW_S)

    def _failure(self, what: str) -> LoadFailed:
        assert self._process is not None
        words = "\n".join(self._errors)[-MAX_ERROR_CHARS:] or "\n".join(list(self._process.tail)[-3:])
        separator = " - " if what.startswith("timed out") else ": "
        text = f"{what}{separator}{words}" if words else what
        return (OutOfMemory if says_out_of_memory(words) else LoadFailed)(text)


_LOG_PREFIX = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} [A-Z] ")


async def healthy(endpoint: Endpoint) -> bool:
    """Whether a loaded engine still answers."""
    async with aiohttp.ClientSession(connector=connector(endpoint)) as session:
        return await _health(session, HEALTH_TIMEOUT_LOADED_S) == "ok"


async def _health(session: aiohttp.ClientSession, timeout_s: float) -> str:
    """`ok`, `loading`, or empty when nothing sensible answers."""
    try:
        async with session.get("http://engine/health", timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
            body = await response.content.read(4096)
            if response.status == 200 and b'"ok"' in body:
                return "ok"
            return "loading" if b"loading model" in body.lower() else ""
    except (aiohttp.ClientError, TimeoutError, OSError):
        return ""


def _endpoint(folder: Path, settings: LlamaCppSettings) -> Endpoint:
    secret = secrets.token_urlsafe(24)
    if sys.platform == "win32":
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
            return Endpoint(secret, port=probe.getsockname()[1])
    return Endpoint(secret, socket=str(folder / "engine.sock"))


def parameters(plan: LoadPlan, endpoint: Endpoint) -> dict[str, Any]:
    """The plan as attributes of the wheel's parameters (`runner.configure` applies them)."""
    settings: dict[str, Any] = {
        "model.path": str(plan.model),
        "hostnames": [endpoint.socket or "127.0.0.1"],
        "port": endpoint.port,
        "api_keys": [endpoint.secret],
        "ui": False,
        "offline": True,
        "warmup": False,  # it costs a generation before the first token and gains nothing here
        "fit_params": plan.fit,
        "verbosity": 4,  # the lines that name the buffers
        "n_ctx": plan.total_ctx_tokens,
        "n_parallel": plan.slots,
        "n_batch": plan.batch_tokens,
        "n_ubatch": plan.batch_tokens,
        "cache_ram_mib": plan.cache_ram_mib,
        "ctx_shift": plan.context_shift,
        "n_keep": plan.keep_tokens,
        "n_gpu_layers": plan.gpu_layers,
        "embedding": plan.embedding,
        "load_mode": "LLAMA_LOAD_MODE_AUTO" if plan.use_mmap else "LLAMA_LOAD_MODE_NONE",
        "flash_attn_type": {
            None: "LLAMA_FLASH_ATTN_TYPE_AUTO",
            True: "LLAMA_FLASH_ATTN_TYPE_ENABLED",
            False: "LLAMA_FLASH_ATTN_TYPE_DISABLED",
        }[plan.flash_attention],
    }
    if plan.embedding:
        settings["kv_unified"] = True  # separate streams cut texts of unequal length apart and pool only the rest
    if plan.kv_type:
        settings["cache_type_k"] = settings["cache_type_v"] = f"GGML_TYPE_{plan.kv_type.upper()}"
    if plan.threads:
        settings["cpuparams.n_threads"] = settings["cpuparams_batch.n_threads"] = plan.threads
    if plan.main_gpu is not None:
        settings["main_gpu"] = plan.main_gpu
        settings["split_mode"] = "LLAMA_SPLIT_MODE_NONE"
    if plan.projectors:
        settings["mmproj.path"] = str(plan.projectors[0])
        settings["mmproj_use_gpu"] = plan.gpu_layers != 0
    if plan.adapters:
        settings["lora_adapters"] = [{"path": str(path), "scale": 1.0} for path in plan.adapters]
    return settings


def arguments(plan: LoadPlan, endpoint: Endpoint) -> list[str]:
    """The plan as flags of a `llama-server` program (scheduler §10.1). The secret travels in its environment."""
    flags = [
        *("--model", str(plan.model)),
        *(("--host", endpoint.socket) if endpoint.socket else ("--host", "127.0.0.1", "--port", str(endpoint.port))),
        *("--no-webui", "--offline", "--no-warmup"),
        *("--log-verbosity", "4", "--no-log-prefix", "--no-log-timestamps"),
        *("-c", str(plan.total_ctx_tokens), "-np", str(plan.slots)),
        *("-b", str(plan.batch_tokens), "-ub", str(plan.batch_tokens)),
        *("--cache-ram", str(plan.cache_ram_mib)),
        *("--flash-attn", {None: "auto", True: "on", False: "off"}[plan.flash_attention]),
    ]
    if plan.embedding:
        flags += ["--embedding", "--kv-unified"]
    if plan.context_shift:
        flags += ["--context-shift", *(("--keep", str(plan.keep_tokens)) if plan.keep_tokens > 0 else ())]
    if plan.kv_type:
        flags += ["--cache-type-k", plan.kv_type, "--cache-type-v", plan.kv_type]
    if plan.gpu_layers >= 0:
        flags += ["-ngl", str(plan.gpu_layers)]
    if plan.threads:
        flags += ["-t", str(plan.threads)]
    if plan.main_gpu is not None:
        flags += ["--split-mode", "none", "--main-gpu", str(plan.main_gpu)]
    if not plan.use_mmap:
        flags += ["--load-mode", "none"]
    if plan.projectors:
        flags += ["--mmproj", str(plan.projectors[0])]
        if plan.gpu_layers == 0:
            flags.append("--no-mmproj-offload")
    for adapter in plan.adapters:
        flags += ["--lora", str(adapter)]
    return flags


__all__ = ["EngineError", "LlamaCpp", "LlamaCppSettings", "arguments", "healthy", "parameters", "says_out_of_memory"]

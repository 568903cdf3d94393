"""llama.cpp's server as an engine: from a load plan to a process that answers.

The wheel runs inside `runner.py`; a foreign `llama-server` program gets the same plan as command-line flags. Scheduling
and HTTP bodies live elsewhere (`scheduler/`, `wire.py`). Source: scheduler §10.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..errors import LoadFailed, OutOfMemory, TemplateRefused
from . import Endpoint, LoadPlan, MemoryUse, Progress, engine_folder, speculation
from .devices import VISIBILITY
from .memory import MemoryReport, says_out_of_memory
from .process import Process, describe_exit
from .runner import ALONE, COMMAND, CROWDED
from .wire import Wire

log = logging.getLogger(__name__)

POLL_QUICK_S = 0.01
"""Pause between health checks at first: a small model is up in 0.3 s."""
POLL_SLOW_S = 0.25
QUICK_POLLS_FOR_S = 2.0
HEALTH_TIMEOUT_S = 0.2

SIGN_OF_LIFE_BYTES = 2**20
"""Taken in since the last look, they count like a line of output: this engine prints nothing while it reads weights."""

MOST_FILES_TAKEN_IN = 3
"""Times the size of its file that an engine takes in while it loads, a generous figure. One that grows on does not read
weights: its chat template is at work, which may never end."""

OUT_OF_MEMORY_S = 0.25
"""Silence after an out-of-memory line until it counts: the engine may say next that it tries again with less."""

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

REQUEST_REFUSED = ("send_error", "got exception", "llg error")
"""One client's mistake, with that client's words: they say nothing about the engine and are for nobody else to read."""

TEMPLATE_REFUSED = "chat template parsing error"

SLOTS_MADE = "context checkpoints"
"""In the last line that the engine prints before it tries out the chat template of the model."""

TEMPLATE_TIMEOUT_S = 2.0
"""Of silence behind that line: templates take milliseconds, and one that takes longer may never end (security §5)."""

RECOVERABLE = "retrying without pipeline parallelism"

_LOG_PREFIX = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} ([A-Z]) ")
_CALM = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} [ID] ")
_PRIVATE = r"(?<![\w./\\])(?:[A-Za-z]:)?[/\\](?:[^\s'\"/\\]+[/\\])+|\b0x[0-9a-fA-F]{6,}"
"""Of an absolute path, all but the last part; and addresses in memory (security X-90)."""

SPIN_COUNT = "300"
"""OpenMP's threads wait for one another by spinning. Left alone they spin for so long that one busy neighbour per two
cores costs nearly all of the decode speed; so short a spin keeps more than a third of it, and costs some percent on
cores of one's own (bench/README.md). For engines that cannot be told who else is busy."""


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """What starting an engine needs besides its plan."""

    env: Mapping[str, str]
    """The part of our environment that a child may see."""
    program: str = ""
    """A `llama-server` to run instead of the wheel."""
    load_timeout_s: float | None = 300.0
    """Seconds without any sign of life after which a load is given up."""
    request_timeout_s: float | None = None
    minds_others: bool = False
    """Whether somebody tells the engine who else is busy, by `crowd`."""
    slot_folder: Callable[[], AbstractContextManager[Path | None]] = contextlib.nullcontext
    """A private folder for the life of one engine, in which it saves what its slots hold; None: it cannot."""


def _unheard(share: float) -> None:
    """A progress nobody asked for."""


class LlamaCpp:
    """One running engine. Made by `start`."""

    def __init__(self, plan: LoadPlan, settings: LlamaCppSettings) -> None:
        self.plan = plan
        self._settings = settings
        self._file_bytes = sum(path.stat().st_size for path in (plan.model, plan.draft_model) if path is not None)
        self._report = MemoryReport(self._file_bytes)
        self._folder = engine_folder.make()
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.slot_folder = None if plan.pools or plan.drafts else self._stack.enter_context(settings.slot_folder())
        self.endpoint = _endpoint(self._folder)
        self.build = ""
        self.wire = Wire(self, request_timeout_s=settings.request_timeout_s)
        self._process: Process | None = None
        self._errors: list[str] = []
        self._refuses_template = False
        self._has_slots = False
        self._is_ready = False
        self._is_crowded = False
        files = (plan.model, plan.draft_model or plan.model, *plan.projectors, *plan.all_adapters)
        paths = (*files, self.endpoint.socket or self._folder)
        folders = {re.escape(os.path.join(os.path.dirname(path), "")) for path in paths}
        self._private = re.compile("|".join([*folders, _PRIVATE]))

    @classmethod
    async def start(cls, plan: LoadPlan, settings: LlamaCppSettings, progress: Progress = _unheard) -> LlamaCpp:
        """Spawn the child and wait until it answers. Raises LoadFailed; nothing is left running then."""
        try:
            engine = cls(plan, settings)
        except OSError as error:
            raise LoadFailed(f"error starting llama-server: {error.strerror}") from error
        try:
            await engine._wait_ready(await engine._spawn(), progress)
        except BaseException:
            await engine.stop()
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
        use = self._report.use
        return replace(use, gpus=tuple((self._card(name), size) for name, size in use.gpus))

    def _card(self, name: str) -> str:
        """Our name of the card that the engine calls so: it counts those that it sees from 0."""
        names = self.plan.placement.gpus
        place = name[len(name.rstrip("0123456789")) :]
        return names[int(place)] if place and int(place) < len(names) else name

    @property
    def last_error(self) -> str:
        if self._errors or self._process is None or not self._process.exited.done():
            return self._without_paths(self._errors)
        return describe_exit(self._process.exited.result())

    @property
    def exited(self) -> asyncio.Future[int]:
        assert self._process is not None
        return self._process.exited

    def crowd(self, is_crowded: bool) -> None:
        if self._can_mind_others and self._process is not None and is_crowded != self._is_crowded:
            self._is_crowded = is_crowded
            self._process.say((CROWDED if is_crowded else ALONE) + b"\n")

    @property
    def _can_mind_others(self) -> bool:
        """A foreign program would not listen."""
        return self._settings.minds_others and not self._settings.program and sys.platform == "linux"

    async def stop(self) -> None:
        was_alive = self.alive
        try:
            if self._process is not None:
                await self._process.kill()
            await self.wire.close()
        finally:
            self._stack.close()
        if was_alive:
            log.info("engine stopped pid=%d model=%s", self.pid, self.plan.model.name)

    async def _spawn(self) -> Process:
        order: dict[str, Any] = {"parent": os.getpid()}
        if self._settings.program:
            program = _find(self._settings)
            self.build = _program_build(program)
            order["exec"] = [program, *arguments(self.plan, self.endpoint, self.slot_folder)]
        else:
            self.build = _wheel_build()
            order["settings"] = parameters(self.plan, self.endpoint, self.slot_folder)
        env = {
            **({} if self._can_mind_others else {"GOMP_SPINCOUNT": SPIN_COUNT}),
            "GGML_NO_BACKTRACE": "1",  # an abort would start a debugger and print addresses
            **self._visible_env(),
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "LLAMA_API_KEY": self.endpoint.secret,
        }
        line = msgspec.json.encode(order) + b"\n"
        try:
            self._process = await Process.spawn(
                COMMAND, env=env, cwd=self._folder, first_line=line, on_line=self._on_line
            )
        except OSError as error:
            raise LoadFailed(f"error starting llama-server: {error.strerror}") from error
        return self._process

    def _visible_env(self) -> dict[str, str]:
        """The part of our environment that the engine may see, and of the GPUs those that it is to use."""
        visible = dict(self.plan.placement.visible)
        hidden = {name for names in VISIBILITY.values() for name in names} if visible else set()
        return {name: value for name, value in self._settings.env.items() if name not in hidden} | visible

    def _on_line(self, line: str) -> None:
        if self._is_ready and _CALM.match(line) and not log.isEnabledFor(logging.DEBUG):
            return  # there are several for every text that it reads: looking closer costs more than short texts do
        if any(words in line for words in REQUEST_REFUSED):
            return
        log.debug("engine pid=%d %s", self.pid, line)
        self._report.feed(line)
        self._refuses_template = self._refuses_template or TEMPLATE_REFUSED in line
        self._has_slots = self._has_slots or SLOTS_MADE in line
        if speculation.REFUSED in line:
            log.warning("%s is loaded without speculation: %s", self.plan.model.name, _LOG_PREFIX.sub("", line))
            self.plan = self.plan.undrafted
        if RECOVERABLE in line:
            self._errors.clear()
        elif _is_error(line):
            self._errors.append(_LOG_PREFIX.sub("", line))
            while sum(map(len, self._errors)) > MAX_ERROR_CHARS and len(self._errors) > 1:
                del self._errors[0]

    async def _wait_ready(self, process: Process, progress: Progress) -> None:
        """Poll /health until it says ok. Whatever shows that the engine gets on restarts the stall clock."""
        loop = asyncio.get_running_loop()
        started_s = heard_s = loop.time()
        taken_bytes = 0
        loading = False
        while process.alive:
            health = await self.wire.health(HEALTH_TIMEOUT_S)
            if health == "ok":
                self._errors.clear()  # whatever it complained about, it got over it
                self._is_ready = True
                return
            now_s = loop.time()
            heard_s = max(heard_s, process.last_output_s)
            if health == "loading" and not loading:
                loading, heard_s = True, now_s
            bytes_now = min(process.bytes_taken_in, MOST_FILES_TAKEN_IN * self._file_bytes)
            if bytes_now >= taken_bytes + SIGN_OF_LIFE_BYTES:
                taken_bytes, heard_s = bytes_now, now_s
                progress(min(0.99, taken_bytes / max(1, self._file_bytes)))
            if self._errors and says_out_of_memory(self._errors[-1]) and now_s - heard_s > OUT_OF_MEMORY_S:
                raise self._failure("the model does not fit into memory", ": ")
            if self._has_slots and now_s - process.last_output_s > TEMPLATE_TIMEOUT_S:
                raise TemplateRefused(f"the chat template took longer than {TEMPLATE_TIMEOUT_S:g} s")
            if self._settings.load_timeout_s is not None and now_s - heard_s > self._settings.load_timeout_s:
                raise self._failure("timed out waiting for llama-server to start", " - ")
            await asyncio.sleep(POLL_QUICK_S if now_s - started_s < QUICK_POLLS_FOR_S else POLL_SLOW_S)
        status = describe_exit(await process.exited)
        raise self._failure(f"llama-server process has terminated: {status}", ": ")

    def _failure(self, what: str, separator: str) -> LoadFailed:
        assert self._process is not None
        words = self._without_paths(self._errors or list(self._process.tail)[-3:])
        kind = LoadFailed
        if self._refuses_template:
            kind = TemplateRefused
        elif says_out_of_memory(words):
            kind = OutOfMemory
        return kind(f"{what}{separator}{words}" if words else what)

    def _without_paths(self, lines: Sequence[str]) -> str:
        return self._private.sub("", "\n".join(lines))[-MAX_ERROR_CHARS:]


def _is_error(line: str) -> bool:
    prefix = _LOG_PREFIX.match(line)
    level = prefix[1] if prefix else ""  # a foreign program is told to print none (scheduler §10.1)
    return level == "E" or any(mark in line for mark in ERROR_MARKS) or says_out_of_memory(line)


def _find(settings: LlamaCppSettings) -> str:
    """The foreign program's absolute path: the engine does not run in the folder that a relative one is meant from."""
    found = shutil.which(settings.program, path=settings.env.get("PATH"))
    if found is None:
        raise LoadFailed(f"error starting llama-server: no program {Path(settings.program).name!r}")
    return os.path.abspath(found)


@functools.cache
def _wheel_build() -> str:
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"


def _program_build(program: str) -> str:
    """Tells a foreign program from its successor in the same place."""
    status = os.stat(program)
    return f"{os.path.realpath(program)} {status.st_size} {status.st_mtime_ns}"


def _endpoint(folder: Path) -> Endpoint:
    secret = secrets.token_urlsafe(24)
    if sys.platform == "win32":
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
            return Endpoint(secret, port=probe.getsockname()[1])
    return Endpoint(secret, socket=str(folder / engine_folder.SOCKET))


def parameters(plan: LoadPlan, endpoint: Endpoint, slot_folder: Path | None = None) -> dict[str, Any]:
    """The plan as attributes of the wheel's parameters (`runner.configure` applies them)."""
    settings: dict[str, Any] = {
        "model.path": str(plan.model),
        "hostnames": [endpoint.socket or "127.0.0.1"],
        "port": endpoint.port,
        "api_keys": [endpoint.secret],
        "ui": False,
        "endpoint_slots": False,
        "offline": True,
        "warmup": False,  # it costs a generation before the first token and gains nothing here
        "fit_params": plan.placement.fit,
        "verbosity": 4,  # the lines that name the buffers
        "n_ctx": plan.total_ctx_tokens,
        "n_parallel": plan.slots,
        "n_batch": plan.batch_tokens,
        "n_ubatch": plan.batch_tokens,
        "cache_ram_mib": plan.cache_ram_mib,
        "ctx_shift": plan.context_shift,
        "n_keep": plan.keep_tokens,
        "n_gpu_layers": plan.gpu_layers,
        "embedding": plan.pools,
        "load_mode": f"LLAMA_LOAD_MODE_{_load_mode(plan) or 'auto'}".upper(),
        "flash_attn_type": {
            None: "LLAMA_FLASH_ATTN_TYPE_AUTO",
            True: "LLAMA_FLASH_ATTN_TYPE_ENABLED",
            False: "LLAMA_FLASH_ATTN_TYPE_DISABLED",
        }[plan.flash_attention],
    }
    if slot_folder is not None:
        settings["slot_save_path"] = os.path.join(slot_folder, "")  # the engine puts a file's name right behind it
    if plan.reranking:
        settings["pooling_type"] = "LLAMA_POOLING_TYPE_RANK"
    if plan.pools:
        settings["kv_unified"] = True  # separate streams cut texts of unequal length apart and pool only the rest
        settings["slot_prompt_similarity"] = 0.0  # nothing is reused: no slot suits a text better than another
    elif plan.is_unified:
        settings |= {"kv_unified": True, "kv_unified_per_slot": plan.ctx_tokens}
        settings["cache_idle_slots"] = False  # else every request empties all idle slots: nothing to go on from
    if plan.kv_type:
        settings["cache_type_k"] = settings["cache_type_v"] = f"GGML_TYPE_{plan.kv_type.upper()}"
    if plan.threads:
        settings["cpuparams.n_threads"] = settings["cpuparams_batch.n_threads"] = plan.threads
    place = plan.placement
    if len(place.gpus) == 1:
        settings |= {"main_gpu": 0, "split_mode": "LLAMA_SPLIT_MODE_NONE"}
    elif place.gpus and plan.main_gpu is not None:
        settings["main_gpu"] = plan.main_gpu
    if place.fit_target_mib:
        settings["fit_params_target"] = [mib * 2**20 for mib in place.fit_target_mib]
    if plan.projectors:
        settings["mmproj.path"] = str(plan.projectors[0])
        settings["mmproj_use_gpu"] = place.projector_on_gpu
        if plan.image_tokens:
            settings["image_min_tokens"] = plan.image_tokens
    if plan.chat_template:
        settings["use_jinja"] = True
        settings["chat_template"] = plan.chat_template
    if plan.all_adapters:
        settings["lora_adapters"] = [{"path": str(path), "scale": 1.0} for path in plan.all_adapters]
    return settings | speculation.settings(plan)


def _load_mode(plan: LoadPlan) -> str:
    """How the file of weights is read; empty: it is mapped."""
    return "direct_io" if plan.placement.reads_directly else "" if plan.use_mmap else "none"


def arguments(plan: LoadPlan, endpoint: Endpoint, slot_folder: Path | None = None) -> list[str]:
    """The plan as flags of a `llama-server` program (scheduler §10.1). The secret travels in its environment."""
    flags = [
        *("--model", str(plan.model)),
        *(("--host", endpoint.socket) if endpoint.socket else ("--host", "127.0.0.1", "--port", str(endpoint.port))),
        *("--no-webui", "--offline", "--no-warmup", "--no-slots"),
        *("--log-verbosity", "4", "--no-log-prefix", "--no-log-timestamps"),
        *("-c", str(plan.total_ctx_tokens), "-np", str(plan.slots)),
        *("-b", str(plan.batch_tokens), "-ub", str(plan.batch_tokens)),
        *("--cache-ram", str(plan.cache_ram_mib)),
        *("--flash-attn", {None: "auto", True: "on", False: "off"}[plan.flash_attention]),
    ]
    if slot_folder is not None:
        flags += ["--slot-save-path", str(slot_folder)]
    if plan.pools:
        flags += ["--reranking" if plan.reranking else "--embedding", "--kv-unified"]
        flags += ["--slot-prompt-similarity", "0"]
    elif plan.is_unified:
        flags += ["--kv-unified", "--kv-unified-per-slot", str(plan.ctx_tokens)]
        flags.append("--no-cache-idle-slots")
    if plan.context_shift:
        flags += ["--context-shift", *(("--keep", str(plan.keep_tokens)) if plan.keep_tokens > 0 else ())]
    if plan.kv_type:
        flags += ["--cache-type-k", plan.kv_type, "--cache-type-v", plan.kv_type]
    if plan.gpu_layers >= 0:
        flags += ["-ngl", str(plan.gpu_layers)]
    if plan.threads:
        flags += ["-t", str(plan.threads)]
    place = plan.placement
    if not place.fit:
        flags += ["--fit", "off"]
    if len(place.gpus) == 1:
        flags += ["--split-mode", "none", "--main-gpu", "0"]
    elif place.gpus and plan.main_gpu is not None:
        flags += ["--main-gpu", str(plan.main_gpu)]
    if plan.gpu_layers == 0:
        flags += ["--device", "none"]
    if place.fit_target_mib:
        flags += ["--fit-target", ",".join(map(str, place.fit_target_mib))]
    if mode := _load_mode(plan):
        flags += ["--load-mode", {"direct_io": "dio"}.get(mode, mode)]
    if plan.projectors:
        flags += ["--mmproj", str(plan.projectors[0])]
        if not place.projector_on_gpu:
            flags.append("--no-mmproj-offload")
        if plan.image_tokens:
            flags += ["--image-min-tokens", str(plan.image_tokens)]
    if plan.chat_template:
        flags += ["--jinja", "--chat-template", plan.chat_template]
    for adapter in plan.all_adapters:
        flags += ["--lora", str(adapter)]
    return flags + speculation.flags(plan)

"""What an engine is: a program that holds one loaded model and answers llama-server's HTTP.

This file states what callers may rely on; `llamacpp.py` is the one implementation so far. It decides nothing: the
scheduler says what to load and when to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the child program passes through this file on its way to the first token: keep it light
    import asyncio

    from .wire import Wire


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """LoRA layers in a file of their own."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Everything that an engine is started with. Two equal plans give interchangeable engines."""

    key: str
    """Identity of the weights: runners are looked up by it (scheduler §3)."""
    model: Path
    projectors: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    """The model's own."""
    extra_adapters: tuple[AdapterFile, ...] = ()
    """Of other models with the same weights: loaded for requests that name them."""
    ctx_tokens: int
    """`num_ctx`, the window of one slot."""
    slots: int = 1
    pool_tokens: int = 0
    """Of the K/V cache that all slots share; 0: each has a window of its own."""
    batch_tokens: int = 512
    gpu_layers: int = -1
    """-1: the engine decides; 0: none."""
    main_gpu: int | None = None
    use_mmap: bool = True
    threads: int = 0
    """0: the engine decides."""
    embedding: bool = False
    """Whether it makes vectors of texts instead of answering them."""
    reranking: bool = False
    """Whether it says how well texts answer a query. Neither can be changed once it runs."""
    kv_type: str = ""
    flash_attention: bool | None = None
    context_shift: bool = True
    keep_tokens: int = 0
    """Prompt tokens that survive a context shift."""
    cache_ram_mib: int = 0
    """Bound of the engine's own cache of old prompts; its default of 8 GiB is never wanted."""
    chat_template: str = ""
    """Jinja to use instead of the one in the file; empty: the file's own."""
    spare_template: str = ""
    """Jinja to use when the engine refuses the one in the file; empty: there is nothing to refuse."""
    fit: bool = False
    """Let the engine fit layers into GPU memory; off without GPUs, where it costs load time."""

    @property
    def pools(self) -> bool:
        """Whether it takes a text in as a whole and writes none."""
        return self.embedding or self.reranking

    @property
    def all_adapters(self) -> tuple[Path, ...]:
        """In the order of the engine, which knows them by their place."""
        return (*self.adapters, *(adapter.path for adapter in self.extra_adapters))

    @property
    def total_ctx_tokens(self) -> int:
        """The KV cache of all slots together."""
        return self.pool_tokens or self.ctx_tokens * self.slots

    @property
    def requests_at_once(self) -> int:
        """One that pools has its slots for the texts of a single request (scheduler §16)."""
        return 1 if self.pools else self.slots


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens. Exactly one of `socket` and `port` is used."""

    secret: str
    """Bearer token, random per engine, so that other local users cannot drive it."""
    socket: str = ""
    """Path of a unix socket in a folder that only we can enter."""
    port: int = 0
    """Loopback TCP, where there are no unix sockets."""

    @property
    def url(self) -> str:
        """What requests are addressed to; over a socket the host is but a name."""
        return "http://engine" if self.socket else f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that a loaded engine reports."""

    total_bytes: int = 0
    vram_bytes: int = 0


class Engine(Protocol):
    """One loaded model."""

    @property
    def plan(self) -> LoadPlan:
        """What it was started with in the end: its chat template may be the spare one of the plan that was wanted."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def pid(self) -> int: ...

    @property
    def wire(self) -> Wire:
        """Its HTTP, open while it runs."""

    @property
    def exited(self) -> asyncio.Future[int]:
        """Resolves to the exit status when the process ends, whoever ended it."""

    @property
    def alive(self) -> bool:
        """Whether the process runs. Reading it to show is fine; a request finds out by asking."""

    @property
    def memory(self) -> MemoryUse: ...

    @property
    def last_error(self) -> str:
        """The engine's last words of trouble, at most 8 KiB; empty when there were none."""

    async def stop(self) -> None:
        """End the process and all it started, and wait for it. Safe to call twice."""


Progress = Callable[[float], None]
"""Told how far a load has come, 0 to 1."""

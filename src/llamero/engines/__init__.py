"""What an engine is: a program that holds one loaded model and answers llama-server's HTTP.

This file states what callers may rely on; `llamacpp.py` is the one implementation so far. It decides nothing: the
scheduler says what to load and when to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # the child program passes through this file on its way to the first token: keep it light
    import asyncio

    from .wire import Wire


WINDOW_STEP = 256
"""The engine rounds each slot's window up to a multiple of this, unless the slots share one pool that is capped."""

Speculation = Literal["", "ngram", "draft", "mtp", "dflash"]
"""What guesses the next tokens, for the model to confirm several at a time: nothing, what has followed the same tokens
before, a smaller model, layers that were trained to look ahead, or a model of whole blocks."""


POOLING_CALLS = 3
"""Batches of texts that one request has with the engine at a time: the next is there when one is done."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """LoRA layers in a file of their own."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an engine computes: chosen anew at each load, and no reason to load again."""

    gpus: tuple[str, ...] = ()
    """Our names of the cards that it sees, in its own order. None: it computes on the CPU."""
    visible: tuple[tuple[str, str], ...] = ()
    """The variables that show it these cards and no others; they take the place of all such in the environment."""
    reads_directly: bool = False
    """Whether weights go past the system's cache of files."""
    projector_on_gpu: bool = True
    fit: bool = False
    """Let the engine fit layers into GPU memory; off without GPUs, where it costs load time."""
    fit_target_mib: tuple[int, ...] = ()
    """What it leaves free of each card then, one number or one for each; empty: as it likes."""


ON_CPU = Placement()


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
    """The KV cache that all slots share, no request beyond its window; 0: each slot has a window of its own."""
    batch_tokens: int = 512
    gpu_layers: int = -1
    """-1: the engine decides; 0: none."""
    main_gpu: int | None = None
    """As it was asked for, which may be a card that there is not."""
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
    image_tokens: int = 0
    """That a picture takes at least; 0: as the model says."""
    placement: Placement = ON_CPU
    speculation: Speculation = ""
    draft_tokens: int = 0
    """Guessed at a time, at most."""
    match_tokens: int = 0
    """That must have come before in the same order, for `ngram` to guess what follows them."""
    draft_model: Path | None = None
    """Whose guesses they are; None for `ngram`, and for `mtp` out of the model's own layers."""

    @property
    def pools(self) -> bool:
        """Whether it takes a text in as a whole and writes none."""
        return self.embedding or self.reranking

    @property
    def drafts(self) -> bool:
        """Whether what guesses keeps a KV cache of its own. Saved slots lack it, and the engine fails without."""
        return self.speculation not in ("", "ngram")

    @property
    def undrafted(self) -> LoadPlan:
        """The same without guessing."""
        return replace(self, speculation="", draft_tokens=0, match_tokens=0, draft_model=None)

    def guessing_as(self, other: LoadPlan) -> LoadPlan:
        """The same with another plan's way of guessing."""
        return replace(
            self,
            speculation=other.speculation,
            draft_tokens=other.draft_tokens,
            match_tokens=other.match_tokens,
            draft_model=other.draft_model,
        )

    @property
    def scored_tokens(self) -> int:
        """Of one batch, those that the engine scores the next token after: of each slot the last, and every guess."""
        return min(self.batch_tokens, self.slots * (1 + self.draft_tokens))

    @property
    def all_adapters(self) -> tuple[Path, ...]:
        """In the order of the engine, which knows them by their place."""
        return (*self.adapters, *(adapter.path for adapter in self.extra_adapters))

    @property
    def total_ctx_tokens(self) -> int:
        """The KV cache of all slots together."""
        return self.pool_tokens or self.ctx_tokens * self.slots

    @property
    def is_unified(self) -> bool:
        """Whether the slots share one cache. The engine rounds separate windows up to multiples of WINDOW_STEP; with
        separate streams it would cut texts of unequal length apart and pool only the rest."""
        return self.pools or self.pool_tokens > 0 or self.ctx_tokens % WINDOW_STEP > 0

    @property
    def seat_tokens(self) -> int:
        """The most of it that one request can fill at a time."""
        return min(POOLING_CALLS * self.batch_tokens, self.total_ctx_tokens) if self.pools else self.ctx_tokens

    @property
    def seats(self) -> int:
        """Requests at a time. The slots of a model that pools are for the texts of each (scheduler §16)."""
        if self.reranking:
            return 1  # its texts are not sent in calls that are sure to fit
        return max(1, self.total_ctx_tokens // self.seat_tokens) if self.pools else self.slots


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
    mapped_bytes: int = 0
    """Of the total, pages of a file: the system takes them back when it needs them."""
    gpus: tuple[tuple[str, int], ...] = ()
    """On each card, by its name."""


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
    def build(self) -> str:
        """Names the program and its version: what another one saved, it may not understand."""

    @property
    def slot_folder(self) -> Path | None:
        """Where it saves what its slots hold, and finds what it is to restore; None: nowhere."""

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

    def crowd(self, is_crowded: bool) -> None:
        """Say whether others are busy on the same cores: then its threads must not wait by spinning."""

    async def stop(self) -> None:
        """End the process and all it started, and wait for it. Safe to call twice."""


Progress = Callable[[float], None]
"""Told how far a load has come, 0 to 1."""

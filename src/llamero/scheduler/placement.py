"""Which GPUs a model goes to, and what follows from that: batch, flash attention, mapping, the projector's place. Pure.

The engine itself decides how many layers a card gets. Thresholds are those of the reference and are meant for its way
of predicting sizes (`estimate.predict`). Source: scheduler §8.4, §9.1, §9.2, §9.4, §10.1. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..engines.devices import VISIBILITY, Gpu

GIB = 2**30
MIB = 2**20

FIT_SHARE = 0.8
"""A model goes where it takes no more than this share of what is free, prompts and fragments need the rest."""

PROJECTOR_ROOM_BYTES = GIB
"""What a projector needs besides its own weights while it looks at a picture."""

DEFAULT_BATCH_TOKENS = 512
LOW_BATCH_TOKENS = 256
LOW_MEMORY_BYTES = 8 * GIB
"""A CUDA card with no more than this left takes small batches where attention needs much room."""
LOW_MEMORY_CTX_TOKENS = 4096

BATCH_STEPS = ((32_768, 2048), (4096, 1024))
"""A longer context than this has the larger batch."""
BATCH_SHARES = {2048: 0.60, 1024: 0.75}
"""A model may take so much of what is free for a batch of this size to fit."""
SURCHARGES = {2048: 2 * GIB, 1024: 768 * MIB}

MIN_RAM_LEFT_BYTES = 8 * 10**9
MIN_RAM_LEFT_SHARE = 0.1
"""Mapping needs so much free memory besides the files: else the system keeps throwing pages out that it needs next."""


def available(
    gpus: Iterable[Gpu], used: Mapping[str, int], *, overhead_bytes: int, ram_available_bytes: int
) -> tuple[Gpu, ...]:
    """The cards with what may be used of them and what is free. `used`: by our own engines, by card.

    What a card reports may be older than our own loads. An integrated one has no more than main memory has.
    """
    return tuple(
        replace(
            gpu,
            total_bytes=max(0, gpu.total_bytes - overhead_bytes),
            free_bytes=min(
                max(0, min(gpu.free_bytes, gpu.total_bytes - used.get(gpu.name, 0)) - overhead_bytes),
                ram_available_bytes if gpu.is_integrated else gpu.total_bytes,
            ),
        )
        for gpu in gpus
    )


@dataclass(frozen=True, slots=True)
class Cards:
    """The GPUs of one model, all of one library."""

    gpus: tuple[Gpu, ...] = ()
    warning: str = ""

    @property
    def free_bytes(self) -> int:
        return sum(gpu.free_bytes for gpu in self.gpus)

    @property
    def libraries(self) -> set[str]:
        return {gpu.library for gpu in self.gpus}


def choose(gpus: Sequence[Gpu], *, predicted_bytes: int, main_gpu: int | None, spread: bool) -> Cards:
    """Where a model goes that wants GPUs (scheduler §8.4).

    1. There is at most one.
    2. The request names one, by its place among those of a library: the best of those, alone.
    3. The best one that it fits, alone.
    4. All cards of the best library: libraries are never mixed.
    """
    groups = _by_library(gpus)
    named = [group[main_gpu] for group in groups if main_gpu is not None and 0 <= main_gpu < len(group)]
    warning = f"main_gpu {main_gpu}: there is no such GPU" if main_gpu and not named else ""
    if len(gpus) < 2:  # 1
        return Cards(tuple(gpus), warning)
    if named:  # 2
        return Cards((max(named, key=_worth),))
    fitting = [gpu for gpu in gpus if predicted_bytes <= FIT_SHARE * gpu.free_bytes]
    if fitting and not spread and main_gpu is None:  # 3
        return Cards((max(fitting, key=_worth),))
    best = max(groups, key=_group_worth)  # 4
    return Cards(tuple(best), warning)


def _by_library(gpus: Iterable[Gpu]) -> list[list[Gpu]]:
    def library(gpu: Gpu) -> str:
        return gpu.library

    ordered = sorted(gpus, key=lambda gpu: (gpu.library, gpu.index))
    return [list(group) for _, group in groupby(ordered, library)]


def _worth(gpu: Gpu) -> tuple[bool, int]:
    return not gpu.is_integrated, gpu.free_bytes


def _group_worth(group: list[Gpu]) -> tuple[bool, int]:
    return not all(gpu.is_integrated for gpu in group), sum(gpu.free_bytes for gpu in group)


def visible(chosen: Sequence[Gpu], gpus: Sequence[Gpu], system: str) -> tuple[tuple[str, str], ...]:
    """The variables with which an engine sees the chosen cards and no others. Empty: it sees what we see."""
    variables = {}
    for library in sorted({gpu.library for gpu in gpus}):
        ours = [gpu for gpu in chosen if gpu.library == library]
        names_all = library == "Vulkan" and len(ours) > 1
        if (name := _variable(library, system)) and not names_all:
            variables[name] = ",".join(gpu.id for gpu in ours) if ours else HIDDEN[library]
    return tuple(variables.items())


HIDDEN = {"CUDA": "-1", "ROCm": "-1", "Vulkan": ""}
"""What hides all cards of a library. Vulkan takes only numbers of cards that there are, or none."""


def _variable(library: str, system: str) -> str:
    names = VISIBILITY.get(library, ("",))
    return names[-1] if library == "ROCm" and system == "win32" else names[0]


def flash_attention(setting: bool | None, cards: Cards) -> bool | None:
    """None: the engine decides. Off where a card cannot (scheduler §9.2)."""
    if setting is None and not all(_can_flash(gpu) for gpu in cards.gpus):
        return False
    return setting


def _can_flash(gpu: Gpu) -> bool:
    if gpu.library != "CUDA":
        return True
    is_old_driver = 0 < gpu.cuda_level < 7
    return not is_old_driver and (gpu.compute is None or (gpu.compute >= (6, 0) and gpu.compute != (7, 2)))


def batch(ctx_tokens: int, cards: Cards, *, flash: bool | None, predicted_bytes: int) -> int:
    """Prompt tokens that are read at a time; `ctx_tokens` is the whole cache (scheduler §9.1). Not for embedders.

    1. Attention that is not computed piece by piece needs room for all of it.
    2. The larger the context the larger the batch, as far as it fits.
    """
    if flash is False and "CUDA" in cards.libraries:  # 1
        is_low = any(gpu.free_bytes <= LOW_MEMORY_BYTES for gpu in cards.gpus)
        return LOW_BATCH_TOKENS if is_low and ctx_tokens > LOW_MEMORY_CTX_TOKENS else DEFAULT_BATCH_TOKENS
    wanted = [tokens for least, tokens in BATCH_STEPS if ctx_tokens > least]  # 2
    return next((tokens for tokens in wanted if _has_room(tokens, cards, predicted_bytes)), DEFAULT_BATCH_TOKENS)


def _has_room(tokens: int, cards: Cards, predicted_bytes: int) -> bool:
    if not cards.gpus:
        return True  # main memory gives way, and is checked against an estimate that knows the batch
    free = cards.free_bytes
    return predicted_bytes <= BATCH_SHARES[tokens] * free and SURCHARGES[tokens] <= FIT_SHARE * free - predicted_bytes


@dataclass(frozen=True, slots=True)
class Ram:
    """Main memory, as far as it decides about mapping."""

    free_bytes: int
    total_bytes: int
    mapped_bytes: int
    """Of the files that are mapped now."""


def maps_weights(
    cards: Cards, ram: Ram, system: str, *, predicted_bytes: int, file_bytes: int, is_partial: bool
) -> bool:
    """Whether the engine maps the file of weights or reads it, where nobody says (scheduler §9.4).

    1. A CPU reads what it computes with over and over.
    2. Windows keeps what is mapped for CUDA in memory; so does Metal, where some layers stay on the CPU.
    3. All of it goes to cards of their own, and what is mapped would push other things out of main memory.
    """
    if not cards.gpus:  # 1
        return False
    has_room = predicted_bytes <= FIT_SHARE * cards.free_bytes
    if system == "win32" and "CUDA" in cards.libraries:  # 2
        return False
    if "Metal" in cards.libraries and (is_partial or predicted_bytes > cards.free_bytes):
        return False
    if system != "linux" or any(gpu.is_integrated for gpu in cards.gpus) or not has_room:  # 3
        return True
    left = max(MIN_RAM_LEFT_BYTES, MIN_RAM_LEFT_SHARE * ram.total_bytes)
    return ram.free_bytes >= file_bytes + ram.mapped_bytes + left


def reads_directly(cards: Cards, system: str) -> bool:
    """Whether weights go past the system's cache of files: a card that computes in main memory needs them once."""
    return system == "linux" and any(gpu.is_integrated and gpu.library in ("CUDA", "ROCm") for gpu in cards.gpus)


def room_for_projector_mib(projector_bytes: int) -> tuple[int, ...]:
    """What the layers must leave free of each card for a projector that goes there too."""
    return (-(-(projector_bytes + PROJECTOR_ROOM_BYTES) // MIB),) if projector_bytes else ()


def takes_projector(cards: Cards, projector_bytes: int, *, is_partial: bool) -> bool:
    """Whether the projector goes to the GPUs too."""
    room = projector_bytes + PROJECTOR_ROOM_BYTES
    return not is_partial and all(gpu.free_bytes >= room for gpu in cards.gpus)

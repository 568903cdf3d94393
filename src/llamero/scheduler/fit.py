"""Whether and how fast a model would run here, in each quantization that there is or could be. Pure.

Source: cli §3.16. What is in a file, or in a registry's manifest, is known; the sizes of other quantizations are
computed from the shapes of the tensors, and every speed but a measured one is a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from ..build.quantize.levels import level_of
from ..build.quantize.mixture import LEVELS, requantized
from ..gguf import Gguf
from .facts import ModelFacts
from .plan import Defaults, Machine, want
from .shape import shape_of
from .speeds import Basis, Speed, Speeds

Fits = Literal["yes", "partly", "no"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One quantization of a model."""

    level: str
    header: Gguf
    """Of its weights; computed, where they have not been looked at."""
    size_bytes: int
    """Of everything that belongs to the model."""
    name: str = ""
    """Under which it is to be had; empty where nobody is known to offer it."""
    digest: str = ""
    """Of the weights, where they are here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    offer: Offer
    ctx_tokens: int
    memory_bytes: int
    fits: Fits
    speed: Speed | None
    """None: it does not fit, or nobody knows."""


class Row(msgspec.Struct):
    quant: str
    size: int
    memory: int
    fits: Fits
    is_computed: bool
    """Its size is computed: nobody is known to offer it."""
    name: str = ""
    """Under which it is to be had."""
    tokens_per_s: float = 0.0
    """0: not known."""
    basis: Basis | Literal[""] = ""
    """What the speed rests on: an answer of this model here, one of another model, or the memory's bandwidth."""


class Report(msgspec.Struct):
    """The verdicts, as JSON has them. Bytes; for `bandwidth` in a second."""

    model: str
    source: Literal["file", "local", "registry"]
    context: int
    """Tokens of one conversation, for which the memory is told."""
    free: int
    """Memory that models may take: of the GPUs where there are any."""
    has_gpu: bool
    bandwidth: int
    rows: list[Row]


def offers(own: Offer, siblings: Iterable[Offer] = ()) -> list[Offer]:
    """A model, those of its siblings that differ in quantization, and the usual levels that nobody is known to offer.

    The smallest comes first.
    """
    known = {own.level: own}
    for sibling in siblings:
        known.setdefault(sibling.level, sibling)
    rest_bytes = own.size_bytes - own.header.size_bytes
    for level in LEVELS:
        if level not in known:
            header = requantized(own.header, level)
            known[level] = Offer(level=level, header=header, size_bytes=header.size_bytes + rest_bytes)
    return sorted(known.values(), key=lambda offer: offer.size_bytes)


def sibling(own: Offer, level: str, weights_bytes: int, size_bytes: int, name: str) -> Offer:
    """A quantization whose sizes are known and whose header is not."""
    header = requantized(own.header, level) if level in LEVELS else own.header
    return Offer(level=level, header=replace(header, size_bytes=weights_bytes), size_bytes=size_bytes, name=name)


def level(header: Gguf, stated: str = "") -> str:
    """What a file is called in lists; `stated` is the publisher's word."""
    return (stated or level_of(header)).upper()


def judge(
    offered: Sequence[Offer],
    facts: ModelFacts,
    options: Mapping[str, Any],
    machine: Machine,
    defaults: Defaults,
    speeds: Speeds,
    bandwidth: float,
) -> list[Verdict]:
    """`facts` are those of any of the offers; `bandwidth` is what reading main memory comes to, in bytes per second."""
    verdicts = []
    for offer in offered:
        shape = replace(shape_of(offer.header), weights_bytes=offer.header.size_bytes - offer.header.data_offset)
        resized = replace(facts, size_bytes=offer.header.size_bytes, shape=shape)
        wanted = want(resized, options, None, machine, defaults)
        cards = [gpu for gpu in machine.gpus if gpu.name in wanted.plan.placement.gpus]
        fits = _fits(wanted.estimate_bytes, sum(gpu.free_bytes for gpu in cards), machine.ram_available_bytes)
        # how quickly a GPU reads its memory, only answers tell
        known = speeds.of(offer.digest, offer.header, 0.0 if machine.has_gpu else bandwidth)
        has_speed = fits == "yes" or (known is not None and known.basis == "measured")
        speed = known if has_speed and not facts.pools else None
        verdicts.append(Verdict(offer, wanted.plan.ctx_tokens, wanted.estimate_bytes, fits, speed))
    return verdicts


def report(
    model: str,
    source: Literal["file", "local", "registry"],
    verdicts: Sequence[Verdict],
    machine: Machine,
    bandwidth: float,
) -> Report:
    return Report(
        model=model,
        source=source,
        context=max(verdict.ctx_tokens for verdict in verdicts),
        free=machine.gpu_free_bytes if machine.has_gpu else machine.ram_available_bytes,
        has_gpu=machine.has_gpu,
        bandwidth=int(bandwidth),
        rows=[_row(verdict) for verdict in verdicts],
    )


def _row(verdict: Verdict) -> Row:
    offer, speed = verdict.offer, verdict.speed
    return Row(
        quant=offer.level,
        size=offer.size_bytes,
        memory=verdict.memory_bytes,
        fits=verdict.fits,
        is_computed=not offer.name,
        name=offer.name,
        tokens_per_s=round(speed.tokens_per_s, 1) if speed else 0.0,
        basis=speed.basis if speed else "",
    )


def _fits(need_bytes: int, gpu_bytes: int, ram_bytes: int) -> Fits:
    """Without GPUs, `gpu_bytes` is 0. What they have not the room for stays in main memory."""
    if need_bytes <= (gpu_bytes or ram_bytes):
        return "yes"
    return "partly" if gpu_bytes and need_bytes <= gpu_bytes + ram_bytes else "no"

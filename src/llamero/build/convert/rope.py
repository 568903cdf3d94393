"""Rotary position embeddings: what config.json says of them, in the engine's keys and tensors (store-registry §6.8).

The engine computes `none`, `linear` and `yarn` from keys; `llama3` and `longrope` are factors per frequency that lie in
the file as tensors. Formulas: the papers on YaRN and LongRoPE, and the rotary embeddings of Hugging Face transformers.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from gguf import GGMLQuantizationType as Type

from ...errors import BadRequest
from .checkpoint import Config
from .family import MAX_CONTEXT_TOKENS, Metadata, Tensor
from .safetensors import Array

MAX_BASE = 1e15
"""Published bases end at 5e8."""
MAX_FACTOR = 1e6
"""Published factors end at 128; a factor per frequency may reach some hundreds."""

DEFAULT_BASE = 10_000.0


def settings(config: Config, attention: str = "full_attention") -> Config:
    """All that is said about the rotation, in one object with one set of names.

    Older files have `rope_theta` and `rope_scaling` with `type`, newer ones `rope_parameters` with `rope_type`, which
    may differ from one kind of `attention` to the other.
    """
    given = config.object("rope_parameters" if config.has("rope_parameters") else "rope_scaling")
    if given.has(attention):
        given = given.object(attention)
    outer = ("rope_theta", "original_max_position_embeddings", "max_position_embeddings", "partial_rotary_factor")
    said = given.over({key: config.values.get(key) for key in outer})
    return said.over({"rope_theta": DEFAULT_BASE, "rope_type": given.text("type", default="default")})


def kind(rope: Config) -> str:
    return rope.text("rope_type", default="default")


def metadata(rope: Config, kinds: Collection[str]) -> Metadata:
    """The keys for a rotation with one of these `kinds` of scaling, or with none."""
    found: Metadata = {"rope.freq_base": base(rope)}
    wanted = kind(rope)
    if wanted in ("default", "dynamic"):  # the second changes nothing up to the context length that we announce
        return found
    if wanted not in kinds:
        raise BadRequest(f"config.json: rope_type {wanted[:40]!r} is not supported")
    match wanted:
        case "linear":
            return found | {"rope.scaling.type": "linear", "rope.scaling.factor": _factor(rope)}
        case "yarn":
            return found | _yarn(rope)
    return found  # what scales lies in a tensor


def base(rope: Config) -> float:
    return rope.positive("rope_theta", most=MAX_BASE)


def original_context(rope: Config) -> int:
    """The context in tokens that the model was first trained with."""
    key = "original_max_position_embeddings"
    return rope.count(key if rope.has(key) else "max_position_embeddings", most=MAX_CONTEXT_TOKENS)


def dimensions(rope: Config, head: int) -> int:
    """How many of a head's values are rotated."""
    share = rope.positive("partial_rotary_factor", most=1, default=1.0)
    return int(head * share)


def _factor(rope: Config) -> float:
    return rope.positive("factor", most=MAX_FACTOR)


def _yarn(rope: Config) -> Metadata:
    factor = _factor(rope)
    usual = _magnitude(factor, 1.0)
    if rope.has("mscale") and rope.has("mscale_all_dim"):
        part, whole = (rope.positive(key, most=MAX_FACTOR) for key in ("mscale", "mscale_all_dim"))
        wanted = _magnitude(factor, part) / _magnitude(factor, whole)
    else:
        wanted = usual
    # the engine has keys for these, and reads them for architectures that are not ours
    rope.only("beta_fast", 32)
    rope.only("beta_slow", 1)
    rope.only("truncate", True)
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original_context(rope),
        # the engine multiplies what is usual by this one
        "rope.scaling.attn_factor": rope.positive("attention_factor", most=MAX_FACTOR, default=wanted) / usual,
    }


def _magnitude(factor: float, share: float) -> float:
    return 0.1 * share * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama3_factors(rope: Config, n_dimensions: int) -> list[Tensor]:
    """`rope_freqs`: by how much each frequency is slowed down. High ones stay, low ones go by `factor`, those between
    go over smoothly. [] for other kinds of scaling."""
    if kind(rope) != "llama3":
        return []
    factor, context = _factor(rope), original_context(rope)
    low, high = (rope.positive(f"{end}_freq_factor", most=MAX_FACTOR) for end in ("low", "high"))
    if high <= low:
        raise BadRequest("config.json: 'high_freq_factor' must be above 'low_freq_factor'")
    wave_lengths = 2 * math.pi * base(rope) ** (np.arange(0, n_dimensions, 2) / n_dimensions)
    kept = np.clip((context / wave_lengths - low) / (high - low), 0, 1)
    return [vector("rope_freqs.weight", 1 / ((1 - kept) / factor + kept))]


def longrope_factors(rope: Config, n_dimensions: int) -> tuple[Metadata, list[Tensor]]:
    """Keys and factors of `longrope`, one list for contexts up to the original length and one for longer ones."""
    context, original = rope.count("max_position_embeddings", most=MAX_CONTEXT_TOKENS), original_context(rope)
    found: Metadata = {"rope.freq_base": base(rope), "rope.scaling.original_context_length": original}
    if kind(rope) not in ("longrope", "su"):  # `su` is its name in older files
        if kind(rope) != "default":
            raise BadRequest(f"config.json: rope_type {kind(rope)[:40]!r} is not supported")
        return found, []
    scale = context / original
    usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 and original > 1 else 1.0
    found["rope.scaling.attn_factor"] = rope.positive("attention_factor", most=MAX_FACTOR, default=usual)
    return found, [
        vector(
            f"rope_factors_{reach}.weight",
            np.array(rope.positives(f"{reach}_factor", count=n_dimensions // 2, most=MAX_FACTOR)),
        )
        for reach in ("long", "short")
    ]


def vector(name: str, values: Array) -> Tensor:
    """A tensor that no file holds."""
    return Tensor(name, values.shape, Type.F32, lambda: [values.astype("<f4")])

"""The weights of decoders: where each comes from, what it is called, its shape, and how its rows change.

A family strings these generators together; what they yield serves the conversion of a checkpoint and of an adapter.
Names: store-registry §6.8, "common decoder map".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import BadRequest
from .family import Change, Tensor, stacked, unchanged
from .safetensors import Array, Source

NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
"""One before each half of a block, as nearly all have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a decoder, all counted in values."""

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    """Of the feed-forward part; of one expert where there are experts."""
    vocabulary: int
    experts: int = 0
    tied: bool = False
    """The output matrix is the embedding matrix."""
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def query(self) -> int:
        return self.heads * self.head

    @property
    def key(self) -> int:
        return self.kv_heads * self.head


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the GGUF and the tensor it is made of, or the tensors, one per expert."""

    sources: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    """Of each source: rows first."""
    change: Change = unchanged
    """Applied to the rows, a multiple of `step` at a time."""
    step: int = 1

    @property
    def full_shape(self) -> tuple[int, ...]:
        return self.shape if len(self.sources) == 1 else (len(self.sources), *self.shape)


def converted(weights: Iterable[Weight], stored: dict[str, Source]) -> Iterator[Tensor]:
    """The tensors that `weights` describes, taken out of `stored`. Raises BadRequest naming one that does not fit."""
    for weight in weights:
        sources = [_taken(stored, name, weight.shape) for name in weight.sources]
        yield stacked(weight.name, sources, weight.full_shape, weight.change, step=weight.step)


def _taken(stored: dict[str, Source], name: str, shape: tuple[int, ...]) -> Source:
    source = stored.pop(name, None)
    if source is None:
        raise BadRequest(f"tensor {name!r} is missing")
    if source.shape != shape:
        raise BadRequest(f"tensor {name!r} has shape {list(source.shape)}, config.json calls for {list(shape)}")
    return source


def ends(sizes: Sizes, norm: Change = unchanged) -> Iterator[Weight]:
    """What lies before and behind the blocks."""
    matrix = (sizes.vocabulary, sizes.width)
    yield Weight(("model.embed_tokens.weight",), "token_embd.weight", matrix)
    yield Weight(("model.norm.weight",), "output_norm.weight", (sizes.width,), norm)
    if not sizes.tied:
        yield Weight(("lm_head.weight",), "output.weight", matrix)


def norms(sizes: Sizes, block: int, names: Mapping[str, str] = NORMS, change: Change = unchanged) -> Iterator[Weight]:
    for theirs, ours in names.items():
        source, name = f"model.layers.{block}.{theirs}.weight", f"blk.{block}.{ours}.weight"
        yield Weight((source,), name, (sizes.width,), change)


def head_norms(sizes: Sizes, block: int, change: Change = unchanged) -> Iterator[Weight]:
    """Queries and keys are normalized head by head."""
    for part in "qk":
        source = f"model.layers.{block}.self_attn.{part}_norm.weight"
        yield Weight((source,), f"blk.{block}.attn_{part}_norm.weight", (sizes.head,), change)


def attention(
    sizes: Sizes, block: int, *, bias: bool = False, output_bias: bool = False, interleave: bool = False
) -> Iterator[Weight]:
    """`interleave`: the engine rotates neighbouring values of a head, the checkpoint has them half a head apart."""
    order, step = (interleaved(sizes.head), sizes.head) if interleave else (unchanged, 1)
    theirs, ours = f"model.layers.{block}.self_attn", f"blk.{block}"
    yield from _linear(f"{theirs}.q_proj", f"{ours}.attn_q", (sizes.query, sizes.width), bias, order, step)
    yield from _linear(f"{theirs}.k_proj", f"{ours}.attn_k", (sizes.key, sizes.width), bias, order, step)
    yield from _linear(f"{theirs}.v_proj", f"{ours}.attn_v", (sizes.key, sizes.width), bias)
    yield from _linear(f"{theirs}.o_proj", f"{ours}.attn_output", (sizes.width, sizes.query), output_bias)


def feed_forward(sizes: Sizes, block: int, *, bias: bool = False) -> Iterator[Weight]:
    theirs, ours = f"model.layers.{block}.mlp", f"blk.{block}"
    yield from _linear(f"{theirs}.gate_proj", f"{ours}.ffn_gate", (sizes.inner, sizes.width), bias)
    yield from _linear(f"{theirs}.up_proj", f"{ours}.ffn_up", (sizes.inner, sizes.width), bias)
    yield from _linear(f"{theirs}.down_proj", f"{ours}.ffn_down", (sizes.width, sizes.inner), bias)


def experts(sizes: Sizes, block: int, module: str, *, gate: str, up: str, down: str) -> Iterator[Weight]:
    """The matrices of all experts of a block, one tensor for each kind, and the router that chooses among them."""
    theirs, ours = f"model.layers.{block}.{module}", f"blk.{block}"
    yield Weight((f"{theirs}.gate.weight",), f"{ours}.ffn_gate_inp.weight", (sizes.experts, sizes.width))
    wide, narrow = (sizes.inner, sizes.width), (sizes.width, sizes.inner)
    for kind, part, shape in (("gate", gate, wide), ("up", up, wide), ("down", down, narrow)):
        sources = tuple(f"{theirs}.experts.{number}.{part}.weight" for number in range(sizes.experts))
        yield Weight(sources, f"{ours}.ffn_{kind}_exps.weight", shape)


def _linear(
    theirs: str, ours: str, shape: tuple[int, int], bias: bool, change: Change = unchanged, step: int = 1
) -> Iterator[Weight]:
    yield Weight((f"{theirs}.weight",), f"{ours}.weight", shape, change, step)
    if bias:
        yield Weight((f"{theirs}.bias",), f"{ours}.bias", shape[:1], change, step)


def interleaved(head: int) -> Change:
    """Row i of the first half of each head becomes row 2i, row i of the second half row 2i + 1."""

    def change(rows: Array) -> Array:
        halves = rows.reshape(-1, 2, head // 2, *rows.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)

    return change


def plus_one(rows: Array) -> Array:
    """Gemma stores how far a norm's weights are from one."""
    return rows + np.float32(1)

"""Nomic's BERT, with rotated positions and gated layers, and its variant with experts (store-registry §6.8).

Source of what is computed: the publisher's `modeling_hf_nomic_bert.py`, and llama.cpp's graph `nomic-bert[-moe]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...errors import BadRequest
from .bert import MAX_TOKEN_TYPES, pooling
from .checkpoint import Checkpoint, Config
from .decoder import MAX_EXPERTS
from .family import (
    MAX_BLOCKS,
    MAX_CONTEXT_TOKENS,
    MAX_HEADS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Change,
    Family,
    Metadata,
    Tensor,
    unchanged,
)
from .safetensors import Array, Source
from .vocabulary import vocabulary
from .weights import Weight, converted

MAX_ROTARY_BASE = 1e12

_DROPPED = ("embeddings.position_ids", "pooler.", "cls.")
"""Row numbers, and heads that sentence models are trained without."""


@dataclass(frozen=True)
class _Model:
    """What config.json says, checked when it is asked for."""

    config: Config

    @cached_property
    def blocks(self) -> int:
        return self.config.count("n_layer", most=MAX_BLOCKS)

    @cached_property
    def width(self) -> int:
        return self.config.count("n_embd", most=MAX_WIDTH)

    @cached_property
    def inner(self) -> int:
        return self.config.count("n_inner", most=MAX_WIDTH)

    @cached_property
    def period(self) -> int:
        """Every so many blocks have experts, beginning with the second; 0 when none have."""
        return self.config.count("moe_every_n_layers", most=MAX_BLOCKS) if self.has_experts else 0

    @cached_property
    def has_experts(self) -> bool:
        return bool(self.config.values.get("moe_every_n_layers"))

    @cached_property
    def experts(self) -> int:
        return self.config.count("num_experts", most=MAX_EXPERTS)

    @cached_property
    def token_types(self) -> int:
        return self.config.count("type_vocab_size", most=MAX_TOKEN_TYPES, default=2)

    def is_of_experts(self, block: int) -> bool:
        return self.period > 0 and block % self.period == 1

    def check(self) -> None:
        """Refuse what the engine does not compute."""
        self.config.only("activation_function", "gelu" if self.has_experts else "swiglu")
        for key in ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"):
            self.config.only(key, self.has_experts)
        for key in ("prenorm", "parallel_block", "causal", "rotary_emb_interleaved", "use_rms_norm"):
            self.config.only(key, False)
        for key in ("moe_normalize_expert_weights", "expert_choice_router"):
            self.config.only(key, False)
        self.config.only("num_shared_experts", 0)
        self.config.only("rotary_emb_fraction", 1.0)
        for key in ("rotary_emb_scale_base", "rotary_scaling_factor"):
            if self.config.has(key):
                raise BadRequest(f"config.json: {key!r} is not supported")
        if self.period == 1:  # the engine never finds a remainder of one
            raise BadRequest("config.json: experts in every layer are not supported")


def _metadata(checkpoint: Checkpoint) -> Metadata:
    config = checkpoint.config
    model = _Model(config)
    model.check()
    heads = config.count("n_head", most=MAX_HEADS)
    if model.width % (2 * heads):
        raise BadRequest(f"config.json: {heads} attention heads do not divide a width of {model.width} into pairs")
    experts: Metadata = {
        "expert_count": model.experts,
        "expert_used_count": config.count("moe_top_k", most=model.experts),
        "moe_every_n_layers": model.period,
    } if model.has_experts else {}  # fmt: skip
    return {
        "block_count": model.blocks,
        "context_length": _context(checkpoint),
        "embedding_length": model.width,
        "feed_forward_length": model.inner,
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": config.fraction("layer_norm_epsilon", default=1e-5),
        "attention.causal": False,
        "rope.freq_base": config.positive("rotary_emb_base", most=MAX_ROTARY_BASE, default=1000.0),
        "tokenizer.ggml.token_type_count": model.token_types,
        **experts,
        **pooling(checkpoint),
    }


def _context(checkpoint: Checkpoint) -> int:
    """The config counts the positions that can be computed; fewer were seen in training, and at times fewer yet."""
    config = checkpoint.config
    sentences = Config(checkpoint.object("sentence_bert_config.json"))
    return min(
        config.count("n_positions", most=MAX_CONTEXT_TOKENS),
        config.count("max_trained_positions", most=MAX_CONTEXT_TOKENS, default=2048),
        sentences.count("max_seq_length", most=MAX_CONTEXT_TOKENS, default=MAX_CONTEXT_TOKENS),
    )


def _tensors(checkpoint: Checkpoint) -> Iterator[Tensor]:
    model = _Model(checkpoint.config)
    stored = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(_DROPPED)}
    yield from converted(_weights(model), stored)
    for block in filter(model.is_of_experts, range(model.blocks)):
        yield from _experts(checkpoint, model, block, stored)
    if stored:
        raise BadRequest(f"unexpected tensor {min(stored)!r}")


def _weights(model: _Model) -> Iterator[Weight]:
    width, square = model.width, (model.width, model.width)
    vocabulary_rows = model.config.count("vocab_size", most=MAX_VOCABULARY)
    yield Weight(("embeddings.word_embeddings.weight",), "token_embd.weight", (vocabulary_rows, width))
    yield Weight(("embeddings.token_type_embeddings.weight",), "token_types.weight", (model.token_types, width))
    yield from _norm("emb_ln", "token_embd_norm", width)
    for block in range(model.blocks):
        theirs, ours = f"encoder.layers.{block}", f"blk.{block}"
        yield from _linear(model, f"{theirs}.attn.Wqkv", f"{ours}.attn_qkv", (3 * width, width))
        yield from _linear(model, f"{theirs}.attn.out_proj", f"{ours}.attn_output", square)
        yield from _norm(f"{theirs}.norm1", f"{ours}.attn_output_norm", width)
        yield from _norm(f"{theirs}.norm2", f"{ours}.layer_output_norm", width)
        if not model.is_of_experts(block):
            yield from _feed_forward(model, f"{theirs}.mlp", ours)


def _feed_forward(model: _Model, theirs: str, ours: str) -> Iterator[Weight]:
    up, down = (model.inner, model.width), (model.width, model.inner)
    if model.has_experts:
        yield from _linear(model, f"{theirs}.fc1", f"{ours}.ffn_up", up)
    else:
        yield from _linear(model, f"{theirs}.fc11", f"{ours}.ffn_up", up)
        yield from _linear(model, f"{theirs}.fc12", f"{ours}.ffn_gate", up)
    yield from _linear(model, f"{theirs}.fc2", f"{ours}.ffn_down", down)


def _experts(checkpoint: Checkpoint, model: _Model, block: int, stored: dict[str, Source]) -> Iterator[Tensor]:
    """The matrices of all experts lie one below the other, those that come down lying on their side."""
    theirs, ours = f"encoder.layers.{block}.mlp", f"blk.{block}"
    count, inner, width = model.experts, model.inner, model.width
    router = Weight((f"{theirs}.router.layer.weight",), f"{ours}.ffn_gate_inp.weight", (count, width))
    yield from converted([router], stored)
    for part, name, shape, change in (
        ("w1", "ffn_up_exps", (count, inner, width), unchanged),
        ("w2", "ffn_down_exps", (count, width, inner), _turned(inner)),
    ):
        rows = (count * inner, width)
        weight = Weight((f"{theirs}.experts.mlp.{part}",), f"{ours}.{name}.weight", rows, change, step=inner)
        for tensor in converted([weight], stored):
            yield replace(tensor, shape=shape)
    bias = stored.pop(f"{theirs}.experts.bias", None)
    if bias is not None and np.any(bias.bits()):
        checkpoint.warn("the bias that the experts of a layer share has no effect")


def _turned(inner: int) -> Change:
    def change(rows: Array) -> Array:
        return np.ascontiguousarray(rows.reshape(-1, inner, rows.shape[1]).swapaxes(1, 2))

    return change


def _linear(model: _Model, theirs: str, ours: str, shape: tuple[int, int]) -> Iterator[Weight]:
    yield Weight((f"{theirs}.weight",), f"{ours}.weight", shape)
    if model.has_experts:  # then all have a bias, else none
        yield Weight((f"{theirs}.bias",), f"{ours}.bias", shape[:1])


def _norm(theirs: str, ours: str, width: int) -> Iterator[Weight]:
    for part in ("weight", "bias"):
        yield Weight((f"{theirs}.{part}",), f"{ours}.{part}", (width,))


def _family(architecture: str, *, has_experts: bool) -> Family:
    return Family(
        architecture=architecture,
        serves=("NomicBertModel", "NomicBertMoEModel"),
        applies=lambda config: _Model(config).has_experts == has_experts,
        metadata=_metadata,
        vocabulary=vocabulary,
        tensors=_tensors,
    )


FAMILY = _family("nomic-bert", has_experts=False)
MOE_FAMILY = _family("nomic-bert-moe", has_experts=True)

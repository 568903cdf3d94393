"""Phi 3 and 4: queries, keys and values in one matrix, gate and up in another (store-registry §6.8)."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import BadRequest
from . import rope
from .checkpoint import Config
from .decoder import Decoder
from .family import Metadata, Tensor
from .weights import Sizes, Weight, ends, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    """The fused matrices stay as they are: the engine splits them in the same order."""
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        for theirs, ours, shape in (
            ("self_attn.qkv_proj", "attn_qkv", (sizes.query + 2 * sizes.key, sizes.width)),
            ("self_attn.o_proj", "attn_output", (sizes.width, sizes.query)),
            ("mlp.gate_up_proj", "ffn_up", (2 * sizes.inner, sizes.width)),
            ("mlp.down_proj", "ffn_down", (sizes.width, sizes.inner)),
        ):
            yield Weight((f"model.layers.{block}.{theirs}.weight",), f"blk.{block}.{ours}.weight", shape)


def _metadata(config: Config, sizes: Sizes) -> Metadata:
    config.only("hidden_act", "silu")
    if sizes.query != sizes.width:
        raise BadRequest("config.json: 'head_dim' times 'num_attention_heads' must be 'hidden_size'")
    settings = rope.settings(config)
    return {
        "rope.dimension_count": rope.dimensions(settings, sizes.head),
        **rope.longrope_factors(settings, rope.dimensions(settings, sizes.head))[0],
    }


def _factors(config: Config, sizes: Sizes) -> list[Tensor]:
    settings = rope.settings(config)
    return rope.longrope_factors(settings, rope.dimensions(settings, sizes.head))[1]


DECODER = Decoder(
    architecture="phi3",
    serves=("Phi3ForCausalLM",),
    weights=weights,
    metadata=_metadata,
    extra=_factors,
    defaults={"rms_norm_eps": 1e-5},
)
FAMILY = DECODER.family

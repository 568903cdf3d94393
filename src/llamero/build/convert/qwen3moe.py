"""Qwen 3 with experts (GAP-03)."""

from __future__ import annotations

from collections.abc import Iterator

from . import qwen3
from .checkpoint import Config
from .decoder import Decoder
from .family import MAX_WIDTH, Metadata
from .weights import Sizes, Weight, attention, ends, experts, head_norms, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        yield from attention(sizes, block)
        yield from head_norms(sizes, block)
        yield from experts(sizes, block, "mlp", gate="gate_proj", up="up_proj", down="down_proj")


def _metadata(config: Config, sizes: Sizes) -> Metadata:
    # the engine has experts in every block, and makes the weights of the chosen ones sum up to one
    config.only("decoder_sparse_step", 1)
    config.only("mlp_only_layers", [])
    config.only("norm_topk_prob", True)
    return {
        **qwen3.metadata(config, sizes),
        "feed_forward_length": config.count("intermediate_size", most=MAX_WIDTH, default=sizes.inner),
        "expert_feed_forward_length": sizes.inner,
    }


DECODER = Decoder(
    architecture="qwen3moe",
    serves=("Qwen3MoeForCausalLM",),
    weights=weights,
    metadata=_metadata,
    inner="moe_intermediate_size",
    experts=("num_experts", "num_local_experts"),
    defaults={"use_sliding_window": False},
)
FAMILY = DECODER.family

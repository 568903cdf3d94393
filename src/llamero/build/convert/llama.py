"""Llama 2 and 3 and what is built alike (store-registry §6.8, row LlamaForCausalLM)."""

from __future__ import annotations

from collections.abc import Iterator

from . import rope
from .checkpoint import Config
from .decoder import Decoder, rotation
from .family import Metadata, Tensor
from .weights import Sizes, Weight, attention, ends, feed_forward, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        bias = sizes.attention_bias
        yield from attention(sizes, block, bias=bias, output_bias=bias, interleave=True)
        yield from feed_forward(sizes, block, bias=sizes.mlp_bias)


def metadata(config: Config, sizes: Sizes) -> Metadata:
    config.only("hidden_act", "silu")
    return rotation(config, sizes, ("linear", "yarn", "llama3"))


def frequencies(config: Config, sizes: Sizes) -> list[Tensor]:
    return rope.llama3_factors(rope.settings(config), sizes.head)


DECODER = Decoder(
    architecture="llama",
    serves=("LlamaForCausalLM", "LLaMAForCausalLM"),
    weights=weights,
    metadata=metadata,
    extra=frequencies,
    defaults={"max_position_embeddings": 2048},
)
FAMILY = DECODER.family

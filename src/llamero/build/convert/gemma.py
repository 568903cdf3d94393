"""Gemma, the first: norms around one, tied embeddings, wide heads (store-registry §6.8, row GemmaForCausalLM)."""

from __future__ import annotations

from collections.abc import Iterator

from .checkpoint import Config
from .decoder import Decoder, rotation
from .family import Metadata
from .weights import Sizes, Weight, attention, ends, feed_forward, norms, plus_one


def _weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes, plus_one)
    for block in range(sizes.blocks):
        yield from norms(sizes, block, change=plus_one)
        yield from attention(sizes, block)
        yield from feed_forward(sizes, block)


def metadata(config: Config, sizes: Sizes) -> Metadata:
    """What is common to all generations. `hidden_act` says "gelu" in old files, and the tanh form was always meant."""
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.only("attention_bias", False)
    config.only("tie_word_embeddings", True)
    config.only("use_bidirectional_attention", False)
    return rotation(config, sizes, ("linear",))


DECODER = Decoder(
    architecture="gemma",
    serves=("GemmaForCausalLM",),
    weights=_weights,
    metadata=metadata,
    defaults={"head_dim": 256, "max_position_embeddings": 8192, "tie_word_embeddings": True},
)
FAMILY = DECODER.family

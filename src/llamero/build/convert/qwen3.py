"""Qwen 3: queries and keys are normalized, the biases are gone (GAP-03, S-85)."""

from __future__ import annotations

from collections.abc import Iterator

from .checkpoint import Config
from .decoder import Decoder, rotation
from .family import Metadata
from .weights import Sizes, Weight, attention, ends, feed_forward, head_norms, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        yield from attention(sizes, block)
        yield from head_norms(sizes, block)
        yield from feed_forward(sizes, block)


def metadata(config: Config, sizes: Sizes) -> Metadata:
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    return rotation(config, sizes)


DECODER = Decoder(
    architecture="qwen3",
    serves=("Qwen3ForCausalLM",),
    weights=weights,
    metadata=metadata,
    defaults={"head_dim": 128, "use_sliding_window": False},
)
FAMILY = DECODER.family

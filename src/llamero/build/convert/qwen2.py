"""Qwen 2 and 2.5 (store-registry §6.8, row Qwen2ForCausalLM)."""

from __future__ import annotations

from collections.abc import Iterator

from .checkpoint import Config
from .decoder import Decoder, rotation
from .family import Metadata
from .weights import Sizes, Weight, attention, ends, feed_forward, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        yield from attention(sizes, block, bias=True)
        yield from feed_forward(sizes, block)


def _metadata(config: Config, sizes: Sizes) -> Metadata:
    config.only("hidden_act", "silu")
    return rotation(config, sizes)


DECODER = Decoder(
    architecture="qwen2",
    serves=("Qwen2ForCausalLM",),
    weights=weights,
    metadata=_metadata,
    defaults={"use_sliding_window": False},
)
FAMILY = DECODER.family

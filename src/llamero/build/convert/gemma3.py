"""Gemma 3: five blocks with a window to one without, two rotations, and pictures (store-registry §6.8).

Of a model that sees, this is the text part; `siglip.py` makes the second file.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import gemma, rope, siglip
from .checkpoint import Config
from .decoder import Decoder
from .family import Metadata
from .gemma2 import NORMS, check_scale, window_period
from .weights import Sizes, Weight, attention, ends, feed_forward, head_norms, norms, plus_one

BLOCKS_OF_27B = 62
WINDOW_PERIOD = 6


def _weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes, plus_one)
    for block in range(sizes.blocks):
        yield from norms(sizes, block, NORMS, plus_one)
        yield from attention(sizes, block)
        yield from head_norms(sizes, block, plus_one)
        yield from feed_forward(sizes, block)


def _metadata(config: Config, sizes: Sizes) -> Metadata:
    check_scale(config, sizes, BLOCKS_OF_27B)
    config.only("attn_logit_softcapping", None)
    config.only("final_logit_softcapping", None)
    return {
        **gemma.metadata(config, sizes),
        "attention.sliding_window_pattern": window_period(config, sizes, WINDOW_PERIOD),
        "rope.freq_base_swa": _local_base(config),
    }


def _local_base(config: Config) -> float:
    """Blocks with a window rotate at a pace of their own, which is never scaled."""
    if config.object("rope_parameters").has("sliding_attention"):
        settings = rope.settings(config, "sliding_attention")
        settings.only("rope_type", "default")
        return rope.base(settings)
    return config.positive("rope_local_base_freq", most=rope.MAX_BASE, default=rope.DEFAULT_BASE)  # older files


_DEFAULTS = {
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rope_theta": 1_000_000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "vocab_size": 262_208,
}

DECODER = Decoder(
    architecture="gemma3",
    serves=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    weights=_weights,
    metadata=_metadata,
    windowed=True,
    defaults=_DEFAULTS,
    towers=siglip.PREFIXES,
    projector=siglip.projector,
)
FAMILY = DECODER.family

"""Gemma 2: norms behind each half of a block too, soft caps, a window in every other block (store-registry §6.8)."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import BadRequest
from . import gemma
from .checkpoint import Config
from .decoder import Decoder
from .family import Metadata
from .weights import Sizes, Weight, attention, ends, feed_forward, norms, plus_one

MAX_CAP = 1e6
"""Published caps are 30 and 50."""

BLOCKS_OF_27B = 46
WINDOW_PERIOD = 2
"""Of so many blocks the last one sees everything."""

NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def _weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes, plus_one)
    for block in range(sizes.blocks):
        yield from norms(sizes, block, NORMS, plus_one)
        yield from attention(sizes, block)
        yield from feed_forward(sizes, block)


def _metadata(config: Config, sizes: Sizes) -> Metadata:
    check_scale(config, sizes, BLOCKS_OF_27B)
    if window_period(config, sizes, WINDOW_PERIOD) != WINDOW_PERIOD:
        raise BadRequest("config.json: these 'layer_types' are not supported")
    return {
        **gemma.metadata(config, sizes),
        "attn_logit_softcapping": config.positive("attn_logit_softcapping", most=MAX_CAP),
        "final_logit_softcapping": config.positive("final_logit_softcapping", most=MAX_CAP),
    }


def check_scale(config: Config, sizes: Sizes, blocks_of_27b: int) -> None:
    """The engine divides attention by the root of a head's size, and in the 27B model, which it tells by its blocks,
    by the root of the width that falls to a head."""
    known = sizes.width // sizes.heads if sizes.blocks == blocks_of_27b else sizes.head
    config.only("query_pre_attn_scalar", known, float(known))


def window_period(config: Config, sizes: Sizes, usual: int) -> int:
    """Every how many blocks attention sees everything. Raises BadRequest when the blocks follow no such rule."""
    kinds = config.texts("layer_types")
    if not kinds:
        key = "sliding_window_pattern" if config.has("sliding_window_pattern") else "_sliding_window_pattern"
        return config.count(key, most=sizes.blocks + usual, default=usual)
    # the first block that sees everything ends the first period
    period = kinds.index("full_attention") + 1 if "full_attention" in kinds else max(usual, sizes.blocks + 1)
    rule = ["sliding_attention" if (block + 1) % period else "full_attention" for block in range(sizes.blocks)]
    if kinds != rule:
        raise BadRequest("config.json: these 'layer_types' are not supported")
    return period


DECODER = Decoder(
    architecture="gemma2",
    serves=("Gemma2ForCausalLM",),
    weights=_weights,
    metadata=_metadata,
    windowed=True,
    defaults={
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    },
)
FAMILY = DECODER.family

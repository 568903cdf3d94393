"""Mixtral: Llama's attention with experts (store-registry §6.8, row MixtralForCausalLM; S-85).

Of an expert's three matrices w1 is the gate, w3 goes up and w2 comes down.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import llama
from .decoder import Decoder
from .weights import Sizes, Weight, attention, ends, experts, norms


def weights(sizes: Sizes) -> Iterator[Weight]:
    yield from ends(sizes)
    for block in range(sizes.blocks):
        yield from norms(sizes, block)
        yield from attention(sizes, block, interleave=True)
        yield from experts(sizes, block, "block_sparse_moe", gate="w1", up="w3", down="w2")


DECODER = Decoder(
    architecture="llama",
    serves=("MixtralForCausalLM",),
    weights=weights,
    metadata=llama.metadata,
    extra=llama.frequencies,
    experts=("num_local_experts",),
    defaults={"rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0},
)
FAMILY = DECODER.family

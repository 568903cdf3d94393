"""Mistral: Llama with a window, which the engine does not mind (store-registry §6.8, GAP-03)."""

from __future__ import annotations

from . import llama
from .decoder import Decoder

DECODER = Decoder(
    architecture="llama",
    serves=("MistralForCausalLM",),
    weights=llama.weights,
    metadata=llama.metadata,
    extra=llama.frequencies,
)
FAMILY = DECODER.family

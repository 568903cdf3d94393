"""The skeleton that decoders share: sizes, general keys, completeness (store-registry §6.8).

A family is a `Decoder`: its list of weights, its own keys, and what its config may leave open. Whatever the list does
not take from the checkpoint is an error, as is what it does not find: a weight left out changes the model's answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ...errors import BadRequest
from ...gguf import human_count
from . import rope
from .checkpoint import Checkpoint, Config
from .family import (
    MAX_BLOCKS,
    MAX_CONTEXT_TOKENS,
    MAX_HEADS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Content,
    Family,
    Metadata,
    Tensor,
)
from .safetensors import Source
from .vocabulary import vocabulary
from .weights import Sizes, Weight, converted

MAX_EXPERTS = 512
"""The engine's own bound, which it enforces by ending its process."""

MAX_NAME_CHARACTERS = 200
"""Hubs allow about 100."""

_OTHER_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
"""How models of several towers call their text part."""
_FREQUENCIES = ".rotary_emb.inv_freq"
"""Older checkpoints hold what follows from the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decoders that convert alike: what is special about them."""

    architecture: str
    serves: tuple[str, ...]
    weights: Callable[[Sizes], Iterator[Weight]]
    metadata: Callable[[Config, Sizes], Metadata]
    """The family's keys, beyond the common ones. It refuses what the engine does not compute."""
    extra: Callable[[Config, Sizes], list[Tensor]] = lambda config, sizes: []
    """Tensors that follow from the config."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    inner: str = "intermediate_size"
    """The config's key for the width of the feed-forward part, or of one expert."""
    experts: tuple[str, ...] = ()
    """The config's keys for the number of experts, of which one is there."""
    windowed: bool = False
    """The engine minds `sliding_window`."""
    towers: tuple[str, ...] = ()
    """Beginnings of the names of tensors that are not for the text part."""
    projector: Callable[[Checkpoint], Content | None] = lambda checkpoint: None

    @property
    def family(self) -> Family:
        return Family(
            architecture=self.architecture,
            serves=self.serves,
            metadata=self._metadata,
            vocabulary=vocabulary,
            tensors=self._tensors,
            defaults=self.defaults,
            projector=self.projector,
        )

    def _metadata(self, checkpoint: Checkpoint) -> Metadata:
        config, sizes = checkpoint.config, self._sizes(checkpoint)
        found: Metadata = {
            **_general(checkpoint),
            "block_count": sizes.blocks,
            "context_length": config.count("max_position_embeddings", most=MAX_CONTEXT_TOKENS),
            "embedding_length": sizes.width,
            "feed_forward_length": sizes.inner,
            "vocab_size": sizes.vocabulary,
            "attention.head_count": sizes.heads,
            "attention.head_count_kv": sizes.kv_heads,
            "attention.key_length": sizes.head,
            "attention.value_length": sizes.head,
            "attention.layer_norm_rms_epsilon": config.fraction("rms_norm_eps", default=1e-6),
        }
        if checkpoint.is_fp8:
            found["source_quantization"] = "hf_fp8"
        if self.experts:
            found["expert_count"] = sizes.experts
            found["expert_used_count"] = config.count("num_experts_per_tok", most=sizes.experts)
        return found | self._window(checkpoint) | self.metadata(config, sizes)

    def _window(self, checkpoint: Checkpoint) -> Metadata:
        """How far back attention reaches."""
        config = checkpoint.config
        if not config.has("sliding_window") or not config.flag("use_sliding_window", default=True):
            return {}
        tokens = config.count("sliding_window", most=MAX_CONTEXT_TOKENS)
        if self.windowed:
            return {"attention.sliding_window": tokens}
        if tokens < config.count("max_position_embeddings", most=MAX_CONTEXT_TOKENS):
            checkpoint.warn(f"config.json: sliding_window {tokens} has no effect, attention sees the whole context")
        return {}

    def _sizes(self, checkpoint: Checkpoint) -> Sizes:
        config = checkpoint.config
        width = config.count("hidden_size", most=MAX_WIDTH)
        heads = config.count("num_attention_heads", most=MAX_HEADS)
        if not config.has("head_dim") and width % heads:
            raise BadRequest(f"config.json: 'num_attention_heads' {heads} does not divide 'hidden_size' {width}")
        kv_heads = config.count("num_key_value_heads", most=MAX_HEADS, default=heads)
        if heads % kv_heads:
            raise BadRequest(f"config.json: 'num_key_value_heads' {kv_heads} does not divide the {heads} heads")
        head = config.count("head_dim", most=MAX_WIDTH, default=width // heads)
        if head % 2:
            raise BadRequest(f"config.json: 'head_dim' {head} is odd, and its values are rotated in pairs")
        return Sizes(
            blocks=config.count("num_hidden_layers", most=MAX_BLOCKS),
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            head=head,
            inner=config.count(self.inner, most=MAX_WIDTH),
            vocabulary=config.count("vocab_size", most=MAX_VOCABULARY),
            experts=self._experts(config),
            tied=config.flag("tie_word_embeddings", default="lm_head.weight" not in _text_part(checkpoint)),
            attention_bias=config.flag("attention_bias"),
            mlp_bias=config.flag("mlp_bias"),
        )

    def _experts(self, config: Config) -> int:
        if not self.experts:
            return 0
        key = next((key for key in self.experts if config.has(key)), self.experts[0])
        return config.count(key, most=MAX_EXPERTS)

    def _tensors(self, checkpoint: Checkpoint) -> Iterator[Tensor]:
        sizes, stored = self._sizes(checkpoint), _text_part(checkpoint)
        if sizes.tied:
            stored.pop("lm_head.weight", None)  # a copy of the embedding matrix
        yield from converted(self.weights(sizes), stored)
        yield from self.extra(checkpoint.config, sizes)
        if left := [name for name in stored if not name.startswith(self.towers) and not name.endswith(_FREQUENCIES)]:
            raise BadRequest(f"unexpected tensor {min(left)!r}")


def _text_part(checkpoint: Checkpoint) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for name, source in checkpoint.tensors.items():
        plain = plain_name(name)
        if plain in found:
            raise BadRequest(f"duplicate tensor name {plain!r} was found for this model")
        found[plain] = source
    return found


def plain_name(name: str) -> str:
    """A tensor's name as it is where there is but a text part."""
    for theirs, ours in _OTHER_PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _general(checkpoint: Checkpoint) -> Metadata:
    label = human_count(sum(math.prod(source.shape) for source in checkpoint.tensors.values()))
    # what the author called it is often a path on a machine of theirs, whose end is the model's name
    name = PurePosixPath(checkpoint.config.text("_name_or_path", default="")).name[:MAX_NAME_CHARACTERS]
    kind = checkpoint.config.text("model_type", default="model")[:MAX_NAME_CHARACTERS]
    return {
        "general.type": "model",
        "general.name": name or f"{kind} {label}",
        "general.size_label": label,
    }


def rotation(config: Config, sizes: Sizes, kinds: Collection[str] = ("linear", "yarn")) -> Metadata:
    """The keys of whole heads rotated, with one of these `kinds` of scaling or none."""
    settings = rope.settings(config)
    if rope.dimensions(settings, sizes.head) != sizes.head:
        raise BadRequest("config.json: 'partial_rotary_factor' below 1 is not supported")
    return {"rope.dimension_count": sizes.head, **rope.metadata(settings, kinds)}

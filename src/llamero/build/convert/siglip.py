"""The eyes of Gemma 3: a SigLIP tower and its projector, as the engine's second file (store-registry §6.8, two files).

What the tower computes is fixed in the engine; what may differ from model to model is its sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...errors import BadRequest
from .checkpoint import Checkpoint, Config
from .family import MAX_BLOCKS, MAX_HEADS, MAX_WIDTH, Content, Metadata
from .weights import Weight, converted, plus_one

PREFIXES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")

MAX_EDGE_PIXELS = 1 << 14
"""Published towers see 896 pixels."""
COLORS = 3
"""Channels of a picture."""
USUAL_SHRINKING = 4
"""How many patches along an edge become one vector, where the file does not say otherwise."""

_PICTURES = "preprocessor_config.json"
_POOLING = "vision_tower.vision_model.head."
"""Makes one vector of a picture, which a language model has no use for."""


def projector(checkpoint: Checkpoint) -> Content | None:
    """The second file; None for a model without eyes."""
    stored = {name.removeprefix("model."): source for name, source in checkpoint.tensors.items() if _is_ours(name)}
    if not stored:
        if checkpoint.config.has("vision_config"):
            raise BadRequest("config.json has a 'vision_config', and no tensor belongs to it")
        return None
    tensors = list(converted(_weights(checkpoint), stored))
    if left := [name for name in stored if not name.startswith(_POOLING)]:
        raise BadRequest(f"unexpected tensor {min(left)!r}")
    return Content("clip", _metadata(checkpoint), tensors)


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIXES)


def _weights(checkpoint: Checkpoint) -> Iterator[Weight]:
    vision = checkpoint.config.object("vision_config")
    width, inner = (vision.count(key, most=MAX_WIDTH) for key in ("hidden_size", "intermediate_size"))
    text_width = checkpoint.config.count("hidden_size", most=MAX_WIDTH)
    patch, patches = _patch(checkpoint), _patches(checkpoint)
    tower = "vision_tower.vision_model"
    yield from _with_bias(f"{tower}.embeddings.patch_embedding", "v.patch_embd", (width, COLORS, patch, patch))
    yield Weight((f"{tower}.embeddings.position_embedding.weight",), "v.position_embd.weight", (patches**2, width))
    for block in range(_blocks(checkpoint)):
        theirs, ours = f"{tower}.encoder.layers.{block}", f"v.blk.{block}"
        for norm in (1, 2):
            yield from _with_bias(f"{theirs}.layer_norm{norm}", f"{ours}.ln{norm}", (width,))
        for part in ("q", "k", "v", "out"):
            yield from _with_bias(f"{theirs}.self_attn.{part}_proj", f"{ours}.attn_{part}", (width, width))
        yield from _with_bias(f"{theirs}.mlp.fc1", f"{ours}.ffn_up", (inner, width))
        yield from _with_bias(f"{theirs}.mlp.fc2", f"{ours}.ffn_down", (width, inner))
    yield from _with_bias(f"{tower}.post_layernorm", "v.post_ln", (width,))
    bridge = "multi_modal_projector"
    yield Weight((f"{bridge}.mm_soft_emb_norm.weight",), "mm.soft_emb_norm.weight", (width,), plus_one)
    # this matrix stands as it is used, (in, out); the engine knows
    yield Weight((f"{bridge}.mm_input_projection_weight",), "mm.input_projection.weight", (width, text_width))


def _with_bias(theirs: str, ours: str, shape: tuple[int, ...]) -> Iterator[Weight]:
    yield Weight((f"{theirs}.weight",), f"{ours}.weight", shape)
    yield Weight((f"{theirs}.bias",), f"{ours}.bias", shape[:1])


def _metadata(checkpoint: Checkpoint) -> Metadata:
    vision = checkpoint.config.object("vision_config")
    pictures = Config(checkpoint.object(_PICTURES), _PICTURES)
    vision.only("hidden_act", "gelu_pytorch_tanh")
    shrinking = _shrinking(checkpoint)
    return {
        "general.type": "mmproj",
        "has_vision_encoder": True,
        "projector_type": "gemma3",
        "use_gelu": True,
        "vision.image_size": vision.count("image_size", most=MAX_EDGE_PIXELS),
        "vision.patch_size": _patch(checkpoint),
        "vision.embedding_length": vision.count("hidden_size", most=MAX_WIDTH),
        "vision.feed_forward_length": vision.count("intermediate_size", most=MAX_WIDTH),
        "vision.projection_dim": checkpoint.config.count("hidden_size", most=MAX_WIDTH),
        "vision.block_count": _blocks(checkpoint),
        "vision.attention.head_count": vision.count("num_attention_heads", most=MAX_HEADS),
        "vision.attention.layer_norm_epsilon": vision.fraction("layer_norm_eps", default=1e-6),
        "vision.image_mean": pictures.positives("image_mean", count=COLORS, most=1.0, default=0.5),
        "vision.image_std": pictures.positives("image_std", count=COLORS, most=1.0, default=0.5),
        **({"vision.projector.scale_factor": shrinking} if shrinking != USUAL_SHRINKING else {}),
    }


def _blocks(checkpoint: Checkpoint) -> int:
    return checkpoint.config.object("vision_config").count("num_hidden_layers", most=MAX_BLOCKS)


def _patch(checkpoint: Checkpoint) -> int:
    """Pixels along the edge of a patch."""
    return checkpoint.config.object("vision_config").count("patch_size", most=MAX_EDGE_PIXELS)


def _patches(checkpoint: Checkpoint) -> int:
    """Along the edge of a picture."""
    pixels = checkpoint.config.object("vision_config").count("image_size", most=MAX_EDGE_PIXELS)
    if pixels % _patch(checkpoint):
        raise BadRequest(f"config.json: 'patch_size' {_patch(checkpoint)} does not divide 'image_size' {pixels}")
    return pixels // _patch(checkpoint)


def _shrinking(checkpoint: Checkpoint) -> int:
    """How many patches along an edge become one of the vectors that the text part reads."""
    vectors = checkpoint.config.count("mm_tokens_per_image", most=MAX_EDGE_PIXELS**2, default=256)
    patches, edge = _patches(checkpoint), math.isqrt(vectors)
    if edge**2 != vectors or patches % edge:
        raise BadRequest(f"config.json: 'mm_tokens_per_image' {vectors} does not fit {patches} x {patches} patches")
    return patches // edge

"""BERT text encoders, the sentence-embedding models above all (store-registry §6.8, row BertModel)."""

from __future__ import annotations

from gguf import PoolingType

from ...errors import BadRequest
from .checkpoint import Checkpoint, Config
from .family import (
    MAX_BLOCKS,
    MAX_CONTEXT_TOKENS,
    MAX_HEADS,
    MAX_WIDTH,
    Family,
    Metadata,
    Tensor,
    renamed,
)
from .vocabulary import word_pieces

MAX_TOKEN_TYPES = 1 << 16
"""Published models have 1 or 2."""

_WEIGHT_ONLY = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
}
_ONCE = {"embeddings.LayerNorm": "token_embd_norm"}
_PER_BLOCK = {
    "encoder.layer.{}.attention.self.query": "blk.{}.attn_q",
    "encoder.layer.{}.attention.self.key": "blk.{}.attn_k",
    "encoder.layer.{}.attention.self.value": "blk.{}.attn_v",
    "encoder.layer.{}.attention.output.dense": "blk.{}.attn_output",
    "encoder.layer.{}.attention.output.LayerNorm": "blk.{}.attn_output_norm",
    "encoder.layer.{}.intermediate.dense": "blk.{}.ffn_up",
    "encoder.layer.{}.output.dense": "blk.{}.ffn_down",
    "encoder.layer.{}.output.LayerNorm": "blk.{}.layer_output_norm",
}
_NAMES = _WEIGHT_ONLY | _ONCE | _PER_BLOCK
_DROPPED = ("embeddings.position_ids", "pooler.")
"""The row numbers 0, 1, 2 ... of the position matrix, and a head that sentence models are trained without."""

_POOLING = {"cls_token": PoolingType.CLS, "mean_tokens": PoolingType.MEAN, "lasttoken": PoolingType.LAST}


def _metadata(checkpoint: Checkpoint) -> Metadata:
    config = checkpoint.config
    config.only("hidden_act", "gelu")
    config.only("position_embedding_type", "absolute")
    width = config.count("hidden_size", most=MAX_WIDTH)
    heads = config.count("num_attention_heads", most=MAX_HEADS)
    if width % heads:
        raise BadRequest(f"config.json: {heads} attention heads do not divide a hidden size of {width}")
    return {
        "block_count": _blocks(config),
        "context_length": config.count("max_position_embeddings", most=MAX_CONTEXT_TOKENS),
        "embedding_length": width,
        "feed_forward_length": config.count("intermediate_size", most=MAX_WIDTH),
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": config.fraction("layer_norm_eps", default=1e-12),
        "attention.causal": False,
        "tokenizer.ggml.token_type_count": config.count("type_vocab_size", most=MAX_TOKEN_TYPES, default=2),
        **pooling(checkpoint),
    }


def _blocks(config: Config) -> int:
    return config.count("num_hidden_layers", most=MAX_BLOCKS)


def pooling(checkpoint: Checkpoint) -> Metadata:
    """How token vectors become one vector, from `modules.json`. Without that file the habit is the mean."""
    modules = checkpoint.json("modules.json")
    if modules is None:
        return {"pooling_type": int(PoolingType.MEAN)}
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise BadRequest("modules.json is not a list of modules")
    paths = {str(module.get("type")).rpartition(".")[2]: str(module.get("path")) for module in modules}
    if unknown := paths.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise BadRequest(f"modules.json: module {min(unknown)[:40]!r} is not supported")
    kind = _pooling_kind(checkpoint, paths["Pooling"]) if "Pooling" in paths else PoolingType.MEAN
    return {"pooling_type": int(kind), "normalize_embeddings": "Normalize" in paths}


def _pooling_kind(checkpoint: Checkpoint, folder: str) -> PoolingType:
    modes = checkpoint.object(f"{folder}/config.json")
    chosen = [key.removeprefix("pooling_mode_") for key, on in modes.items() if key.startswith("pooling_mode_") and on]
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise BadRequest(f"pooling {' + '.join(chosen)[:80] or 'without a mode'} is not supported")
    return _POOLING[chosen[0]]


def _tensors(checkpoint: Checkpoint) -> list[Tensor]:
    tensors = list(renamed(checkpoint, _NAMES, _DROPPED))
    given, wanted = {tensor.name for tensor in tensors}, _wanted(checkpoint.config)
    if given != wanted:
        name = min(given ^ wanted)
        raise BadRequest(f"tensor {name!r} is {'missing' if name in wanted else 'beyond what config.json describes'}")
    return tensors


def _wanted(config: Config) -> set[str]:
    blocks = range(_blocks(config))
    in_pairs = [*_ONCE.values(), *(name.format(number) for name in _PER_BLOCK.values() for number in blocks)]
    return {
        *(f"{name}.weight" for name in (*_WEIGHT_ONLY.values(), *in_pairs)),
        *(f"{name}.bias" for name in in_pairs),
    }


FAMILY = Family(
    architecture="bert",
    serves=("BertModel",),
    metadata=_metadata,
    vocabulary=word_pieces,
    tensors=_tensors,
)

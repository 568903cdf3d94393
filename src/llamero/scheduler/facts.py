"""What planning needs to know about a stored model. It reads no file: the store has done that."""

from __future__ import annotations

from ..errors import BadRequest
from ..gguf import Gguf
from ..store.manifests import ADAPTER, PROJECTOR
from ..store.models import Model
from .plan import ModelFacts

CHATML = "chatml"
"""The engine's own chat template, by its name there."""

RANK = 4
"""llama.cpp's number for models that rank documents."""


def facts_of(model: Model) -> ModelFacts:
    """The figures of a model's GGUF header. Raises BadRequest for a model that has no GGUF to run."""
    gguf = model.gguf
    if gguf is None or model.weights is None:
        stored_as = model.config.model_format or "an unknown format"
        raise BadRequest(f'"{model.name.display}" is stored as {stored_as}, which cannot be run')
    layers = gguf.get_int("block_count")
    heads = max(gguf.get_ints("attention.head_count"), default=0)
    kv_heads = gguf.get_ints("attention.head_count_kv")
    return ModelFacts(
        key=str(model.weights_digest),
        path=model.weights,
        size_bytes=gguf.size_bytes,
        projectors=model.projectors,
        projector_bytes=sum(layer.size_bytes for layer in model.manifest.of_type(PROJECTOR)),
        adapters=model.adapters,
        adapter_bytes=sum(layer.size_bytes for layer in model.manifest.of_type(ADAPTER)),
        family=gguf.architecture,
        families=tuple(model.config.model_families or (gguf.architecture,)),
        train_ctx_tokens=gguf.get_int("context_length"),
        layers=layers,
        embedding_length=gguf.get_int("embedding_length"),
        heads=heads,
        kv_heads_min=min(kv_heads, default=1),
        kv_heads_total=sum(kv_heads) if len(kv_heads) > 1 else layers * (kv_heads[0] if kv_heads else heads),
        key_length=gguf.get_int("attention.key_length"),
        value_length=gguf.get_int("attention.value_length"),
        vocabulary=gguf.vocabulary,
        is_embedder=gguf.has("pooling_type") and not is_ranker(gguf),
        is_ranker=is_ranker(gguf),
        has_vision="vision" in model.capabilities,
        chat_template=model.bundled_jinja,
        spare_template=(model.spare_jinja or CHATML) if model.jinja else "",
    )


def is_ranker(gguf: Gguf) -> bool:
    return gguf.get_int("pooling_type", -1) == RANK

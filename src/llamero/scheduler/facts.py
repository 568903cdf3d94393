"""What planning needs to know about a stored model. It reads no file: the store has done that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..engines import AdapterFile, Speculation
from ..errors import BadRequest
from ..gguf import Gguf
from ..store.manifests import ADAPTER, PROJECTOR
from ..store.models import Model
from .shape import Shape, shape_of

CHATML = "chatml"
"""The engine's own chat template, by its name there."""

LOOK_AHEAD_LAYERS = "nextn_predict_layers"

RANK = 4
"""llama.cpp's number for models that rank documents."""


NO_SHAPE = Shape()
_SHAPES: dict[str, Shape] = {}


@dataclass(frozen=True, slots=True)
class Drafter:
    """A file that guesses for a model (Modelfile: DRAFT)."""

    path: Path
    kind: Speculation
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What planning needs to know about a model, taken from its manifest and GGUF header."""

    key: str
    path: Path
    size_bytes: int
    projectors: tuple[Path, ...] = ()
    projector_bytes: int = 0
    adapters: tuple[Path, ...] = ()
    adapter_bytes: int = 0
    extra_adapters: tuple[AdapterFile, ...] = ()
    """Of other models with these weights, for the request that is planned for."""
    family: str = ""
    families: tuple[str, ...] = ()
    train_ctx_tokens: int = 0
    """0: unknown."""
    layers: int = 0
    embedding_length: int = 0
    heads: int = 0
    """Most of any layer; 0: unknown."""
    kv_heads_min: int = 1
    """Fewest of any layer, 1 when unknown (scheduler §8.2)."""
    vocabulary: int = 0
    is_embedder: bool = False
    is_ranker: bool = False
    has_vision: bool = False
    chat_template: str = ""
    """Jinja for a file that has none that is of use; empty: the engine takes the file's own."""
    spare_template: str = ""
    """Jinja for when the engine refuses the file's own."""
    shape: Shape = NO_SHAPE
    """What is stored of a token, and computed."""
    drafter: Drafter | None = None
    looks_ahead: bool = False
    """Whether it has layers that were trained to guess further tokens."""

    @property
    def pools(self) -> bool:
        """Whether it takes a text in as a whole and writes none."""
        return self.is_embedder or self.is_ranker


def facts_of(model: Model) -> ModelFacts:
    """The figures of a model's GGUF header. Raises BadRequest for a model that has no GGUF to run."""
    gguf = model.gguf
    if gguf is None or model.weights is None:
        stored_as = model.config.model_format or "an unknown format"
        raise BadRequest(f'"{model.name.display}" is stored as {stored_as}, which cannot be run')
    digest = str(model.weights_digest)
    return replace(
        facts_of_header(gguf, _shape(digest, gguf)),
        key=digest,
        path=model.weights,
        projectors=model.projectors,
        projector_bytes=sum(layer.size_bytes for layer in model.manifest.of_type(PROJECTOR)),
        adapters=model.adapters,
        adapter_bytes=sum(layer.size_bytes for layer in model.manifest.of_type(ADAPTER)),
        families=tuple(model.config.model_families or (gguf.architecture,)),
        has_vision="vision" in model.capabilities,
        chat_template=model.bundled_jinja,
        spare_template=(model.spare_jinja or CHATML) if model.jinja else "",
        drafter=_drafter(model),
    )


def facts_of_header(gguf: Gguf, shape: Shape) -> ModelFacts:
    """What the header alone tells, of a file that may be anywhere."""
    return ModelFacts(
        key="",
        path=Path(),
        size_bytes=gguf.size_bytes,
        family=gguf.architecture,
        families=(gguf.architecture,),
        train_ctx_tokens=gguf.get_int("context_length"),
        layers=gguf.get_int("block_count"),
        embedding_length=gguf.get_int("embedding_length"),
        heads=max(gguf.get_ints("attention.head_count"), default=0),
        kv_heads_min=min(gguf.get_ints("attention.head_count_kv"), default=1),
        vocabulary=gguf.vocabulary,
        is_embedder=gguf.has("pooling_type") and not is_ranker(gguf),
        is_ranker=is_ranker(gguf),
        shape=shape,
        looks_ahead=gguf.get_int(LOOK_AHEAD_LAYERS) > 0,
    )


def _drafter(model: Model) -> Drafter | None:
    gguf = model.draft_gguf
    if gguf is None or model.draft is None:
        return None
    kind: Speculation = "mtp" if gguf.get_int(LOOK_AHEAD_LAYERS) else "draft"
    if gguf.architecture == "dflash":
        kind = "dflash"
    return Drafter(model.draft, kind, _shape(model.draft.name, gguf))


def _shape(digest: str, gguf: Gguf) -> Shape:
    """Walks all tensors, which every request would have to wait for. What a digest names never changes."""
    if digest not in _SHAPES:
        _SHAPES[digest] = shape_of(gguf)
    return _SHAPES[digest]


def is_ranker(gguf: Gguf) -> bool:
    return gguf.get_int("pooling_type", -1) == RANK

"""What one file per architecture family provides, and the rules all families share (store-registry §6.8).

To add a family: write a module with a `FAMILY`, name it in `conversion.FAMILIES`. A family maps names and says what is
special; how values are stored, checked and written is decided here and in `writer.py`, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type

from ...errors import BadRequest, InvalidModelFile
from .checkpoint import Checkpoint, Config
from .safetensors import Array, Source

Value = str | bytes | bool | int | float | list[str] | list[int] | list[float]
Metadata = dict[str, Value]
"""GGUF keys and values. A key without a known prefix is the architecture's own: `block_count` is `bert.block_count`."""

MAX_BLOCKS = 10_000
MAX_WIDTH = 1 << 20
MAX_CONTEXT_TOKENS = (1 << 31) - 1
MAX_HEADS = 1 << 16
MAX_VOCABULARY = 4 * 1024 * 1024
"""The bounds of security §4 and §3, which our own reader applies to the result."""

MAX_GGUF_DIMENSIONS = 4

BLOCK_VALUES = 2 * 1024 * 1024
"""Values that are read, converted and written at once: some 20 MB of memory at the most. Larger blocks are slower, for
they do not stay in the processor's caches."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the GGUF to be: everything but its values, which `blocks` fetches when their turn comes.

    `shape` has the slowest dimension first, as numpy and safetensors have it; GGUF stores it the other way round.
    `blocks` gives little-endian values of `type` (BF16 as unsigned 16-bit integers) piece by piece, in their order, so
    that not even one tensor has to be in memory.
    """

    name: str
    shape: tuple[int, ...]
    type: Type
    blocks: Callable[[], Iterable[Array]]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * NUMPY_TYPES[self.type].itemsize


NUMPY_TYPES: Mapping[Type, np.dtype[Any]] = {
    Type.F32: np.dtype("<f4"),
    Type.F16: np.dtype("<f2"),
    Type.BF16: np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into a GGUF file."""

    architecture: str
    metadata: Metadata
    tensors: list[Tensor]


@dataclass(frozen=True, slots=True)
class Family:
    """Architectures that convert alike. `serves` are the names in config.json, `architecture` is the engine's name."""

    architecture: str
    serves: tuple[str, ...]
    metadata: Callable[[Checkpoint], Metadata]
    vocabulary: Callable[[Checkpoint], Metadata]
    tensors: Callable[[Checkpoint], Iterable[Tensor]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What config.json may leave open, and what that means then."""
    applies: Callable[[Config], bool] = lambda config: True
    """Tells families apart that serve one name."""
    projector: Callable[[Checkpoint], Content | None] = lambda checkpoint: None
    """The second file, for models that see."""


_BLOCK_NUMBER = re.compile(r"\.(\d{1,5})\.")
_KEPT_EXACT = ("ffn_gate_inp.weight", "position_embd.weight", "patch_embd.weight", "token_types.weight")
"""Matrices that the engine wants in F32: small, and read in every step."""
_VISION = ("v.", "s.", "mm.")
"""What sees: the engine computes its convolutions with F16 only."""


def renamed(checkpoint: Checkpoint, names: Mapping[str, str], dropped: tuple[str, ...] = ()) -> Iterator[Tensor]:
    """The checkpoint's tensors under the engine's names.

    `names` maps `layers.{}.q_proj` to `blk.{}.attn_q`: `{}` stands for the block's number, and the last part of the
    name (`weight`, `bias`) stays as it is. `dropped` are beginnings of names that the engine does without. A tensor
    that is in neither raises BadRequest: a weight that is left out changes the model's answers.
    """
    for name, stored in checkpoint.tensors.items():
        if name.startswith(dropped):
            continue
        stem, _, last = name.rpartition(".")
        number = _BLOCK_NUMBER.search(stem + ".")
        pattern = _BLOCK_NUMBER.sub(".{}.", stem + ".", count=1).removesuffix(".")
        if pattern not in names or last not in ("weight", "bias"):
            raise BadRequest(f"unexpected tensor {name!r}")
        yield plain(f"{names[pattern].format(number[1] if number else '')}.{last}", stored)


Change = Callable[[Array], Array]


def unchanged(rows: Array) -> Array:
    return rows


def plain(name: str, source: Source, change: Change = unchanged, *, step: int = 1) -> Tensor:
    """A stored tensor in the type that its new name calls for. Scalars become vectors of one.

    `change` is applied to the encoded rows, a multiple of `step` at a time.
    """
    return stacked(name, [source], source.shape or (1,), change, step=step)


def stacked(
    name: str, sources: list[Source], shape: tuple[int, ...], change: Change = unchanged, *, step: int = 1
) -> Tensor:
    """The values of `sources`, which have one shape and type, one behind the other, as a tensor of `shape`."""
    if 0 in shape or len(shape) > MAX_GGUF_DIMENSIONS:
        raise InvalidModelFile(f"tensor {name!r} has an unsupported shape {list(shape)}")
    if len({source.dtype for source in sources}) != 1:
        raise BadRequest(f"the tensors that make {name!r} have different types")
    kind = type_of(name, sources[0], len(shape))

    def blocks() -> Iterator[Array]:
        for source in sources:
            for start, stop in _pieces(source.shape, step):
                # no name holds on to a block while the next one is made
                yield change(encoded(name, source.dtype, source.bits(start, stop), kind))

    return Tensor(name, shape, kind, blocks)


def _pieces(shape: tuple[int, ...], step: int) -> Iterator[tuple[int, int | None]]:
    """Ranges of rows, each a multiple of `step` and about `BLOCK_VALUES` large."""
    if not shape:
        yield 0, None
        return
    rows = max(1, BLOCK_VALUES // max(1, math.prod(shape[1:])) // step) * step
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def type_of(name: str, source: Source, n_dimensions: int) -> Type:
    """store-registry §6.8, row `dtype out`."""
    if n_dimensions == 1 or name.endswith((".bias", *_KEPT_EXACT)):
        return Type.F32
    return Type.BF16 if source.dtype == "BF16" and not name.startswith(_VISION) else Type.F16


def encoded(name: str, dtype: str, values: Array, kind: Type) -> Array:
    """`values` as they are stored in a tensor of `dtype`, for one of `kind`. Raises BadRequest when they do not fit."""
    if dtype == "BF16":
        if kind is Type.BF16:
            return values
        # a bfloat16 is the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    try:
        with np.errstate(over="raise"):
            return values.astype(NUMPY_TYPES[kind], copy=False)
    except FloatingPointError as exc:
        raise BadRequest(f"tensor {name!r} has values beyond the range of F16") from exc

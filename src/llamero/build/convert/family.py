"""What one file per architecture family provides, and the rules all families share (store-registry §6.8).

To add a family: write a module with a `FAMILY`, name it in `conversion.FAMILIES`. A family maps names and says what is
special; how values are stored, checked and written is decided here and in `writer.py`, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type

from ...errors import BadRequest, InvalidModelFile
from .checkpoint import Checkpoint
from .safetensors import Array, StoredTensor

Value = str | bool | int | float | list[str] | list[int] | list[float]
Metadata = dict[str, Value]
"""GGUF keys and values. A key without a known prefix is the architecture's own: `block_count` is `bert.block_count`."""

MAX_BLOCKS = 10_000
MAX_WIDTH = 1 << 20
MAX_CONTEXT_TOKENS = (1 << 31) - 1
MAX_HEADS = 1 << 16
MAX_VOCABULARY = 4 * 1024 * 1024
"""The bounds of security §4 and §3, which our own reader applies to the result."""

MAX_GGUF_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the GGUF to be: everything but its values, which `load` fetches when their turn comes.

    `shape` has the slowest dimension first, as numpy and safetensors have it; GGUF stores it the other way round.
    `load` gives little-endian values of `type` (BF16 as unsigned 16-bit integers), so one tensor at a time is in
    memory.
    """

    name: str
    shape: tuple[int, ...]
    type: Type
    load: Callable[[], Array]


@dataclass(frozen=True, slots=True)
class Family:
    """Architectures that convert alike. `serves` are the names in config.json, `architecture` is the engine's name."""

    architecture: str
    serves: tuple[str, ...]
    metadata: Callable[[Checkpoint], Metadata]
    vocabulary: Callable[[Checkpoint], Metadata]
    tensors: Callable[[Checkpoint], Iterable[Tensor]]


_BLOCK_NUMBER = re.compile(r"\.(\d{1,5})\.")
_KEPT_EXACT = ("ffn_gate_inp.weight", "position_embd.weight", "token_types.weight")
"""Matrices that the engine wants in F32: small, and read in every step."""


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


def plain(name: str, stored: StoredTensor) -> Tensor:
    """A stored tensor as it is, in the type that its new name calls for. Scalars become vectors of one."""
    shape = stored.shape or (1,)
    if 0 in shape or len(shape) > MAX_GGUF_DIMENSIONS:
        raise InvalidModelFile(f"tensor {name!r} has an unsupported shape {list(shape)}")
    kind = _type(name, stored, len(shape))
    return Tensor(name, shape, kind, lambda: _encode(name, stored, kind).reshape(shape))


def _type(name: str, stored: StoredTensor, n_dimensions: int) -> Type:
    if n_dimensions == 1 or name.endswith((".bias", *_KEPT_EXACT)):
        return Type.F32
    return Type.BF16 if stored.dtype == "BF16" else Type.F16


def _encode(name: str, stored: StoredTensor, kind: Type) -> Array:
    values = stored.bits()
    if stored.dtype == "BF16":
        # a bfloat16 is the upper half of a float32
        return values if kind is Type.BF16 else (values.astype("<u4") << 16).view("<f4")
    try:
        with np.errstate(over="raise"):
            return values.astype("<f4" if kind is Type.F32 else "<f2", copy=False)
    except FloatingPointError as exc:
        raise BadRequest(f"tensor {name!r} has values beyond the range of F16") from exc

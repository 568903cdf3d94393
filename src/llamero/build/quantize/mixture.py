"""What the quantizer would make of each tensor, told by a file's header alone: how large another type of it would be.

It quantizes nothing. The rules are those of llama.cpp's quantizer for the usual architectures; their sum is compared
with its results in tests/build/test_mixture.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...gguf import TENSOR_TYPES, Gguf, Tensor
from .levels import CARRIED, FILE_TYPE_IDS, UNQUANTIZED

BLOCKS: Mapping[str, tuple[int, int]] = {each.name: each[1:] for each in TENSOR_TYPES.values()}
"""Weights of a block, and its bytes, by tensor type."""

FALLBACKS: Mapping[str, str] = {"Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""In place of types whose blocks a row does not fill."""

OUTPUT = "Q6_K"
"""Of the last matrix, in every mixture of K types."""


@dataclass(frozen=True, slots=True)
class _Mixture:
    most: str
    """The type of most tensors."""
    values: str = ""
    """Of attn_v and ffn_down, in half of the layers."""
    joint: str = ""
    """Of attn_qkv."""
    output: str = ""
    """Of attn_output."""
    everywhere: bool = False
    """These are so in all layers."""


_MIXTURES: Mapping[str, _Mixture] = {
    "Q3_K_M": _Mixture("Q3_K", "Q4_K", joint="Q4_K", output="Q4_K", everywhere=True),
    "Q4_K_M": _Mixture("Q4_K", "Q6_K", joint="Q5_K"),
    "Q5_K_M": _Mixture("Q5_K", "Q6_K", joint="Q6_K"),
    "Q6_K": _Mixture("Q6_K"),
    "Q8_0": _Mixture("Q8_0"),
    "F16": _Mixture("F16"),
}

LEVELS = tuple(_MIXTURES)
"""What publishers offer, the smallest first."""

_MATRIX = re.compile(r"blk\.(\d{1,5})\.(attn_v|attn_qkv|attn_output|ffn_down)(_exps|_shexp)?\.weight")
_PLAIN = re.compile(r".*(_norm|ffn_gate_inp|ssm_conv1d|\.bias).*|position_embd\.weight|token_types\.weight")
"""What is kept as it is, matrix or not."""


def requantized(header: Gguf, level: str) -> Gguf:
    """The header that the file would have at one of LEVELS; its tensors have sizes and no places."""
    mixture, layers = _MIXTURES[level], header.get_int("block_count")
    is_tied = all(tensor.name != "output.weight" for tensor in header.tensors)
    tensors = tuple(_as(tensor, _goal(tensor, mixture, layers, is_tied=is_tied)) for tensor in header.tensors)
    return dataclasses.replace(
        header,
        metadata={**header.metadata, "general.file_type": FILE_TYPE_IDS[level]},
        tensors=tensors,
        size_bytes=header.data_offset + sum(tensor.size_bytes for tensor in tensors),
    )


def _goal(tensor: Tensor, mixture: _Mixture, layers: int, *, is_tied: bool) -> str:
    if len(tensor.shape) < 2 or tensor.name.startswith(CARRIED) or _PLAIN.fullmatch(tensor.name):
        return tensor.type
    if mixture.most in UNQUANTIZED:
        return mixture.most
    goal = mixture.most
    if tensor.name == "output.weight" or (is_tied and tensor.name == "token_embd.weight"):
        goal = OUTPUT if goal != "Q8_0" else goal
    elif match := _MATRIX.fullmatch(tensor.name):
        goal = _in_layer(int(match[1]), match[2], mixture, layers) or goal
    if tensor.shape[0] % BLOCKS[goal][0]:
        goal = FALLBACKS.get(goal, "F16")
    return goal if tensor.shape[0] % BLOCKS[goal][0] == 0 else "F16"


def _in_layer(layer: int, matrix: str, mixture: _Mixture, layers: int) -> str:
    match matrix:
        case "attn_qkv":
            return mixture.joint
        case "attn_output":
            return mixture.output
    return mixture.values if mixture.everywhere or _has_more_bits(layer, layers) else ""


def _has_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth, and of those between every third."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _as(tensor: Tensor, kind: str) -> Tensor:
    elements, block_bytes = BLOCKS[kind]
    return dataclasses.replace(tensor, type=kind, offset=0, size_bytes=tensor.elements // elements * block_bytes)

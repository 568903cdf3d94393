"""The quantization types that can be asked for, and what each does to which tensor: tables and their lookup.

Source: store-registry §6.6, GAP-03; what the bundled quantizer takes was tried out, type by type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import LlameroError, NotSupported
from ...gguf import FILE_TYPES, Gguf, Tensor

UNQUANTIZED = ("F32", "F16", "BF16")
"""What can be quantized: anything else would lose twice."""

OFFERED = frozenset(
    (
        *UNQUANTIZED,
        *"Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K".split(),
        *"IQ3_S IQ3_M IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE Q1_0".split(),
    )
)
NEED_IMATRIX = frozenset("IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS Q2_K_S".split())
"""Too few bits to do without knowing which weights matter; the bundled quantizer takes no importance matrix."""

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

FILE_TYPE_IDS: Mapping[str, int] = {name: number for number, name in FILE_TYPES.items()}


def parse_level(text: str) -> str:
    """The type that a request names in any letter case. LlameroError for an unknown one, as the reference has it."""
    level = text.strip().upper()
    level = _ALIASES.get(level, level)
    if level in NEED_IMATRIX:
        raise NotSupported(f"quantization type {level} needs an importance matrix: not supported by this version")
    if level not in OFFERED:
        raise LlameroError(
            f"unsupported quantization type {level} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
        )
    return level


def level_of(header: Gguf) -> str:
    """What a file says it is; where it says nothing but holds plain numbers, the type of most of them."""
    if header.has("general.file_type") or any(tensor.type not in UNQUANTIZED for tensor in header.tensors):
        return header.file_type
    elements = {level: sum(each.elements for each in header.tensors if each.type == level) for level in UNQUANTIZED}
    return max(elements, key=elements.__getitem__)


# --- tensor by tensor ----------------------------------------------------------------------------------------------

CARRIED = ("a.", "mm.", "mtp.", "s.", "v.")
"""Prefixes of the tensors of vision, sound and prediction parts, which keep their type."""


@dataclass(frozen=True, slots=True)
class _Exception:
    tensors: re.Pattern[str]
    level: str


def _exception(names: str, level: str) -> _Exception:
    return _Exception(re.compile(names), level)


_PREDICTION = _exception(r"blk\.\d+\.nextn\.eh_proj\.weight", "Q8_0")
_LATENT = _exception(r"blk\.\d+\.attn_(k_b|q_a|q_b|v_b|kv_a_mqa)\.weight", "Q8_0")
_ENDS = _exception(r"(token_embd|output)\.weight", "F16")

_EXCEPTIONS: Mapping[str, _Exception] = {
    "qwen35": _PREDICTION,
    "qwen35moe": _PREDICTION,
    "gemma3n": _exception(r"per_layer_token_embd\.weight", "F16"),
    "deepseek2": _LATENT,
    "glmocr": _ENDS,
    "glm4": _ENDS,
}
_EXCEPTIONS_FOR = ("Q4_K_S", "Q4_K_M")


_NARROWEST = 32
"""Weights in the smallest block: rows that are no multiple of it are not quantized, and the quantizer gives up."""


def shared_out(header: Gguf, level: str) -> Mapping[str | None, Sequence[Tensor]]:
    """The tensors by the type that they are to be quantized to; None for those that stay as they are."""
    exception = _EXCEPTIONS.get(header.architecture) if level in _EXCEPTIONS_FOR else None
    groups: dict[str | None, list[Tensor]] = {}
    for tensor in header.tensors:
        goal: str | None = level
        if tensor.name.startswith(CARRIED):
            goal = None
        elif exception is not None and exception.tensors.fullmatch(tensor.name):
            goal = exception.level
        elif level not in UNQUANTIZED and len(tensor.shape) > 1 and tensor.shape[0] % _NARROWEST:
            goal = "F16"
        groups.setdefault(None if goal == tensor.type else goal, []).append(tensor)
    return groups

"""A LoRA adapter as training tools write it, for a model that is a GGUF already (store-registry §6.4).

An adapter changes matrices by products of two thin ones: W + scale * B A. Which matrix of the GGUF each pair belongs to
and in which order its rows lie there, the model's family says (`weights.py`), from the sizes that the GGUF tells. Rows
of W are rows of B: what reorders the one reorders the other, and A stays.

Keys: PEFT's `base_model.model.<module>.lora_A.weight`, (rank, in); and MLX's `<module>.lora_a`, (in, rank).
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadRequest, InvalidModelFile
from ...gguf import CUT_SHORT, Gguf, read_header
from . import gemma, gemma2, gemma3, llama, mixtral, phi3, qwen2, qwen3, qwen3moe
from .checkpoint import Checkpoint, Config
from .conversion import Report, write
from .decoder import MAX_EXPERTS, Decoder, plain_name
from .family import MAX_BLOCKS, MAX_HEADS, MAX_WIDTH, Content, Metadata, Tensor, stacked
from .safetensors import Array, Source
from .weights import Sizes, Weight

_CONFIG = "adapter_config.json"
_DECODERS = (gemma, gemma2, gemma3, llama, phi3, qwen2, qwen3, qwen3moe)
_BY_ARCHITECTURE: Mapping[str, Decoder] = {module.DECODER.architecture: module.DECODER for module in _DECODERS}

_KEY = re.compile(r"(base_model\.model\.)?(?P<module>.+)\.lora_((?P<peft>[AB])(\.default)?\.weight|(?P<mlx>[ab]))")

MAX_ALPHA = 1e6
"""Published ones end at some hundreds."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two thin matrices of one module: A is (rank, in), B is (out, rank)."""

    a: Source
    b: Source

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class _Turned:
    """A small matrix with rows and columns exchanged."""

    source: Source

    @property
    def dtype(self) -> str:
        return self.source.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape[::-1]

    def bits(self, start: int = 0, stop: int | None = None) -> Array:
        return self.source.bits().T[start:stop]


def convert_adapter(
    folder: Path, base: Path, output: Path, report: Report = lambda completed, total: None
) -> list[str]:
    """Convert the adapter in `folder` for the model in the file `base`; returns warnings.

    Raises BadRequest or InvalidModelFile for whatever is wrong, OSError when the disk refuses; `output` does not exist
    then.
    """
    checkpoint = Checkpoint(folder)
    if not checkpoint.has(_CONFIG):
        raise BadRequest(f"{_CONFIG} is missing")
    config = Config(checkpoint.object(_CONFIG), _CONFIG)
    _refuse_other_kinds(config)
    header = _header(base)
    pairs = _pairs(checkpoint)
    metadata: Metadata = {
        "general.type": "adapter",
        "general.version": "v0.2",
        "adapter.type": "lora",
        "adapter.lora.alpha": _alpha(config, pairs),
    }
    if header.architecture == "llama":
        heads = ("attention.head_count", "attention.head_count_kv")
        metadata |= {key: _size(header, key, MAX_HEADS) for key in heads if header.has(key)}
    tensors = list(_tensors(pairs, header))
    write({output: Content(header.architecture, metadata, tensors)}, report)
    return checkpoint.warnings


# --- the adapter ---------------------------------------------------------------------------------------------------


def _refuse_other_kinds(config: Config) -> None:
    """What goes beyond W + scale * B A would be lost without a trace."""
    config.only("peft_type", "LORA")
    config.only("bias", "none")
    for key in ("use_dora", "fan_in_fan_out", "lora_bias"):
        config.only(key, False)
    for key in ("modules_to_save", "alpha_pattern", "trainable_token_indices", "layer_replication"):
        if found := config.values.get(key):
            names = ", ".join(map(str, found)) if isinstance(found, list | dict) else str(found)
            raise BadRequest(f"{_CONFIG}: {key} ({names[:200]}) is not supported")


def _pairs(checkpoint: Checkpoint) -> dict[str, _Pair]:
    """By the module's name as checkpoints have it."""
    halves: dict[str, dict[str, Source]] = {}
    for name, source in checkpoint.tensors.items():
        match = _KEY.fullmatch(name)
        if match is None or len(source.shape) != 2:
            raise BadRequest(f"tensor {name!r} is not supported: it is no matrix of a LoRA adapter")
        letter = match["peft"] or match["mlx"].upper()
        module = plain_name(match["module"] + ".").removesuffix(".")
        half = halves.setdefault(module, {})
        if letter in half:
            raise BadRequest(f"duplicate tensor name {name!r} was found for this adapter")
        half[letter] = source if match["peft"] else _Turned(source)
    pairs = {}
    for module, half in halves.items():
        if half.keys() != {"A", "B"}:
            raise BadRequest(f"the adapter has only one of the two matrices of {module!r}")
        pairs[module] = _Pair(half["A"], half["B"])
        if pairs[module].b.shape[1] != pairs[module].rank:
            raise BadRequest(f"the two matrices of {module!r} differ in rank")
    return pairs


def _alpha(config: Config, pairs: Mapping[str, _Pair]) -> float:
    """The engine's scale is alpha / rank, where rank is that of the matrices."""
    if config.has("lora_parameters"):  # MLX, whose later versions state the scale itself
        parameters = config.object("lora_parameters")
        if parameters.has("scale"):
            return parameters.positive("scale", most=MAX_ALPHA) * _one_rank(pairs)
        return parameters.positive("alpha", most=MAX_ALPHA)
    alpha = config.positive("lora_alpha", most=MAX_ALPHA)
    if config.flag("use_rslora"):
        return alpha * math.sqrt(_one_rank(pairs))  # its scale is alpha / sqrt(rank)
    return alpha


def _one_rank(pairs: Mapping[str, _Pair]) -> int:
    ranks = {pair.rank for pair in pairs.values()}
    if len(ranks) != 1:
        raise BadRequest(f"{_CONFIG}: with this scaling, matrices of ranks {sorted(ranks)} are not supported")
    return ranks.pop()


# --- the model it is for -------------------------------------------------------------------------------------------


def _header(base: Path) -> Gguf:
    if not base.stat().st_size:
        raise InvalidModelFile(CUT_SHORT)  # an empty file cannot be mapped
    with base.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return read_header(content)


def _decoder(header: Gguf) -> Decoder:
    if header.architecture == "llama" and header.get_int("expert_count"):
        return mixtral.DECODER
    if header.architecture not in _BY_ARCHITECTURE:
        raise BadRequest(f'unsupported architecture "{header.architecture[:80]}"')
    return _BY_ARCHITECTURE[header.architecture]


def _sizes(header: Gguf) -> Sizes:
    width, heads = _size(header, "embedding_length", MAX_WIDTH), _size(header, "attention.head_count", MAX_HEADS)
    inner = "expert_feed_forward_length" if header.has("expert_feed_forward_length") else "feed_forward_length"
    return Sizes(
        blocks=_size(header, "block_count", MAX_BLOCKS),
        width=width,
        heads=heads,
        kv_heads=_size(header, "attention.head_count_kv", MAX_HEADS, heads),
        head=_size(header, "attention.key_length", MAX_WIDTH, width // heads),
        inner=_size(header, inner, MAX_WIDTH),
        vocabulary=next((tensor.shape[-1] for tensor in header.tensors if tensor.name == "token_embd.weight"), 0),
        experts=_size(header, "expert_count", MAX_EXPERTS) if header.get_int("expert_count") else 0,
    )


def _size(header: Gguf, key: str, most: int, default: int = 0) -> int:
    value = header.get_int(key, default)
    if not 0 < value <= most:
        raise BadRequest(f"the base model's {key!r} must be an integer from 1 to {most}")
    return value


def _tensors(pairs: dict[str, _Pair], header: Gguf) -> Iterator[Tensor]:
    there = {tensor.name for tensor in header.tensors}
    left = dict(pairs)
    for weight in _decoder(header).weights(_sizes(header)):
        modules = [name.removesuffix(".weight") for name in weight.sources]
        found = [left.pop(module) for module in modules if module in left]
        if not found:
            continue
        if len(found) != len(modules):
            raise BadRequest(f"the adapter changes only some of the experts of {weight.name!r}")
        if weight.name not in there:
            raise BadRequest(f"the adapter changes {modules[0]!r}, which the base model does not have")
        yield from _both(weight, modules[0], found)
    if left:
        raise BadRequest(f"the adapter changes {min(left)!r}, which is not supported")


def _both(weight: Weight, module: str, pairs: list[_Pair]) -> Iterator[Tensor]:
    """The pair of a matrix, or the pairs of all experts, one behind the other."""
    rank = pairs[0].rank
    rows, columns = weight.shape
    for pair in pairs:
        if (pair.a.shape, pair.b.shape) != ((rank, columns), (rows, rank)):
            raise BadRequest(
                f"the adapter's matrices for {module!r} have shapes {list(pair.a.shape)} and {list(pair.b.shape)}, "
                f"the base model calls for {[rank, columns]} and {[rows, rank]}"
            )
    count = () if len(pairs) == 1 else (len(pairs),)
    yield stacked(f"{weight.name}.lora_a", [pair.a for pair in pairs], (*count, rank, columns))
    yield stacked(
        f"{weight.name}.lora_b", [pair.b for pair in pairs], (*count, rows, rank), weight.change, step=weight.step
    )

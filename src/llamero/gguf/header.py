"""What the head of a GGUF file says, as a value. It was read and checked by `reading`."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..errors import InvalidModelFile
from .kinds import FILE_TYPES

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap

MAX_LAYERS = 10_000
ALIGNMENTS = frozenset(1 << n for n in range(3, 17))
DEFAULT_ALIGNMENT = 32
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Array:
    """A metadata array that was stepped over."""

    kind: str
    """Of the elements: `string`, `u32`, `f32` ..."""
    count: int
    offset: int
    """In the file, of the first element."""
    size_bytes: int
    values: tuple[int, ...] | None = None
    """Kept when they are integers or booleans, and no more than a model has layers."""


Value: TypeAlias = bool | int | float | str | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    type: str
    shape: tuple[int, ...]
    """In file order: the row's length first."""
    offset: int
    """In bytes, from the start of the data section."""
    size_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Gguf:
    """What the head of a file says. An f32 is held as the shortest decimal that reads back as the same f32."""

    version: int
    big_endian: bool
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    size_bytes: int
    """Of the whole file."""

    @property
    def architecture(self) -> str:
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else UNKNOWN

    @property
    def kind(self) -> Literal["model", "projector", "adapter"]:
        """What the file is for (store-registry §6.4)."""
        declared = self.get_str("general.type")
        if declared == "adapter":
            return "adapter"
        if declared in ("projector", "mmproj"):
            return "projector"
        if self.get_int("block_count") == 0 and self.get_int("vision.block_count") > 0:
            return "projector"
        encodes = self.get_bool("has_vision_encoder") or self.get_bool("has_audio_encoder")
        if self.architecture == "clip" and not self.has("block_count") and encodes:
            return "projector"
        return "model"

    @property
    def vocabulary(self) -> int:
        """How many tokens there are. Many files say so by their list alone."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, Array) else self.get_int("vocab_size")

    @property
    def parameter_count(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """The quantization level, such as `Q4_K_M`, or `unknown`."""
        return FILE_TYPES.get(self.get_int("general.file_type", -1), UNKNOWN)

    @property
    def alignment(self) -> int:
        """Bytes: every tensor begins at a multiple of it, counted from the start of the data section."""
        return alignment_of(self.metadata)

    def key(self, name: str) -> str:
        """`context_length` is `llama.context_length` in the file; general and tokenizer keys stand as they are."""
        return name if name.startswith(("general.", "tokenizer.")) else f"{self.architecture}.{name}"

    def has(self, name: str) -> bool:
        return self.key(name) in self.metadata

    def get_int(self, name: str, default: int = 0) -> int:
        """An integer of any width. Here and below, a value of another type counts as absent."""
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def get_ints(self, name: str) -> tuple[int, ...]:
        """One integer, or an array with one (or a boolean) per layer; empty when absent."""
        value = self.metadata.get(self.key(name))
        if isinstance(value, Array):
            return value.values or ()
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else ()

    def get_str(self, name: str, default: str = "") -> str:
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, str) else default

    def get_bool(self, name: str, default: bool = False) -> bool:
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, bool) else default


def alignment_of(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or isinstance(alignment, bool):
        raise InvalidModelFile("invalid GGUF alignment: not an integer")
    if alignment not in ALIGNMENTS:
        raise InvalidModelFile(f"invalid GGUF alignment: {alignment}")
    return alignment


def human_count(n: int) -> str:
    """A number of parameters for people: `7.6B`, `8B`, `334.09M`, `137K`, `42` (store-registry §7.4)."""
    for unit, letter, decimals in ((1_000_000_000, "B", 1), (1_000_000, "M", 2), (1_000, "K", 0)):
        if n >= unit:
            return f"{n / unit:.{0 if n % unit == 0 else decimals}f}{letter}"
    return str(n)

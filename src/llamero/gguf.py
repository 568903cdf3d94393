"""The head of a GGUF file: its metadata and its tensor index, read from a buffer that may be hostile.

It reads no weights and opens no file. Arrays are stepped over, not decoded, so that a vocabulary of 150,000 entries
costs milliseconds; `read_array` decodes one later, from the same buffer. `read_header` checks whatever costs no more
than the reading, `check_model` the rest, once per file. Every refusal is an InvalidModelFile.

Source: store-registry §7 (format and error texts), security §4 (limits).
"""

from __future__ import annotations

import json
import math
import mmap
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, repeat
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias

from .errors import InvalidModelFile

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap

MAX_METADATA = 65_536
MAX_TENSORS = 200_000
MAX_NAME_BYTES = 1024
"""Of a key or a tensor's name."""
MAX_STRING_BYTES = 16 << 20
MAX_TEXT_BYTES = 32 << 20
"""Of all names and metadata strings together: decoded, a text may take four times its bytes."""
MAX_ARRAY_ELEMENTS = 64 << 20
MAX_ARRAY_STRINGS = 32 << 20
"""In all arrays together: strings are walked one by one, and this many take some three seconds."""
MAX_DIMENSIONS = 4
MAX_OFFSET = (1 << 63) - 1
"""The largest signed 64-bit number: what the engine counts elements and offsets with."""
ALIGNMENTS = frozenset(1 << n for n in range(3, 17))
DEFAULT_ALIGNMENT = 32

MAX_LAYERS = 10_000
MAX_LAYER_VALUES = 1 << 18
"""In all arrays of whole numbers that are short enough to be kept; a real file has some hundreds."""
MAX_TOKENS = 4 << 20
MAX_TOKEN_BYTES = 64 << 10
MAX_DECODED_ELEMENTS = 4 << 20
MAX_DECODED_BYTES = 64 << 20
"""Of the arrays decoded in one call: several times what the largest real vocabulary needs."""

MAGIC = b"GGUF"
MIN_PAIR_BYTES = 8 + 4 + 1
MIN_TENSOR_BYTES = 8 + 4 + 4 + 8
CUT_SHORT = "unexpected end of file"
UNKNOWN = "unknown"

KINDS: Mapping[int, str] = dict(enumerate("u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64".split()))
CODES: Mapping[str, str] = dict(
    zip("u8 i8 u16 i16 u32 i32 u64 i64 bool f32 f64".split(), "B b H h I i Q q ? f d".split(), strict=True)
)
"""The `struct` code of each kind of fixed width."""
INTEGER_KINDS = frozenset("u8 i8 u16 i16 u32 i32 u64 i64".split())

RUN_STRINGS = 256
SHORT_STRINGS = re.compile(
    b"(?s:%b){%d}+" % (b"|".join(rb"\x%02x\0{7}.{%d}" % (length, length) for length in range(64)), RUN_STRINGS)
)
"""A run of little-endian strings below 64 bytes: of each the low byte of its length, seven zeros, the text."""


class TensorType(NamedTuple):
    name: str
    block_elements: int
    block_bytes: int


TENSOR_TYPES: Mapping[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),  # these two the reference knows by name only, and refuses
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}

FILE_TYPES: Mapping[int, str] = {
    **dict(enumerate("F32 F16 Q4_0 Q4_1".split())),
    **dict(enumerate("Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K".split(), start=7)),
    **dict(enumerate("IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M".split(), start=19)),
    **dict(enumerate("IQ4_XS IQ1_M BF16".split(), start=30)),
    **dict(enumerate("TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0".split(), start=36)),
}
"""The quantization level that `general.file_type` stands for."""


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
    def token_count(self) -> int:
        """How many tokens its tokenizer knows; 0 when it has none."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, Array) else 0

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
        return _alignment(self.metadata)

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

    def get_float(self, name: str, default: float = 0.0) -> float:
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, float) else default

    def get_str(self, name: str, default: str = "") -> str:
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, str) else default

    def get_bool(self, name: str, default: bool = False) -> bool:
        value = self.metadata.get(self.key(name))
        return value if isinstance(value, bool) else default


def is_gguf(head: bytes) -> bool:
    """Whether a file that begins like this claims to be a GGUF."""
    return head[:4] == MAGIC


def human_count(n: int) -> str:
    """A number of parameters for people: `7.6B`, `8B`, `334.09M`, `137K`, `42` (store-registry §7.4)."""
    for unit, letter, decimals in ((1_000_000_000, "B", 1), (1_000_000, "M", 2), (1_000, "K", 0)):
        if n >= unit:
            return f"{n / unit:.{0 if n % unit == 0 else decimals}f}{letter}"
    return str(n)


# --- reading the header ---


def read_header(buffer: Buffer, *, size_bytes: int | None = None) -> Gguf:
    """Read and check a header.

    `size_bytes` is the file's size when `buffer` holds only its beginning. A buffer that ends within the header is
    refused like a file that does, so a caller with more bytes at hand may simply try again with them.
    """
    if not is_gguf(bytes(buffer[:4])):
        raise InvalidModelFile("invalid file magic")
    cursor = _Cursor(buffer)
    n_tensors, n_pairs = cursor.numbers("II" if cursor.version == 1 else "QQ")
    _check_count("metadata", n_pairs, MAX_METADATA, cursor.remaining_bytes // MIN_PAIR_BYTES)
    _check_count("tensor", n_tensors, MAX_TENSORS, cursor.remaining_bytes // MIN_TENSOR_BYTES)
    metadata = _read_metadata(cursor, n_pairs)
    alignment = _alignment(metadata)
    tensors = _read_tensors(cursor, n_tensors)
    data_offset = -(-cursor.pos // alignment) * alignment
    file_bytes = len(buffer) if size_bytes is None else size_bytes
    _check_ranges(tensors, alignment, data_offset, file_bytes)
    return Gguf(cursor.version, cursor.order == ">", metadata, tensors, data_offset, file_bytes)


Span: TypeAlias = tuple[int, int]
"""The first byte of something in a file, and the one after its last."""


@dataclass(frozen=True, slots=True)
class Records:
    """Where the records of a header stand, for those who copy them unread: key, type and value; a tensor's entry."""

    pairs: Mapping[str, Span]
    tensors: Mapping[str, Span]


def read_records(buffer: Buffer) -> Records:
    """Find the records of a header that `read_header` has accepted."""
    cursor = _Cursor(buffer)
    n_tensors, n_pairs = cursor.numbers("II" if cursor.version == 1 else "QQ")
    pairs: dict[str, Span] = {}
    tensors: dict[str, Span] = {}
    for _ in range(n_pairs):
        start, key = cursor.pos, cursor.string(MAX_NAME_BYTES)
        cursor.value()
        pairs[key] = start, cursor.pos
    for _ in range(n_tensors):
        start, tensor = cursor.pos, _read_tensor(cursor)
        tensors[tensor.name] = start, cursor.pos
    return Records(pairs, tensors)


class _Cursor:
    """A place in the header. Each read checks that its bytes are there before it makes anything of them."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.pos = len(MAGIC)
        self.order = "<"
        self.version: int = self.numbers("I")[0]
        if self.version & 0xFFFF == 0:
            # The low half of a small number is empty only when a big-endian machine wrote it.
            self.pos = len(MAGIC)
            self.order = ">"
            self.version = self.numbers("I")[0]
        if self.version not in (1, 2, 3):
            raise InvalidModelFile(f"unsupported GGUF version: {self.version}")
        self._text_bytes_left = MAX_TEXT_BYTES
        self._array_strings_left = MAX_ARRAY_STRINGS
        self._layer_values_left = MAX_LAYER_VALUES

    @property
    def remaining_bytes(self) -> int:
        return len(self.buffer) - self.pos

    def skip(self, n_bytes: int) -> int:
        """Step over bytes that must be there; returns the position before the step."""
        if n_bytes > self.remaining_bytes:
            raise InvalidModelFile(CUT_SHORT)
        start = self.pos
        self.pos += n_bytes
        return start

    def numbers(self, codes: str) -> tuple[Any, ...]:
        """The next numbers, by their `struct` codes."""
        layout = self.order + codes
        return struct.unpack_from(layout, self.buffer, self.skip(struct.calcsize(layout)))

    def string(self, max_bytes: int) -> str:
        start, length = self._skip_string(max_bytes)
        self._text_bytes_left -= length
        if self._text_bytes_left < 0:
            raise InvalidModelFile(f"string length of all texts exceeds maximum {MAX_TEXT_BYTES}")
        return bytes(self.buffer[start : start + length]).decode("utf-8", "replace")

    def value(self) -> Value:
        type_id = self.numbers("I")[0]
        kind = KINDS.get(type_id)
        if kind is None:
            raise InvalidModelFile(f"invalid type: {type_id}")
        if kind == "string":
            return self.string(MAX_STRING_BYTES)
        if kind == "array":
            return self._array()
        number: bool | int | float = self.numbers(CODES[kind])[0]
        return shortest_f32(number) if kind == "f32" else number

    def _array(self) -> Array:
        type_id, count = self.numbers("IQ")
        kind = KINDS.get(type_id)
        if kind is None or kind == "array":
            raise InvalidModelFile(f"invalid array type: {type_id}")
        if count > MAX_ARRAY_ELEMENTS:
            raise InvalidModelFile(f"array size {count} exceeds maximum {MAX_ARRAY_ELEMENTS}")
        start, values = self.pos, None
        if kind == "string":
            self._skip_strings(count)
        elif count <= MAX_LAYERS and (kind in INTEGER_KINDS or kind == "bool"):
            values = self._layer_values(kind, count)
        else:
            self.skip(count * struct.calcsize(self.order + CODES[kind]))
        return Array(kind, count, start, self.pos - start, values)

    def _layer_values(self, kind: str, count: int) -> tuple[int, ...]:
        self._layer_values_left -= count
        if self._layer_values_left < 0:
            raise InvalidModelFile(f"array size of all short arrays exceeds maximum {MAX_LAYER_VALUES}")
        return self.numbers(f"{count}{CODES[kind]}")

    def _skip_string(self, max_bytes: int) -> tuple[int, int]:
        """Step over one string; returns where its text begins and the text's length in bytes."""
        length = self.numbers("Q")[0]
        if length > max_bytes:
            raise _too_long(length, max_bytes)
        start = self.skip(length)
        if self.version > 1:
            return start, length
        if length == 0 or self.buffer[self.pos - 1] != 0:
            raise _not_terminated(length)
        return start, length - 1

    def _skip_strings(self, count: int) -> None:
        """Step over the strings of an array. Where each begins is known only from the length of the one before.

        This is where a header's time goes. A loop around `struct` takes 76 ns a string; while the strings are short, as
        those of a vocabulary are, a regular expression steps over a run of them in 45 ns each.
        """
        self._array_strings_left -= count
        if self._array_strings_left < 0:
            raise InvalidModelFile(f"array size of all string arrays exceeds maximum {MAX_ARRAY_STRINGS}")
        common = self.version > 1 and self.order == "<"
        while count > 0:
            step = min(count, RUN_STRINGS)
            run = SHORT_STRINGS.match(self.buffer, self.pos) if common and step == RUN_STRINGS else None
            self.pos = run.end() if run else self._after_strings(step)
            count -= step

    def _after_strings(self, count: int) -> int:
        buffer, pos, length_at = self.buffer, self.pos, struct.Struct(self.order + "Q").unpack_from
        terminated = self.version == 1
        try:
            for _ in repeat(None, count):
                (length,) = length_at(buffer, pos)
                if length > MAX_STRING_BYTES:
                    raise _too_long(length, MAX_STRING_BYTES)
                pos += 8 + length
                if terminated and (length == 0 or buffer[pos - 1] != 0):
                    raise _not_terminated(length)
        except (struct.error, IndexError):
            raise InvalidModelFile(CUT_SHORT) from None
        if pos > len(buffer):
            raise InvalidModelFile(CUT_SHORT)
        return pos


def _too_long(length: int, maximum: int) -> InvalidModelFile:
    return InvalidModelFile(f"string length {length} exceeds maximum {maximum}")


def _not_terminated(length: int) -> InvalidModelFile:
    return InvalidModelFile(f"invalid GGUF v1 string {'terminator' if length else 'length: 0'}")


def _check_count(what: str, count: int, maximum: int, fitting: int) -> None:
    """Refuse a count before anything is read by it: beyond the limit, or more records than the bytes can hold."""
    if count > maximum:
        raise InvalidModelFile(f"{what} count {count} exceeds maximum {maximum}")
    if count > fitting:
        raise InvalidModelFile(CUT_SHORT)


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string(MAX_NAME_BYTES)
        if key in metadata:
            raise InvalidModelFile(f"duplicate key {_quote(key)}")
        metadata[key] = cursor.value()
    return metadata


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or isinstance(alignment, bool):
        raise InvalidModelFile("invalid GGUF alignment: not an integer")
    if alignment not in ALIGNMENTS:
        raise InvalidModelFile(f"invalid GGUF alignment: {alignment}")
    return alignment


def _read_tensors(cursor: _Cursor, count: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    n_parameters = 0
    for _ in range(count):
        tensor = _read_tensor(cursor)
        if tensor.name in tensors:
            raise InvalidModelFile(f"duplicate tensor {_quote(tensor.name)}")
        tensors[tensor.name] = tensor
        n_parameters += tensor.elements
        if n_parameters > MAX_OFFSET:
            raise InvalidModelFile("parameter count overflow")
    return tuple(tensors.values())


def _read_tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string(MAX_NAME_BYTES)
    n_dimensions = cursor.numbers("I")[0]
    if n_dimensions > MAX_DIMENSIONS:
        raise _bad_tensor(name, f"dimensions {n_dimensions} exceeds maximum {MAX_DIMENSIONS}")
    *shape, type_id, offset = cursor.numbers(f"{n_dimensions}QIQ")
    n_elements = math.prod(shape)
    if n_elements == 0:
        raise _bad_tensor(name, "has a dimension of 0")
    if n_elements > MAX_OFFSET:
        raise _bad_tensor(name, "elements overflow")
    kind = TENSOR_TYPES.get(type_id)
    if kind is None:
        raise _bad_tensor(name, f"size overflow: unknown type {type_id}")
    row_elements = shape[0] if shape else 1
    if row_elements % kind.block_elements:
        raise _bad_tensor(name, f"size overflow: row of {row_elements} is no multiple of {kind.block_elements}")
    size_bytes = n_elements // kind.block_elements * kind.block_bytes
    if offset + size_bytes > MAX_OFFSET:
        raise _bad_tensor(name, "offset+size overflows")
    return Tensor(name, kind.name, tuple(shape), offset, size_bytes)


def _check_ranges(tensors: Collection[Tensor], alignment: int, data_offset: int, file_bytes: int) -> None:
    for tensor in tensors:
        if tensor.offset % alignment:
            raise _bad_tensor(tensor.name, f"offset {tensor.offset} is no multiple of the alignment {alignment}")
        end = data_offset + tensor.offset + tensor.size_bytes
        if end > file_bytes:
            raise _bad_tensor(tensor.name, f"offset+size ({end}) exceeds file size ({file_bytes})")
    for tensor, following in pairwise(sorted(tensors, key=attrgetter("offset"))):
        if tensor.offset + tensor.size_bytes > following.offset:
            raise _bad_tensor(tensor.name, f"overlaps {_quote(following.name)}")


def _bad_tensor(name: str, reason: str) -> InvalidModelFile:
    return InvalidModelFile(f"tensor {_quote(name)} {reason}")


def _quote(name: str) -> str:
    """A name out of a hostile file, short and safe to print."""
    return json.dumps(name if len(name) <= 64 else name[:64] + "...")


# --- arrays, decoded when somebody asks ---


def read_array(buffer: Buffer, gguf: Gguf, array: Array) -> list[Any]:
    """The elements of an array of `gguf`, which was read from this same buffer.

    Raises InvalidModelFile when they are far more than any real model has.
    """
    _check_decodable([array])
    if array.kind == "string":
        return [text.decode("utf-8", "replace") for text in _strings(buffer, gguf, array)]
    numbers = _numbers(buffer, gguf, array)
    return [shortest_f32(number) for number in numbers] if array.kind == "f32" else list(numbers)


def show_metadata(gguf: Gguf, buffer: Buffer, *, verbose: bool, projector: bool = False) -> dict[str, Any]:
    """The metadata as `/api/show` gives it, ready for JSON: `model_info`, or `projector_info` (store-registry §7.5).

    Arrays are null unless they are empty or `verbose`. Floats that are not finite, which JSON cannot say, are null too.
    """
    if verbose:
        _check_decodable([value for value in gguf.metadata.values() if isinstance(value, Array)])
    shown: dict[str, Any] = {}
    for key, value in gguf.metadata.items():
        if not isinstance(value, Array):
            shown[key] = _finite(value)
        elif verbose or value.count == 0:
            shown[key] = [_finite(element) for element in read_array(buffer, gguf, value)]
        else:
            shown[key] = None
    shown["general.parameter_count"] = gguf.parameter_count
    if not projector:
        for key in ("general.name", "tokenizer.chat_template"):
            shown.pop(key, None)
    return shown


def shortest_f32(value: float) -> float:
    """The shortest decimal that reads back as the same f32: 1e-05, where Python would print 9.999999747378752e-06."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 9):  # every decimal of six digits survives in an f32; nine digits tell any two f32 apart
        candidate = float(f"{value:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", candidate))[0] == value:
            return candidate
    return float(f"{value:.9g}")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_decodable(arrays: Collection[Array]) -> None:
    n_elements = sum(array.count for array in arrays)
    n_bytes = sum(array.size_bytes for array in arrays)
    if n_elements > MAX_DECODED_ELEMENTS:
        raise InvalidModelFile(f"array size {n_elements} exceeds maximum {MAX_DECODED_ELEMENTS} to decode")
    if n_bytes > MAX_DECODED_BYTES:
        raise InvalidModelFile(f"array size of {n_bytes} bytes exceeds maximum {MAX_DECODED_BYTES} to decode")


def _numbers(buffer: Buffer, gguf: Gguf, array: Array) -> tuple[Any, ...]:
    return struct.unpack_from(f"{_order(gguf)}{array.count}{CODES[array.kind]}", buffer, array.offset)


def _strings(buffer: Buffer, gguf: Gguf, array: Array) -> Iterator[bytes]:
    pos, length_at = array.offset, struct.Struct(_order(gguf) + "Q").unpack_from
    terminator_bytes = 1 if gguf.version == 1 else 0
    for _ in repeat(None, array.count):
        (length,) = length_at(buffer, pos)
        pos += 8 + length
        yield bytes(buffer[pos - length : pos - terminator_bytes])


def _order(gguf: Gguf) -> str:
    return ">" if gguf.big_endian else "<"


# --- the full check ---

COUNTS: Mapping[str, range] = {
    "block_count": range(1, MAX_LAYERS + 1),
    "embedding_length": range(1, (1 << 20) + 1),
    "context_length": range(1, 1 << 31),
}
"""What a model must say about itself, since others multiply and divide by it."""
HEAD_COUNTS = ("attention.head_count", "attention.head_count_kv")
HEADS = range(65_536 + 1)
"""For the whole model or for each layer. Zero is legitimate: recurrent layers have no heads."""
VOCABULARY = range(1, MAX_TOKENS + 1)

WITHOUT_TOKENS = ("", "none", "no_vocab")
"""Values of `tokenizer.ggml.model` that need no list of tokens."""
BYTE_TOKEN_TYPE = 6
BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")


def check_model(gguf: Gguf, buffer: Buffer) -> None:
    """What a file must pass once, before `create` keeps it and before an engine opens it.

    The counts that enter arithmetic, which projectors and adapters may lack, and every entry of the vocabulary.
    """
    if gguf.version == 1:
        raise InvalidModelFile("unsupported GGUF version: 1")
    if gguf.kind == "model":
        _check_counts(gguf)
        _check_heads(gguf)
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    if tokens is not None:
        _check_vocabulary(gguf, buffer, tokens)
    elif _has_weights(gguf) and gguf.get_str("tokenizer.ggml.model") not in WITHOUT_TOKENS:
        raise InvalidModelFile("tokenizer.ggml.tokens is missing")


def _has_weights(gguf: Gguf) -> bool:
    """Whether there is something to compute with; of a split model, only the first shard says what."""
    shard = gguf.metadata.get("split.no")
    return bool(gguf.tensors) and not (isinstance(shard, int) and shard > 0)


def _check_counts(gguf: Gguf) -> None:
    needed = _has_weights(gguf)
    if not isinstance(gguf.metadata.get("general.architecture", None if needed else UNKNOWN), str):
        raise InvalidModelFile("general.architecture is missing or no text")
    for name, allowed in COUNTS.items():
        if needed or gguf.has(name):
            _check_integer(gguf, name, allowed)
    if gguf.has("vocab_size"):
        _check_integer(gguf, "vocab_size", VOCABULARY)


def _check_heads(gguf: Gguf) -> None:
    n_layers = gguf.get_int("block_count")
    for name in filter(gguf.has, HEAD_COUNTS):
        key = gguf.key(name)
        value = gguf.metadata[key]
        if not isinstance(value, Array):
            _check_integer(gguf, name, HEADS)
        elif value.kind not in INTEGER_KINDS or value.count != n_layers:
            raise InvalidModelFile(f"{key} must have an integer for each of {n_layers} layers")
        elif not all(heads in HEADS for heads in gguf.get_ints(name)):
            raise InvalidModelFile(f"{key} has an entry outside {_shown(HEADS)}")


def _check_integer(gguf: Gguf, name: str, allowed: range) -> None:
    key = gguf.key(name)
    value = gguf.metadata.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidModelFile(f"{key} is missing or no integer")
    if value not in allowed:
        raise InvalidModelFile(f"{key} {value} is outside {_shown(allowed)}")


def _shown(allowed: range) -> str:
    return f"{allowed.start}...{allowed.stop - 1}"


def _check_vocabulary(gguf: Gguf, buffer: Buffer, tokens: Value) -> None:
    """Engines have overrun their memory on texts of 2 GiB, on unequal arrays and on byte tokens like `<0x-1>`."""
    if not isinstance(tokens, Array) or tokens.kind != "string":
        raise InvalidModelFile("tokenizer.ggml.tokens is no array of texts")
    if tokens.count not in VOCABULARY:
        raise InvalidModelFile(f"vocabulary of {tokens.count} tokens is outside {_shown(VOCABULARY)}")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        value = gguf.metadata.get(key)
        matches = isinstance(value, Array) and value.kind != "string" and value.count == tokens.count
        if value is not None and not matches:
            raise InvalidModelFile(f"{key} must have a number for each of {tokens.count} tokens")
    types = gguf.metadata.get("tokenizer.ggml.token_type")
    token_types = _numbers(buffer, gguf, types) if isinstance(types, Array) else repeat(0)
    for text, token_type in zip(_strings(buffer, gguf, tokens), token_types, strict=False):
        if len(text) > MAX_TOKEN_BYTES:
            raise InvalidModelFile(f"token length {len(text)} exceeds maximum {MAX_TOKEN_BYTES}")
        looks_like_byte = text.startswith(b"<0x") and text.endswith(b">")
        if (token_type == BYTE_TOKEN_TYPE or looks_like_byte) and not BYTE_TOKEN.fullmatch(text):
            raise InvalidModelFile(f"token {_quote(text.decode('utf-8', 'replace'))} is no byte token")

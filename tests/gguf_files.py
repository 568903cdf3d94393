"""Builds the bytes of GGUF files for tests: any metadata, any tensors, well-formed or not. Not a writer for users.

    gguf_file({"general.architecture": "test"})                          a header alone
    gguf_file(llama_metadata(), llama_tensors())                         a tiny model that passes every check
    tiny_llama({"llama.block_count": 0})                                 the same with one key changed; None removes it
    gguf_file([("k", Typed("u64", 5))], [TensorSpec("t", (32, 2), "Q8_0")], version=2, big_endian=True)

An `int` is written as u32 (or i32, i64, u64 when it does not fit), a `float` as f32, a list by its first element;
`Typed` says otherwise, and `Raw` says anything at all.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KIND_IDS = {
    "u8": 0,
    "i8": 1,
    "u16": 2,
    "i16": 3,
    "u32": 4,
    "i32": 5,
    "f32": 6,
    "bool": 7,
    "string": 8,
    "array": 9,
    "u64": 10,
    "i64": 11,
    "f64": 12,
}
CODES = {
    "u8": "B",
    "i8": "b",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "f32": "f",
    "bool": "?",
    "u64": "Q",
    "i64": "q",
    "f64": "d",
}
TENSOR_KINDS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}
"""Id, elements and bytes of a block: those that tests write data for. Others are given by id and `size_bytes`."""


@dataclass(frozen=True)
class Typed:
    """A value of one kind: `Typed("u64", 5)`, or with `[]` an array of it: `Typed("[i32]", [1, 2])`."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Raw:
    """A value as its type id and the bytes after it, however wrong."""

    type_id: int
    payload: bytes


@dataclass(frozen=True)
class TensorSpec:
    """A tensor; `offset` None places it behind the one before, `data` None fills it with zeros."""

    name: str | bytes
    shape: Sequence[int]
    type: str | int = "F32"
    offset: int | None = None
    data: bytes | None = None
    size_bytes: int | None = None

    @property
    def type_id(self) -> int:
        return self.type if isinstance(self.type, int) else TENSOR_KINDS[self.type][0]

    @property
    def payload(self) -> bytes:
        if self.data is not None:
            return self.data
        if self.size_bytes is not None:
            return bytes(self.size_bytes)
        assert isinstance(self.type, str), "a type given by its id needs data or size_bytes"
        _, block_elements, block_bytes = TENSOR_KINDS[self.type]
        return bytes(math.prod(self.shape) // block_elements * block_bytes)


def gguf_file(
    metadata: Mapping[str, Any] | Iterable[tuple[str | bytes, Any]] = (),
    tensors: Sequence[TensorSpec] = (),
    *,
    version: int = 3,
    big_endian: bool = False,
    alignment: int = 32,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    """A whole file. `n_pairs` and `n_tensors` claim other counts than the true ones.

    `alignment` only places the data; a file that is to say so carries `general.alignment` as well.
    """
    write = _Writer(version, big_endian)
    pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
    counts = (len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs)
    head = b"GGUF" + write.numbers("I", version) + write.numbers("II" if version == 1 else "QQ", *counts)
    head += b"".join(write.string(key) + write.value(value) for key, value in pairs)
    data = b""
    for tensor in tensors:
        offset = len(data) if tensor.offset is None else tensor.offset
        head += write.string(tensor.name) + write.numbers("I", len(tensor.shape))
        head += write.numbers(f"{len(tensor.shape)}Q", *tensor.shape) + write.numbers("IQ", tensor.type_id, offset)
        data = _padded(data + tensor.payload, alignment)
    return _padded(head, alignment) + data if tensors else head


def tiny_llama(changes: Mapping[str, Any] | None = None, tensors: Sequence[TensorSpec] | None = None) -> bytes:
    """A model of the family `llama`, so complete that an engine loads it; all its weights are zero."""
    return gguf_file(llama_metadata(changes), llama_tensors() if tensors is None else tensors)


def llama_metadata(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One block, 32 wide, four heads, and a vocabulary of three control tokens, all byte tokens and a word.

    `changes` replace keys or add some; None removes one.
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁hello"]
    types = [2, 3, 3, *[6] * 256, 1]
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "Tiny",
        "general.file_type": 0,
        "llama.block_count": 1,
        "llama.context_length": 128,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.dimension_count": 8,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": Typed("[i32]", types),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
        **(changes or {}),
    }
    return {key: value for key, value in metadata.items() if value is not None}


def llama_tensors(n_layers: int = 1, n_tokens: int = 260) -> list[TensorSpec]:
    """The tensors that belong to `llama_metadata`."""
    shapes = {
        "attn_norm": (32,),
        "attn_q": (32, 32),
        "attn_k": (32, 16),
        "attn_v": (32, 16),
        "attn_output": (32, 32),
        "ffn_norm": (32,),
        "ffn_gate": (32, 64),
        "ffn_up": (32, 64),
        "ffn_down": (64, 32),
    }
    blocks = [TensorSpec(f"blk.{n}.{part}.weight", shape) for n in range(n_layers) for part, shape in shapes.items()]
    return [TensorSpec("token_embd.weight", (32, n_tokens)), *blocks, TensorSpec("output_norm.weight", (32,))]


class _Writer:
    def __init__(self, version: int, big_endian: bool) -> None:
        self._version = version
        self._order = ">" if big_endian else "<"

    def numbers(self, codes: str, *values: Any) -> bytes:
        return struct.pack(self._order + codes, *values)

    def string(self, text: str | bytes) -> bytes:
        raw = text.encode() if isinstance(text, str) else text
        if self._version == 1:
            raw += b"\0"
        return self.numbers("Q", len(raw)) + raw

    def value(self, value: Any) -> bytes:
        if isinstance(value, Raw):
            return self.numbers("I", value.type_id) + value.payload
        kind, value = (value.kind, value.value) if isinstance(value, Typed) else (_kind(value), value)
        if kind.startswith("["):
            element = kind.strip("[]")
            head = self.numbers("IIQ", KIND_IDS["array"], KIND_IDS[element], len(value))
            return head + b"".join(self._element(element, entry) for entry in value)
        return self.numbers("I", KIND_IDS[kind]) + self._element(kind, value)

    def _element(self, kind: str, value: Any) -> bytes:
        return self.string(value) if kind == "string" else self.numbers(CODES[kind], value)


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            fits = {"u32": range(1 << 32), "i32": range(-(1 << 31), 0), "i64": range(-(1 << 63), 0)}
            return next((kind for kind, numbers in fits.items() if value in numbers), "u64")
        case float():
            return "f32"
        case str() | bytes():
            return "string"
        case list() | tuple():
            return f"[{_kind(value[0]) if value else 'u32'}]"
    raise TypeError(f"no GGUF value: {value!r}")


def _padded(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)

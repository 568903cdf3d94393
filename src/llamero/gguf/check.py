"""The full check, once per file: the counts that enter arithmetic, and every entry of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import repeat

from ..errors import InvalidModelFile
from .arrays import numbers_of, texts_of
from .header import MAX_LAYERS, UNKNOWN, Array, Buffer, Gguf, Value
from .kinds import INTEGER_KINDS
from .reading import quoted

MAX_TOKENS = 4 << 20
MAX_TOKEN_BYTES = 64 << 10

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
    token_types = numbers_of(buffer, gguf, types) if isinstance(types, Array) else repeat(0)
    for text, token_type in zip(texts_of(buffer, gguf, tokens), token_types, strict=False):
        if len(text) > MAX_TOKEN_BYTES:
            raise InvalidModelFile(f"token length {len(text)} exceeds maximum {MAX_TOKEN_BYTES}")
        looks_like_byte = text.startswith(b"<0x") and text.endswith(b">")
        if (token_type == BYTE_TOKEN_TYPE or looks_like_byte) and not BYTE_TOKEN.fullmatch(text):
            raise InvalidModelFile(f"token {quoted(text.decode('utf-8', 'replace'))} is no byte token")

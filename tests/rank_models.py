"""A tiny cross-encoder that likes good words: no published model that ranks is small.

    write_ranker(tmp_path / "ranker.gguf")
    score("who", "good good bad")                 what the model says of this document, before any sigmoid

It is a BERT of one block. Its attention takes the mean of all tokens, its head reads off how good they are; the query
counts like any other words.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH = 8
CONTEXT = 64
"""Tokens of a query and a document together, with the two around the query."""
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
GOODNESS = {"good": 1.0, "fine": 0.5, "plain": 0.0, "poor": -0.5, "bad": -1.0, "who": 0.0}
WORDS = [*SPECIALS, *GOODNESS]
HEAD = 3.0
"""How much the head makes of goodness."""
EPSILON = 1e-12
RANK = 4
"""llama.cpp's number for this kind of pooling."""


def write_ranker(path: Path, *, pooling: int = RANK) -> Path:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("ranker")
    writer.add_block_count(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([word if word in SPECIALS else f"▁{word}" for word in WORDS])
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * len(GOODNESS))
    writer.add_token_type_count(2)
    for kind, word in {
        "padding": "[PAD]",
        "unknown": "[UNK]",
        "bos": "[CLS]",
        "cls": "[CLS]",
        "seperator": "[SEP]",
    }.items():
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", WORDS.index(word))
    for name, tensor in _tensors().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def score(query: str, document: str) -> float:
    """The truth, in double precision."""
    tokens = ["[CLS]", *query.split(), "[SEP]", *document.split()]
    rows = _norm(np.array([_embedding(token) for token in tokens]))
    first = _norm(_norm(rows[0] + rows.mean(axis=0)))
    return float(HEAD * first[0])


def _norm(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)


def _embedding(token: str) -> np.ndarray:
    """Goodness first; what follows keeps the length the same, so that norms change little."""
    goodness = GOODNESS.get(token, 0.0)
    return np.array([goodness, -goodness, 1, -1, 1, -1, 1, -1])


def _tensors() -> dict[str, np.ndarray]:
    square, zeros, ones = np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH), np.ones(WIDTH)
    identity = np.eye(WIDTH)
    head = np.zeros((1, WIDTH))
    head[0, 0] = HEAD
    tensors = {
        "token_embd.weight": np.array([_embedding(word) for word in WORDS]),
        "position_embd.weight": np.zeros((CONTEXT, WIDTH)),
        "token_types.weight": np.zeros((2, WIDTH)),
        "token_embd_norm.weight": ones,
        "token_embd_norm.bias": zeros,
        "cls.output.weight": head,
        "cls.output.bias": np.zeros(1),
    }
    for part, matrix in {
        "attn_q": square,
        "attn_k": square,
        "attn_v": identity,
        "attn_output": identity,
        "ffn_up": square,
        "ffn_down": square,
    }.items():
        tensors |= {f"blk.0.{part}.weight": matrix, f"blk.0.{part}.bias": zeros}
    for part in ("attn_output_norm", "layer_output_norm"):
        tensors |= {f"blk.0.{part}.weight": ones, f"blk.0.{part}.bias": zeros}
    return {name: tensor.astype("f4") for name, tensor in tensors.items()}

"""What a new engine is tried on: the smallest model of the store that can write, else one that is made up.

The made-up one is a llama with weights by chance. It says nothing, but takes the same path through the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...errors import LlameroError
from ...names import ModelName
from ...store import Store

LEAST_BYTES = 30 << 20
"""Smaller models say nothing about speed: what is measured then is the engine's way between two layers."""
MOST_BYTES = 4 << 30
"""Two engines hold it."""

WIDTH = 512
HEADS = 8
BLOCKS = 8
FEED_FORWARD = 1536
SEED = 20260101


@contextmanager
def model(store: Store, folder: Path) -> Iterator[tuple[str, Path]]:
    """Its name and its weights, which stay there inside the block; what is made up is made in `folder`."""
    with ExitStack() as held:
        yield _of_store(store, held) or ("a made-up model", write(folder / "trial.gguf"))


def _of_store(store: Store, held: ExitStack) -> tuple[str, Path] | None:
    try:
        summaries = [each for each in store.list() if LEAST_BYTES <= each.size_bytes <= MOST_BYTES]
    except LlameroError:
        return None  # another user's folder
    for summary in sorted(summaries, key=lambda each: each.size_bytes):
        if "completion" in summary.capabilities and (weights := _weights(store, summary.name, held)):
            return summary.name.display, weights
    return None


def _weights(store: Store, name: ModelName, held: ExitStack) -> Path | None:
    """Of a model that is nothing but weights, checked and held."""
    try:
        found = held.enter_context(store.using(name))
        store.check_weights(found)
    except LlameroError:
        return None
    return None if found.adapters or found.projectors else found.weights


def write(path: Path) -> Path:
    """Write the made-up model, about 30 MB."""
    import gguf
    import numpy as np

    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    chance = np.random.default_rng(SEED)

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = chance.standard_normal((rows, columns), dtype=np.float32) / columns**0.5
        packed = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    matrix("token_embd", len(words), WIDTH)
    matrix("output", len(words), WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for block in range(BLOCKS):
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{part}.weight", np.ones(WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{block}.{part}", WIDTH, WIDTH)
        matrix(f"blk.{block}.ffn_gate", FEED_FORWARD, WIDTH)
        matrix(f"blk.{block}.ffn_up", FEED_FORWARD, WIDTH)
        matrix(f"blk.{block}.ffn_down", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

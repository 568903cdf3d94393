"""How long a header with a large vocabulary takes to read: 150,000 tokens and as many merges, over mmap.

    python -m bench.gguf_header [rounds]

Beside it one read by the `gguf` package, which decodes every entry.
"""

from __future__ import annotations

import mmap
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from llamero.gguf import check_model, read_header

from .alone import alone
from .effort import Effort
from .figures import Figure

VOCABULARY = 150_000
LAYERS = 28
ROUNDS = 20
GOAL_MS = 50.0


def measure(effort: Effort) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large-vocabulary.gguf"
        write_model(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            header = read_header(buffer)
            rounds = effort.rounds_of(ROUNDS)
            reads_ms = tuple(milliseconds(lambda: read_header(buffer)) for _ in range(rounds))
            check_ms = milliseconds(lambda: check_model(header, buffer))
        peer_ms = milliseconds(lambda: GGUFReader(path))
    what = f"a header with {VOCABULARY:,} tokens"
    return [
        Figure(f"reading {what}", reads_ms, "ms", goal=GOAL_MS, better="less"),
        Figure(f"checking all of {what}", (check_ms,), "ms", better="less"),
        Figure(f"reading {what} with the package `gguf`", (peer_ms,), "ms", better="less"),
    ]


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def write_model(path: Path) -> None:
    """A header like that of a 7B model, its entries as long as in published vocabularies; the weights are zeros."""
    words = random.Random(1)
    tokens = ["".join(words.choices("abcdefghij", k=words.randint(1, 12))) for _ in range(VOCABULARY)]
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(LAYERS)
    writer.add_context_length(32_768)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_scores([words.uniform(-20, 0) for _ in tokens])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges([f"{token[: len(token) // 2]} {token[len(token) // 2 :]}" for token in tokens])
    for layer in range(LAYERS):
        for part in "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down".split():
            writer.add_tensor(f"blk.{layer}.{part}.weight", np.zeros((32, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    alone(measure, __doc__)

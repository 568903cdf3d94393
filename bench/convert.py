"""How fast a checkpoint becomes a GGUF, against reading and writing the same bytes, and how much memory it takes.

A generated Llama of BF16 in three shards; copy and conversion take turns, both from and to the page cache, which is
flushed in between. Another conversion, of a tiny model, tells how much time and memory the interpreter and its
libraries take by themselves; the time is not taken off.

    python -m bench.convert [rounds]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llamero.build.convert import convert_in_child

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios

ROUNDS = 5
BLOCKS = 12
TINY = Path(__file__).resolve().parents[1] / "tests" / "data" / "hf-tiny" / "llama"
"""Lends its tokenizer, which is padded to the vocabulary."""

WIDTH, INNER, HEADS, KEY_HEADS, VOCABULARY = 2048, 8192, 16, 4, 32_000
SHARDS = 3
BLOCK_BYTES = 8 << 20


def measure(effort: Effort) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_s = convert(TINY, folder / "tiny.gguf")
        tiny_bytes = peak_bytes_of_children()
        size_bytes, largest_bytes = generate(folder / "checkpoint", effort.size(BLOCKS, 1))
        copies_s, conversions_s = [], []
        for _ in range(effort.rounds_of(ROUNDS)):
            copies_s.append(copy(folder / "checkpoint", folder / "copy"))
            conversions_s.append(convert(folder / "checkpoint", folder / "model.gguf"))
        beyond = (peak_bytes_of_children() - tiny_bytes) / largest_bytes
    return [
        Figure(
            f"converting BF16 in {SHARDS} shards / reading and writing it", ratios(copies_s, conversions_s), goal=0.5
        ),
        Figure("converting", tuple(size_bytes / 1e6 / convert_s for convert_s in conversions_s), "MB/s"),
        Figure("converting a tiny model", (tiny_s,), "s", better="less"),
        Figure("its peak memory, above a tiny model's / largest tensor", (beyond,), goal=2, better="less"),
    ]


def copy(checkpoint: Path, target: Path) -> float:
    os.sync()  # pages that wait for the disk would slow down whoever writes next
    started = time.perf_counter()
    with target.open("wb", buffering=0) as output:
        for path in sorted(checkpoint.glob("*.safetensors")):
            with path.open("rb", buffering=0) as source:
                while block := source.read(BLOCK_BYTES):
                    output.write(block)
    elapsed_s = time.perf_counter() - started
    target.unlink()
    return elapsed_s


def convert(checkpoint: Path, target: Path) -> float:
    os.sync()
    started = time.perf_counter()
    convert_in_child(checkpoint, target, lambda completed, total: None)
    elapsed_s = time.perf_counter() - started
    target.unlink()
    return elapsed_s


def peak_bytes_of_children() -> int:
    """The most that any child took so far, pages of files that it has mapped included."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def generate(folder: Path, blocks: int) -> tuple[int, int]:
    """Write a checkpoint; returns the bytes of all its tensors, and of the largest."""
    folder.mkdir()
    for path in TINY.glob("tokenizer*"):
        shutil.copy(path, folder)
    config = json.loads((TINY / "config.json").read_text()) | {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": WIDTH // HEADS,
        "num_hidden_layers": blocks,
        "vocab_size": VOCABULARY,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = list(shapes(blocks))
    for number in range(SHARDS):
        path = folder / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        write_shard(path, tensors[number * len(tensors) // SHARDS : (number + 1) * len(tensors) // SHARDS])
    sizes = [2 * rows * columns for _, (rows, columns) in tensors]
    return sum(sizes), max(sizes)


def shapes(blocks: int) -> Iterator[tuple[str, tuple[int, int]]]:
    keys = WIDTH // HEADS * KEY_HEADS
    yield "model.embed_tokens", (VOCABULARY, WIDTH)
    for block in range(blocks):
        name = f"model.layers.{block}"
        yield f"{name}.input_layernorm", (1, WIDTH)
        for part, rows in (("q", WIDTH), ("k", keys), ("v", keys), ("o", WIDTH)):
            yield f"{name}.self_attn.{part}_proj", (rows, WIDTH)
        yield f"{name}.post_attention_layernorm", (1, WIDTH)
        yield f"{name}.mlp.gate_proj", (INNER, WIDTH)
        yield f"{name}.mlp.up_proj", (INNER, WIDTH)
        yield f"{name}.mlp.down_proj", (WIDTH, INNER)
    yield "model.norm", (1, WIDTH)


def write_shard(path: Path, tensors: list[tuple[str, tuple[int, int]]]) -> None:
    header, end = {}, 0
    for name, (rows, columns) in tensors:
        begin, end = end, end + 2 * rows * columns
        shape = [rows, columns] if rows > 1 else [columns]
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        # in pieces: a child is counted with the memory that its parent had when it began
        values = random.integers(0x3C00, 0x3D00, WIDTH * 1024, "<u2")
        for _, (rows, columns) in tensors:
            for start in range(0, rows * columns, values.size):
                file.write(values[: rows * columns - start].data)


if __name__ == "__main__":
    alone(measure, __doc__)

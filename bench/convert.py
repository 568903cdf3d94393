"""How fast a checkpoint becomes a GGUF, against reading and writing the same bytes, and how much memory it takes.

A generated Llama of BF16 in three shards; copy and conversion take turns, both from and to the page cache, which is
flushed in between. Another conversion, of a tiny model, tells how much time and memory the interpreter and its
libraries take by themselves; the time is not taken off.

python -m bench.convert [rounds] [blocks]
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

from bench.common import spread
from llamero.build.convert import convert_in_child

TINY = Path(__file__).resolve().parents[1] / "tests" / "data" / "hf-tiny" / "llama"
"""Lends its tokenizer, which is padded to the vocabulary."""

WIDTH, INNER, HEADS, KEY_HEADS, VOCABULARY = 2048, 8192, 16, 4, 32_000
SHARDS = 3
BLOCK_BYTES = 8 << 20


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_s = convert(TINY, folder / "tiny.gguf")
        tiny_bytes = peak_bytes_of_children()
        size_bytes, largest_bytes = generate(folder / "checkpoint", blocks)
        copies, conversions = [], []
        for _ in range(rounds):
            copies.append(copy(folder / "checkpoint", folder / "copy"))
            conversions.append(convert(folder / "checkpoint", folder / "model.gguf"))
    mb = 1e6
    print(f"{size_bytes / mb:.0f} MB of BF16 in {SHARDS} shards, {rounds} rounds")
    print(f"read and write: {spread([size_bytes / mb / s for s in copies], ' MB/s', 0)}")
    print(f"convert:        {spread([size_bytes / mb / s for s in conversions], ' MB/s', 0)}")
    print(f"convert, a tiny model: {tiny_s:.2f} s")
    ratios = [copy_s / convert_s for copy_s, convert_s in zip(copies, conversions, strict=True)]
    print(f"ratio to the copy of the same round: {spread(ratios, digits=2)}")
    peak_bytes = peak_bytes_of_children()
    print(f"peak memory {peak_bytes / mb:.0f} MB, of a tiny model {tiny_bytes / mb:.0f} MB: the difference is")
    print(f"{(peak_bytes - tiny_bytes) / largest_bytes:.2f} of the largest tensor ({largest_bytes / mb:.0f} MB)")


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
    main()

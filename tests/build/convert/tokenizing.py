"""Tokenizers as publishers' libraries make them, and the engine that must give their ids."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from tokenizers import Tokenizer, decoders, models, trainers
from tokenizers.pre_tokenizers import ByteLevel

from llamero.build.convert.checkpoint import Checkpoint
from llamero.build.convert.family import Metadata, Tensor
from llamero.build.convert.vocabulary import vocabulary
from llamero.build.convert.writer import write_gguf
from llamero.engines.wire import Wire
from tests.build.convert.tiny_bert import pack
from tests.engines.starting import real_engine

WIDTH = 32

CORPUS = [
    "Hello world! It's 2024, isn't it? We'LL SEE what they'd've done; I'm sure you're right.",
    "def main(argument: int) -> str:\n    if argument >= 10_000:\n        return f'{argument:,}'\n\n\treturn \"\"\n",
    "Der Fluß fließt über die Straße, là où l'été s'achève; el niño habló mañana.",
    "Привет, мир! Как дела? Γειά σου Κόσμε.",
    "你好世界，今天天气很好。我想在苹果工作1314151天～ こんにちは、世界。안녕하세요 세계",
    "🚀 (normal) 😶 (multiple emojis) ✅ 🦙🦙 3 33 333 3333 33333 3.14 1,000,000",
    "CamelCaseWords and snake_case_words, HTTPServer, iPhone; a/b/c//d\\e ------ ======= ......",
] * 3

TEXTS = [
    "",
    " ",
    "hello",
    " hello  world   ",
    "a\nb\r\nc\n\n\n  d\t\te",
    "It's WE'LL they'd've I'M 'tis",
    "0 12 345 6789 1234567890 3.14 1,000",
    "naïve café über niño",
    "日本語と漢字、你好世界。안녕",
    "🙂🚀👩‍🚀",
    "def f(x):\n    return x[0] + {'a': 1}  # ok\n",
    "CamelCase HTTPServer snake_case ALLCAPS iPhone",
    "https://example.com/a/b?c=d&e=%20",
    "Привет мир Κόσμε",
    "!!! ... ??? --- ===",
]
"""Awkward ones: spaces, line ends, digits, accents, scripts, emoji, code."""


def write_checkpoint(folder: Path, files: dict[str, Any], **config: Any) -> Path:
    """A folder with tokenizer files and weights that say nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = pack({"model.embed_tokens.weight": np.zeros((1, 1), "f4")})
    config = {"architectures": ["LlamaForCausalLM"]} | config
    for name, content in ({"config.json": config, "model.safetensors": weights} | files).items():
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def read(folder: Path) -> tuple[Metadata, list[str]]:
    """The vocabulary of a folder with keys cut short, and the warnings on the way."""
    checkpoint = Checkpoint(folder)
    found = vocabulary(checkpoint)
    return {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}, checkpoint.warnings


@asynccontextmanager
async def engine_with(folder: Path) -> AsyncIterator[Wire]:
    """The engine with the vocabulary of the checkpoint in `folder` and a model of one block that says nothing."""
    model = folder / "tiny.gguf"
    found = vocabulary(Checkpoint(folder))
    tokens = found["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    write_gguf(model, "llama", {**_TINY, **found}, _tensors(len(tokens)))
    async with real_engine(model) as engine:
        yield engine.wire


async def differences(folder: Path, encode: Callable[[str], list[int]], texts: list[str]) -> dict[str, tuple[Any, Any]]:
    """Texts to which the engine gives other ids than the publisher's library, with what both say."""
    found = {}
    async with engine_with(folder) as wire:
        for text in texts:
            ours, theirs = await wire.tokenize(text), encode(text)
            if ours != theirs:
                found[text] = (ours, theirs)
    return found


def byte_level(pre_tokenizer: Any = None, *, special: Sequence[str] = ("<|end|>",)) -> Tokenizer:
    """A byte-level tokenizer trained on the corpus. Its first tokens are `special`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer or ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, initial_alphabet=ByteLevel.alphabet(), special_tokens=list(special)
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def described(tokenizer: Tokenizer, **changes: Any) -> dict[str, Any]:
    """Its tokenizer.json with other values; those of `model` are laid over the model's own."""
    description = json.loads(tokenizer.to_str())
    model = description["model"] | changes.pop("model", {})
    return {**description, **changes, "model": model}


_TINY: Metadata = {
    "block_count": 1,
    "context_length": 512,
    "embedding_length": WIDTH,
    "feed_forward_length": WIDTH,
    "attention.head_count": 1,
    "attention.layer_norm_rms_epsilon": 1e-5,
}


def _tensors(rows: int) -> list[Tensor]:
    square, vector = (WIDTH, WIDTH), (WIDTH,)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, WIDTH), "output_norm.weight": vector}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}.weight"] = square
    for name in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{name}.weight"] = vector
    return [_zeros(name, shape) for name, shape in shapes.items()]


def _zeros(name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, shape, Type.F32, lambda: [np.zeros(shape, "<f4")])

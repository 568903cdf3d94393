"""Nomic's BERT and its variant with experts: the engine's vectors are those of the publisher's formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from llamero.build.convert.conversion import convert
from llamero.errors import BadRequest
from tests.build.convert.tiny_bert import pack
from tests.engines.starting import real_engine

WIDTH, INNER, HEADS, BLOCKS, EXPERTS, TOP = 32, 48, 2, 4, 4, 2
WORDS = "the cat sat on a mat and dog ran to house".split()
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"##{end}" for end in ("s", "ing", "ed"))]
TEXTS = ["the cat sat", "a dog", "the cats and dogs ran to a house on the mat", "house"]
BASE = 1000.0

Tensors = dict[str, np.ndarray]


def word_piece_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram_tokenizer() -> Tokenizer:
    """As XLM-R's, which the variant with experts uses."""
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"▁{word}", -1.0 - number) for number, word in enumerate(WORDS)]
    vocabulary += [(character, -20.0) for character in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram([*vocabulary, ("<mask>", 0.0)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def config(*, experts: bool, vocabulary: int) -> dict[str, Any]:
    variant: dict[str, Any] = {"activation_function": "swiglu"}
    if experts:
        variant = {
            "activation_function": "gelu",
            "moe_every_n_layers": 2,
            "moe_top_k": TOP,
            "num_experts": EXPERTS,
            "moe_normalize_expert_weights": False,
        }
    return {
        "architectures": ["NomicBertModel"],
        "n_embd": WIDTH,
        "n_inner": INNER,
        "n_head": HEADS,
        "n_layer": BLOCKS,
        "n_positions": 8192,
        "max_trained_positions": 2048,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "layer_norm_epsilon": 1e-12,
        "rotary_emb_base": BASE,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "qkv_proj_bias": experts,
        "mlp_fc1_bias": experts,
        "mlp_fc2_bias": experts,
        "prenorm": False,
        "causal": False,
        **variant,
    }


def random_tensors(*, experts: bool, vocabulary: int) -> Tensors:
    random = np.random.default_rng(11)
    found: Tensors = {}

    def linear(name: str, rows: int, columns: int, *, bias: bool = experts) -> None:
        found[f"{name}.weight"] = (random.normal(size=(rows, columns)) / math.sqrt(columns)).astype("f4")
        if bias:
            found[f"{name}.bias"] = random.normal(size=rows, scale=0.3).astype("f4")

    def norm(name: str) -> None:
        found[f"{name}.weight"] = random.normal(1.0, 0.2, WIDTH).astype("f4")
        found[f"{name}.bias"] = random.normal(0.0, 0.2, WIDTH).astype("f4")

    linear("embeddings.word_embeddings", vocabulary, WIDTH, bias=False)
    linear("embeddings.token_type_embeddings", 2, WIDTH, bias=False)
    norm("emb_ln")
    for block in range(BLOCKS):
        layer = f"encoder.layers.{block}"
        linear(f"{layer}.attn.Wqkv", 3 * WIDTH, WIDTH)
        linear(f"{layer}.attn.out_proj", WIDTH, WIDTH)
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
        if experts and block % 2:
            linear(f"{layer}.mlp.router.layer", EXPERTS, WIDTH, bias=False)
            for part in ("w1", "w2"):
                found[f"{layer}.mlp.experts.mlp.{part}"] = (
                    random.normal(size=(EXPERTS * INNER, WIDTH)) / math.sqrt(WIDTH)
                ).astype("f4")
            found[f"{layer}.mlp.experts.bias"] = np.zeros(WIDTH, "f4")
        else:
            for part in ("fc1",) if experts else ("fc11", "fc12"):
                linear(f"{layer}.mlp.{part}", INNER, WIDTH)
            linear(f"{layer}.mlp.fc2", WIDTH, INNER)
    return found


class Reference:
    """The publisher's forward pass, written from its formulas: the mean of the last layer's vectors."""

    def __init__(self, tensors: Tensors, *, experts: bool) -> None:
        self.tensors = {name: values.astype("f8") for name, values in tensors.items()}
        self.experts = experts

    def embed(self, tokens: list[int]) -> np.ndarray:
        words = self.tensors["embeddings.word_embeddings.weight"][tokens]
        x = self.norm("emb_ln", words + self.tensors["embeddings.token_type_embeddings.weight"][0])
        for block in range(BLOCKS):
            layer = f"encoder.layers.{block}"
            x = self.norm(f"{layer}.norm1", x + self.attention(f"{layer}.attn", x))
            routed = self.experts and block % 2 == 1
            x = self.norm(f"{layer}.norm2", x + (self.routed if routed else self.dense)(f"{layer}.mlp", x))
        return x.mean(axis=0)

    def attention(self, name: str, x: np.ndarray) -> np.ndarray:
        query, key, value = (
            part.reshape(len(x), HEADS, -1).swapaxes(0, 1) for part in np.split(self.linear(f"{name}.Wqkv", x), 3, 1)
        )
        scores = rotated(query) @ rotated(key).swapaxes(1, 2) / math.sqrt(WIDTH / HEADS)
        mixed = (softmax(scores) @ value).swapaxes(0, 1).reshape(len(x), WIDTH)
        return self.linear(f"{name}.out_proj", mixed)

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        if self.experts:
            inner = gelu(self.linear(f"{name}.fc1", x))
        else:
            gate = self.linear(f"{name}.fc12", x)
            inner = self.linear(f"{name}.fc11", x) * gate / (1 + np.exp(-gate))
        return self.linear(f"{name}.fc2", inner)

    def routed(self, name: str, x: np.ndarray) -> np.ndarray:
        up, down = (self.tensors[f"{name}.experts.mlp.{part}"].reshape(EXPERTS, INNER, WIDTH) for part in ("w1", "w2"))
        chances = softmax(self.linear(f"{name}.router.layer", x))
        out = np.zeros_like(x)
        for row, chance in enumerate(chances):
            for expert in np.argsort(chance)[-TOP:]:
                out[row] += chance[expert] * (gelu(x[row] @ up[expert].T) @ down[expert])
        return out

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]


def rotated(heads: np.ndarray) -> np.ndarray:
    """Each value of the first half of a head turns with its partner in the second half."""
    _, length, size = heads.shape
    angles = np.outer(np.arange(length), BASE ** -(np.arange(0, size, 2) / size))
    first, second = heads[..., : size // 2], heads[..., size // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class Tiny:
    """A random checkpoint; a test changes what it is about."""

    def __init__(self, *, experts: bool) -> None:
        self.experts = experts
        self.tokenizer = unigram_tokenizer() if experts else word_piece_tokenizer()
        rows = self.tokenizer.get_vocab_size()
        self.config = config(experts=experts, vocabulary=rows)
        self.tensors = random_tensors(experts=experts, vocabulary=rows)

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"} if self.experts else {}
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "tokenizer.json").write_text(self.tokenizer.to_str())
        (folder / "tokenizer_config.json").write_text(
            json.dumps({f"{kind}_token": text for kind, text in names.items()})
        )
        (folder / "model.safetensors").write_bytes(pack(self.tensors))
        return folder


@pytest.fixture(params=[False, True], ids=["dense", "experts"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return Tiny(experts=request.param)


@pytest.mark.engine
async def test_the_engines_vectors_are_those_of_the_formulas(tiny: Tiny, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    assert convert(tiny.write(tmp_path / "in"), output) == []
    reference = Reference(tiny.tensors, experts=tiny.experts)
    async with real_engine(output, embedding=True) as engine:
        found, _ = await engine.wire.embed(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        expected = reference.embed(tiny.tokenizer.encode(text).ids)
        assert cosine(np.array(vector), expected) > 0.9999, text


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}


def test_the_variant_with_experts_is_told_by_its_config_not_its_name(tiny: Tiny, tmp_path: Path) -> None:
    convert(tiny.write(tmp_path / "in"), tmp_path / "out.gguf")
    assert fields(tmp_path / "out.gguf")["general.architecture"] == f"nomic-bert{'-moe' if tiny.experts else ''}"


@pytest.mark.parametrize(
    ("positions", "trained", "sentences", "context"),
    [(8192, 2048, None, 2048), (2048, 2048, 512, 512), (8192, None, None, 2048), (1024, 2048, 8192, 1024)],
)
def test_the_context_is_what_the_model_was_trained_on(
    tmp_path: Path, positions: int, trained: int | None, sentences: int | None, context: int
) -> None:
    tiny = Tiny(experts=False)
    tiny.config |= {"n_positions": positions, "max_trained_positions": trained}
    folder = tiny.write(tmp_path / "in")
    if sentences:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": sentences}))
    convert(folder, tmp_path / "out.gguf")
    assert fields(tmp_path / "out.gguf")["nomic-bert.context_length"] == context


def test_a_bias_that_the_engine_leaves_out_is_warned_of(tmp_path: Path) -> None:
    tiny = Tiny(experts=True)
    tiny.tensors["encoder.layers.1.mlp.experts.bias"][3] = 0.5
    assert convert(tiny.write(tmp_path / "in"), tmp_path / "out.gguf") == [
        "the bias that the experts of a layer share has no effect"
    ]


@pytest.mark.parametrize(
    ("experts", "changes", "message"),
    [
        (False, {"activation_function": "relu"}, "activation_function 'relu' is not supported"),
        (False, {"qkv_proj_bias": True}, "qkv_proj_bias 'True' is not supported"),
        (True, {"mlp_fc1_bias": False}, "mlp_fc1_bias 'False' is not supported"),
        (False, {"prenorm": True}, "prenorm 'True' is not supported"),
        (False, {"causal": True}, "causal 'True' is not supported"),
        (False, {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction '0.5' is not supported"),
        (False, {"rotary_emb_interleaved": True}, "rotary_emb_interleaved 'True' is not supported"),
        (False, {"rotary_scaling_factor": 2.0}, "'rotary_scaling_factor' is not supported"),
        (False, {"n_head": 3}, "3 attention heads do not divide a width of 32 into pairs"),
        (False, {"n_layer": 0}, "'n_layer' must be an integer"),
        (False, {"n_inner": None}, "'n_inner' must be an integer"),
        (False, {"n_layer": 3}, "unexpected tensor 'encoder.layers.3"),
        (False, {"n_layer": 5}, "tensor 'encoder.layers.4.attn.Wqkv.weight' is missing"),
        (False, {"n_inner": 40}, "has shape \\[48, 32\\], config.json calls for \\[40, 32\\]"),
        (True, {"moe_every_n_layers": 1}, "experts in every layer are not supported"),
        (True, {"moe_every_n_layers": -2}, "'moe_every_n_layers' must be an integer"),
        (True, {"moe_top_k": 5}, "'moe_top_k' must be an integer from 1 to 4"),
        (True, {"num_experts": 3}, "router.layer.weight' has shape"),
        (True, {"moe_normalize_expert_weights": True}, "moe_normalize_expert_weights 'True' is not supported"),
    ],
)
def test_what_the_engine_does_not_compute_is_refused_by_name(
    tmp_path: Path, experts: bool, changes: dict[str, Any], message: str
) -> None:
    tiny = Tiny(experts=experts)
    tiny.config |= changes
    with pytest.raises(BadRequest, match=message):
        convert(tiny.write(tmp_path / "in"), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()

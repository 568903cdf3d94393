"""Decoders computed in float32 from a checkpoint as it is: the truth where no recorded one exists.

Written from the papers and the original models, not from the conversion. `test_truth.py` shows that it gives the
recorded truths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]


def next_token(config: dict[str, Any], tensors: Tensors, tokens: Sequence[int], context: int = 256) -> dict[int, float]:
    """The logarithm of each token's probability to come next; `context` is what the engine is started with."""
    model = _Model(config, tensors, context)
    return dict(enumerate(model.logprobs(np.array(tokens)).tolist()))


class _Model:
    def __init__(self, config: dict[str, Any], tensors: Tensors, context: int) -> None:
        self.config, self.tensors, self.context = config, tensors, context
        self.kind = str(config["architectures"][0]).removesuffix("ForCausalLM")
        self.is_gemma = self.kind.startswith("Gemma")
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]

    def logprobs(self, tokens: np.ndarray) -> np.ndarray:
        embedding = self.tensors["model.embed_tokens.weight"].astype("f4")
        x = embedding[tokens]
        if self.is_gemma:
            x = x * math.sqrt(self.config["hidden_size"])
        for block in range(self.config["num_hidden_layers"]):
            x = self._block(f"model.layers.{block}", block, x)
        x = self._norm("model.norm", x)[-1]
        output = embedding if self.config.get("tie_word_embeddings") else self.tensors["lm_head.weight"]
        logits = _capped(output @ x, self.config.get("final_logit_softcapping"))
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def _block(self, name: str, block: int, x: np.ndarray) -> np.ndarray:
        attended = self._attention(f"{name}.self_attn", block, self._norm(f"{name}.input_layernorm", x))
        if f"{name}.pre_feedforward_layernorm.weight" not in self.tensors:
            x = x + attended
            return x + self._feed_forward(name, self._norm(f"{name}.post_attention_layernorm", x))
        x = x + self._norm(f"{name}.post_attention_layernorm", attended)
        made = self._feed_forward(name, self._norm(f"{name}.pre_feedforward_layernorm", x))
        return x + self._norm(f"{name}.post_feedforward_layernorm", made)

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        weight = self.tensors[f"{name}.weight"] + (1 if self.is_gemma else 0)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T.astype("f4") + self.tensors.get(f"{name}.bias", 0)

    # --- attention ---

    def _attention(self, name: str, block: int, x: np.ndarray) -> np.ndarray:
        if f"{name}.qkv_proj.weight" in self.tensors:
            widths = np.cumsum([self.heads * self.head, self.kv_heads * self.head])
            parts = np.split(self._linear(f"{name}.qkv_proj", x), widths, axis=-1)
        else:
            parts = [self._linear(f"{name}.{part}_proj", x) for part in "qkv"]
        q, k, v = (part.reshape(len(x), -1, self.head) for part in parts)
        if f"{name}.q_norm.weight" in self.tensors:
            q, k = self._norm(f"{name}.q_norm", q), self._norm(f"{name}.k_norm", k)
        q, k = (self._rotated(part, self._is_local(block)) for part in (q, k))
        k, v = (np.repeat(part, self.heads // self.kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(self.config.get("query_pre_attn_scalar") or self.head)
        scores = _capped(scores, self.config.get("attn_logit_softcapping"))
        distance = np.arange(len(x))[:, None] - np.arange(len(x))
        hidden = (distance < 0) | (self._is_local(block) & (distance >= (self.config.get("sliding_window") or 1 << 30)))
        scores = np.where(hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)
        return self._linear(f"{name}.o_proj", mixed.reshape(len(x), -1))

    def _is_local(self, block: int) -> bool:
        kinds = self.config.get("layer_types")
        return self.is_gemma and kinds is not None and kinds[block] == "sliding_attention"

    def _rotated(self, x: np.ndarray, local: bool) -> np.ndarray:
        frequencies, magnitude = self._frequencies(local)
        angles = np.arange(len(x))[:, None] * frequencies
        cos, sin = (np.tile(part, 2)[:, None] * magnitude for part in (np.cos(angles), np.sin(angles)))
        turned, still = x[..., : 2 * len(frequencies)], x[..., 2 * len(frequencies) :]
        left, right = np.split(turned, 2, axis=-1)
        rotated = turned * cos + np.concatenate([-right, left], axis=-1) * sin
        return np.concatenate([rotated, still], axis=-1).astype("f4")

    def _frequencies(self, local: bool) -> tuple[np.ndarray, float]:
        rope = self.config["rope_parameters"]
        rope = rope.get("sliding_attention" if local else "full_attention", rope)
        count = int(self.head * rope.get("partial_rotary_factor", 1.0))
        plain = rope["rope_theta"] ** -(np.arange(0, count, 2) / count)
        factor = rope.get("factor", 1.0)
        original = rope.get("original_max_position_embeddings") or self.config["max_position_embeddings"]
        match rope["rope_type"]:
            case "linear":
                return plain / factor, 1.0
            case "llama3":
                turns = original * plain / (2 * math.pi)
                low, high = rope["low_freq_factor"], rope["high_freq_factor"]
                kept = np.clip((turns - low) / (high - low), 0, 1)
                return plain * (kept + (1 - kept) / factor), 1.0
            case "yarn":
                first, last = (
                    count * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))
                    for turns in (rope.get("beta_fast", 32), rope.get("beta_slow", 1))
                )
                first, last = max(math.floor(first), 0), min(math.ceil(last), count - 1)
                slowed = np.clip((np.arange(count // 2) - first) / max(last - first, 0.001), 0, 1)
                usual = 0.1 * math.log(factor) + 1
                return plain * (1 - slowed) + plain / factor * slowed, rope.get("attention_factor", usual)
            case "longrope":
                reach = "long_factor" if self.context > original else "short_factor"
                scale = self.config["max_position_embeddings"] / original
                usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
                return plain / np.array(rope[reach]), usual
        return plain, 1.0

    # --- what follows attention ---

    def _feed_forward(self, name: str, x: np.ndarray) -> np.ndarray:
        for module, matrices in (
            ("block_sparse_moe", ("w1", "w3", "w2")),
            ("mlp", ("gate_proj", "up_proj", "down_proj")),
        ):
            if f"{name}.{module}.gate.weight" in self.tensors:
                return self._experts(f"{name}.{module}", matrices, x)
        return self._gated(f"{name}.mlp", ("gate_proj", "up_proj", "down_proj"), x)

    def _gated(self, name: str, matrices: tuple[str, str, str], x: np.ndarray) -> np.ndarray:
        gate, up, down = (f"{name}.{matrix}" for matrix in matrices)
        if f"{name}.gate_up_proj.weight" in self.tensors:
            opened, raised = np.split(self._linear(f"{name}.gate_up_proj", x), 2, axis=-1)
        else:
            opened, raised = self._linear(gate, x), self._linear(up, x)
        active = _gelu(opened) if self.is_gemma else opened / (1 + np.exp(-opened))
        return self._linear(down, active * raised)

    def _experts(self, name: str, matrices: tuple[str, str, str], x: np.ndarray) -> np.ndarray:
        shares = np.exp(self._linear(f"{name}.gate", x))
        chosen = np.argsort(-shares, axis=-1)[:, : self.config["num_experts_per_tok"]]
        result = np.zeros_like(x)
        for row, numbers in enumerate(chosen):
            for number in numbers:
                share = shares[row, number] / shares[row, numbers].sum()
                result[row] += share * self._gated(f"{name}.experts.{number}", matrices, x[row])
        return result


def _capped(values: np.ndarray, cap: float | None) -> np.ndarray:
    return np.tanh(values / cap) * cap if cap else values


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

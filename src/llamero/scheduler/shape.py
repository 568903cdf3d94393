"""How wide a model is: what its tokens leave in the KV cache, and what they take while they are computed. Pure.

Read off a GGUF's header the way llama.cpp reads it; `estimate.py` makes bytes of it. Counts are elements, of one token
unless said otherwise.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..gguf import Gguf

WINDOW_PERIODS: Mapping[str, int] = {
    # of so many layers in a row one sees the whole context, the others a window; a file's own figure comes first
    **dict.fromkeys("gemma2 gpt-oss".split(), 2),
    **dict.fromkeys("afmoe cohere2 exaone-moe exaone4 llama4 olmo2 smallthinker".split(), 4),
    "gemma3n": 5,
    "gemma3": 6,
}
WHOLE_FIRST = frozenset({"smallthinker"})
"""Here it is the first of them, elsewhere the last."""
LLAMA4_WINDOW_TOKENS = 8192
"""Not in its files."""
GEMMA3N_OWN_LAYERS = 20
"""Those behind them use the keys and values of these."""

ENCODERS = frozenset(
    "bert jina-bert-v2 jina-bert-v3 nomic-bert nomic-bert-moe neo-bert eurobert modern-bert gemma-embedding".split()
)
"""They look at all of a text at once, and the engine allocates no KV cache for them."""

REPACKED_TYPES = frozenset("Q4_0 Q4_K IQ4_NL".split())
"""The engine's CPU kernels want matrices of these types in another order."""

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(.+)")
_RECURRENT = ("ssm_", "shortconv.", "time_mix_")
_ATTENTION = "attn_output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Zeros: it is not known, and does not count."""

    weights_bytes: int = 0
    repacked_bytes: int = 0
    """Of the weights, those that are in memory twice when the file is mapped for a CPU."""
    kv: int = 0
    """Keys and values in all layers that see the whole context."""
    window_kv: int = 0
    """The same in layers that see no more than a window."""
    window_tokens: int = 0
    state: int = 0
    """What recurrent layers keep of a sequence, however long it is; 32 bits each."""
    head: int = 0
    """Of one key: quantized caches cut it into blocks."""
    heads: int = 0
    width: int = 0
    """Of what goes from layer to layer."""
    attention: int = 0
    """Live while a layer attends, the scores not counted."""
    feed_forward: int = 0
    """Live in the other half of a layer."""
    vocabulary: int = 0
    is_causal: bool = True
    """Encoders are not: they keep no keys and values, and do not say what comes next."""


def shape_of(gguf: Gguf) -> Shape:
    blocks = _blocks(gguf)
    heads = max(gguf.get_ints("attention.head_count"), default=0)
    width = gguf.get_int("embedding_length")
    key = gguf.get_int("attention.key_length") or width // max(1, heads)
    value = gguf.get_int("attention.value_length") or key
    is_causal = gguf.architecture not in ENCODERS and gguf.get_bool("attention.causal", True)
    kv, window_kv = _kv(gguf, blocks, key, value) if is_causal else (0, 0)
    kv_heads = max(gguf.get_ints("attention.head_count_kv"), default=heads)
    return Shape(
        weights_bytes=gguf.size_bytes - gguf.data_offset,
        repacked_bytes=sum(
            tensor.size_bytes
            for tensor in gguf.tensors
            if tensor.type in REPACKED_TYPES and not tensor.name.startswith("token_embd")
        ),
        kv=kv,
        window_kv=window_kv,
        window_tokens=_window_tokens(gguf),
        state=_state(gguf, width) * sum(_is_recurrent(names) for names in blocks.values()),
        head=key,
        heads=heads,
        width=width,
        # the residual and its norm; queries before and after rotation and the result; keys and values
        attention=2 * width + 3 * heads * key + kv_heads * (key + value),
        feed_forward=_feed_forward(gguf, width, blocks, is_causal),
        vocabulary=gguf.vocabulary,
        is_causal=is_causal,
    )


def _blocks(gguf: Gguf) -> Mapping[int, set[str]]:
    """The names of the tensors in each layer."""
    blocks: dict[int, set[str]] = defaultdict(set)
    for tensor in gguf.tensors:
        if found := _BLOCK.fullmatch(tensor.name):
            blocks[int(found[1])].add(found[2])
    return blocks


def _is_recurrent(names: set[str]) -> bool:
    return any(name.startswith(_RECURRENT) for name in names)


def _kv(gguf: Gguf, blocks: Mapping[int, set[str]], key: int, value: int) -> tuple[int, int]:
    """In layers that see the whole context, and in those that see a window."""
    layers = gguf.get_int("block_count")
    kv_heads = gguf.get_ints("attention.head_count_kv") or gguf.get_ints("attention.head_count") or (0,)
    if gguf.has("attention.key_length_mla"):
        value = 0  # a part of what is kept as the key
    window_key = gguf.get_int("attention.key_length_swa") or key
    window_value = gguf.get_int("attention.value_length_swa") or value
    own = GEMMA3N_OWN_LAYERS if gguf.architecture == "gemma3n" else layers - gguf.get_int("attention.shared_kv_layers")
    whole = windowed = 0
    for layer, is_windowed in enumerate(_windowed(gguf, layers)[: max(0, own)]):
        names = blocks.get(layer, set())
        if _is_recurrent(names) and not any(name.startswith(_ATTENTION) for name in names):
            continue
        heads = kv_heads[min(layer, len(kv_heads) - 1)]
        if is_windowed:
            windowed += heads * (window_key + window_value)
        else:
            whole += heads * (key + value)
    return whole, windowed


def _window_tokens(gguf: Gguf) -> int:
    default = LLAMA4_WINDOW_TOKENS if gguf.architecture == "llama4" else 0
    return gguf.get_int("attention.sliding_window", default)


def _windowed(gguf: Gguf, layers: int) -> Sequence[bool]:
    """Whether each layer sees a window only."""
    pattern = gguf.get_ints("attention.sliding_window_pattern")
    if len(pattern) > 1:
        return [bool(each) for each in (*pattern, *[0] * layers)[:layers]]
    period = pattern[0] if pattern else WINDOW_PERIODS.get(gguf.architecture, 1)
    if not _window_tokens(gguf) or period < 2:
        return [False] * layers
    whole = 0 if gguf.architecture in WHOLE_FIRST else period - 1
    return [layer % period != whole for layer in range(layers)]


def _state(gguf: Gguf, width: int) -> int:
    """Of one recurrent layer: RWKV's, LFM2's, or that of Mamba and its kin."""
    if head := gguf.get_int("wkv.head_size"):
        return width * (gguf.get_int("token_shift_count", 2) + head)
    if kept := gguf.get_int("shortconv.l_cache"):
        return width * (kept - 1)
    inner, state = gguf.get_int("ssm.inner_size"), gguf.get_int("ssm.state_size")
    kept = max(0, gguf.get_int("ssm.conv_kernel") - 1)
    return kept * (inner + 2 * gguf.get_int("ssm.group_count") * state) + state * inner


def _feed_forward(gguf: Gguf, width: int, blocks: Mapping[int, set[str]], is_causal: bool) -> int:
    """Up, gate and their product, and what the engine's allocator cannot reuse of the attention before."""
    inner = max(gguf.get_ints("feed_forward_length"), default=0)
    if experts := gguf.get_int("expert_used_count"):
        inner = experts * (gguf.get_int("expert_feed_forward_length") or inner)
    is_gated = is_causal or any(name.startswith("ffn_gate") for names in blocks.values() for name in names)
    return 4 * width + 3 * inner if is_gated else width + 2 * inner

"""A tiny real model that says exactly what a test wants said: the engine's own reading of answers is tested with it.

No small model thinks or calls tools reliably. This one is a llama of one empty block, whose embeddings are one-hot and
whose output matrix is a table of what comes next: every token that can end a prompt leads to the first piece of the
script, each piece to the next, and the last one to the end of the text. Prompts are spelled in byte tokens; a piece of
the script has three characters or more, so that no prompt can contain one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np

END = "</s>"
BLANK = "▁"
_LEAST = 3
"""Characters of a piece: the tokenizer builds longer ones out of pairs, and there are no pieces of two."""
_CERTAINTY = 4.0
"""Times the square root of the width, this is the logit of what is to come; all others have 0."""


def write_parrot(
    path: Path,
    script: str | Sequence[str],
    *,
    behind: Mapping[str, str] = MappingProxyType({}),
    jinja: str = "",
    specials: Sequence[str] = (),
    infill: Sequence[str] = (),
    piece_chars: int = 4,
    ctx_tokens: int = 8192,
) -> Path:
    """Write the model. A `script` that is a list gives the pieces; else it is cut after `piece_chars` and a bit.

    `behind` has what is said instead to a prompt that ends with one certain character of ASCII. `specials` are control
    tokens: the script says each as one token the first time that it contains it. A prompt must not end with one that
    the script says. `infill` are the three that stand before the text, the text behind the gap, and what fills it.
    """
    specials = (*specials, *infill)
    seen: set[str] = set()
    pieces = cut(script, specials, piece_chars, seen) if isinstance(script, str) else list(script)
    others = {ending: cut(text, (), piece_chars, seen) for ending, text in behind.items()}
    own = [piece for piece in (*pieces, *chain(*others.values())) if piece not in specials]
    words = ["<unk>", "<s>", END, *(f"<0x{byte:02X}>" for byte in range(256)), BLANK, *specials, *_spelled(own)]
    assert len(set(words)) == len(words), "every piece of a script must be another one"
    kinds = [
        gguf.TokenType.UNKNOWN,
        *[gguf.TokenType.CONTROL] * 2,
        *[gguf.TokenType.BYTE] * 256,
        gguf.TokenType.NORMAL,
        *[gguf.TokenType.CONTROL] * len(specials),
        *[gguf.TokenType.USER_DEFINED if BLANK in piece else gguf.TokenType.NORMAL for piece in own],
    ]

    def ids(pieces: Sequence[str]) -> list[int]:
        return [words.index(piece if piece in specials else _spelled([piece])[0]) for piece in pieces]

    endings = {words.index(f"<0x{ord(ending):02X}>"): ids(text) for ending, text in others.items()}
    width = -(-len(words) // 64) * 64

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("parrot")
    writer.add_context_length(ctx_tokens)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(width // 32)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for place, word in zip(("pre", "suf", "mid"), infill, strict=False):
        writer.add_uint32(f"tokenizer.ggml.fim_{place}_token_id", words.index(word))
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    if jinja:
        writer.add_chat_template(jinja)
    embedding = np.eye(len(words), width, dtype=np.float32)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", _CERTAINTY * _followers(len(words), ids(pieces), endings) @ embedding)
    for name, shape in (
        ("attn_norm", (width,)),
        ("attn_q", (width, width)),
        ("attn_k", (32, width)),
        ("attn_v", (32, width)),
        ("attn_output", (width, width)),
        ("ffn_norm", (width,)),
        ("ffn_gate", (32, width)),
        ("ffn_up", (32, width)),
        ("ffn_down", (width, 32)),
    ):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _followers(count: int, script: Sequence[int], endings: Mapping[int, Sequence[int]]) -> np.ndarray:
    """Row of the token that comes, column of the one before it."""
    after = dict.fromkeys(range(count), script[0] if script else 2)
    after |= {ending: text[0] for ending, text in endings.items()}
    for text in (script, *endings.values()):
        after |= dict(pairwise([*text, 2]))
    table = np.zeros((count, count), np.float32)
    table[list(after.values()), list(after)] = 1
    return table


def _spelled(pieces: Sequence[str]) -> list[str]:
    """As the vocabulary has them: a blank is a character of its own there. Who says that one is taken at their word."""
    return [piece if BLANK in piece else piece.replace(" ", BLANK) for piece in pieces]


def cut(script: str, specials: Sequence[str], piece_chars: int, seen: set[str] | None = None) -> list[str]:
    """The script in pieces that are all different, and not among those `seen`, which grow by them."""
    pieces: list[str] = []
    seen = set() if seen is None else seen
    begin = 0
    while begin < len(script):
        found = next((word for word in specials if word not in seen and script.startswith(word, begin)), "")
        end = begin + len(found) if found else _end_of_piece(script, begin, seen, specials, piece_chars)
        seen.add(script[begin:end])
        pieces.append(script[begin:end])
        begin = end
    return pieces


def _end_of_piece(script: str, begin: int, seen: set[str], specials: Sequence[str], piece_chars: int) -> int:
    stop = min((at for word in specials if word not in seen and (at := script.find(word, begin)) > 0), default=-1)
    limit = stop if stop > 0 else len(script)
    end = min(begin + max(piece_chars, _LEAST), limit)
    while end < limit and (script[begin:end] in seen or 0 < limit - end < _LEAST):
        end += 1
    assert script[begin:end] not in seen, f"cannot cut {script[begin:]!r} into a piece that is new"
    return end

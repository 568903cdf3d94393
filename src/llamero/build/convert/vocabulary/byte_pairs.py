"""Byte-level byte pair encoding, the vocabulary of GPT-2 and of most later models, from `tokenizer.json`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import Metadata
from . import pre_tokenizers
from .special_tokens import special_tokens
from .tokens import Tokens, added_tokens, members, model_of, trained, warn_of_strips

MAX_MERGES = 4 * 1024 * 1024
"""No more than tokens can be made by them."""

_DEFAULT_END = 11
_HARMLESS_NORMALIZERS = ("NFC",)
"""It changes decomposed text only, which keyboards and editors do not write."""


def is_byte_pairs(description: dict[str, Any]) -> bool:
    """Whether a tokenizer.json describes pairs of bytes; early ones do not name the model's type."""
    model = model_of(description)
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        return False
    steps = members(description.get("pre_tokenizer"), "pretokenizers") + members(description.get("decoder"), "decoders")
    return any(step.get("type") == "ByteLevel" for step in steps)


def byte_pairs(checkpoint: Checkpoint, description: dict[str, Any]) -> Metadata:
    """The keys of a vocabulary that `is_byte_pairs`. Raises BadRequest for one that contradicts itself."""
    model = model_of(description)
    _check_model(model)
    added = added_tokens(checkpoint, description)
    tokens = Tokens()
    for text in trained(model.get("vocab"), added):
        tokens.add(text)
    merges = pairs(model)
    pieces = set(tokens.texts) - {token.text for token in added}
    name = _pre_tokenizer(checkpoint, description, pieces, merges)
    tokens.merge(added)
    tokens.fit(checkpoint)
    specials = special_tokens(checkpoint, tokens, description)
    if "tokenizer.ggml.eos_token_id" not in specials:
        checkpoint.warn(f"no file names the token that ends a text: the engine takes token {_DEFAULT_END} for it")
    _warn_of_normalizer(checkpoint, description)
    warn_of_strips(checkpoint, description)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        **tokens.metadata(scored=False),
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        "tokenizer.ggml.add_bos_token": False,  # tokenizer.json is the whole truth; some pre-tokenizers imply the other
        **specials,
    }


def pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges, best first; they are written as `"a b"` or as `["a", "b"]`."""
    merges = model.get("merges")
    if not isinstance(merges, list) or not 0 < len(merges) <= MAX_MERGES:
        raise BadRequest(f"tokenizer.json: 'merges' must list 1 to {MAX_MERGES} pairs of tokens")
    return [_pair(merge) for merge in merges]


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    match parts:
        # the engine tells the two apart by the space between them
        case [str(left), str(right)] if left and right and " " not in left + right:
            return left, right
    raise BadRequest(f"tokenizer.json: {str(merge)[:40]!r} is not a pair of tokens")


def _check_model(model: dict[str, Any]) -> None:
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise BadRequest(f"tokenizer.json: {key} {str(model[key])[:40]!r} is not supported")


def _pre_tokenizer(
    checkpoint: Checkpoint, description: dict[str, Any], pieces: set[str], merges: list[tuple[str, str]]
) -> str:
    """The engine's name for the way the text is cut.

    1. Unknown: `default`, and a warning.
    2. Known, and it treats pieces that are tokens as the model wants it.
    3. Known, and it makes no difference, since the merges lead to every token.
    4. Known, but it does make one: a warning.
    """
    rows = pre_tokenizers.known(description.get("pre_tokenizer"))
    if not rows:  # 1
        checkpoint.warn(
            "the engine does not know how this tokenizer cuts a text (pre_tokenizer of tokenizer.json): it does so"
            " in its default way, and answers may be worse"
        )
        return pre_tokenizers.DEFAULT
    wanted = model_of(description).get("ignore_merges") is True
    if rows[0].ignores_merges == wanted or _lead_everywhere(merges, pieces):  # 2, 3
        return rows[0].name
    for row in rows:
        if row.ignores_merges == wanted:
            return row.name
    checkpoint.warn(f"tokenizer.json: ignore_merges = {str(wanted).lower()} has no effect")  # 4
    return rows[0].name


def _lead_everywhere(merges: list[tuple[str, str]], pieces: set[str]) -> bool:
    """Whether the merges make every token of its characters, as they do unless a vocabulary comes from elsewhere."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    return all(_is_merged(list(piece), ranks) for piece in pieces)


def _is_merged(parts: list[str], ranks: dict[tuple[str, str], int]) -> bool:
    while len(parts) > 1:
        rank, place = min(
            (ranks.get((left, right), len(ranks)), place) for place, (left, right) in enumerate(pairwise(parts))
        )
        if rank == len(ranks):
            return False
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return True


def _warn_of_normalizer(checkpoint: Checkpoint, description: dict[str, Any]) -> None:
    for step in members(description.get("normalizer"), "normalizers"):
        if step.get("type") not in _HARMLESS_NORMALIZERS:
            checkpoint.warn(f"tokenizer.json: normalizer {str(step.get('type'))[:40]!r} has no effect")

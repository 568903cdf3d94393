"""SentencePiece vocabularies: from `tokenizer.model`, or from a `tokenizer.json` that describes such a model.

The engine has both algorithms of that library. `llama` joins the two neighbours whose common piece has the best score,
`t5` looks for the best sum of scores. Byte pair encoding without scores, as tokenizer.json has it, becomes the first:
a piece's score is the rank of the merge that makes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from gguf import TokenType

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import Metadata, Value
from . import pre_tokenizers
from .piece_model import Algorithm, PieceModel, read_piece_model
from .special_tokens import special_tokens
from .tokens import Tokens, added_tokens, described_added, is_byte, members, model_of, trained, warn_of_strips

_SPACE = "\u2581"


def model_pieces(checkpoint: Checkpoint, description: dict[str, Any]) -> Metadata:
    """The vocabulary of `tokenizer.model`. `description` is the tokenizer.json beside it, {} without one."""
    model = read_piece_model(checkpoint.content("tokenizer.model"))
    tokens = Tokens()
    for piece in model.pieces:
        tokens.add(piece.text, piece.kind, piece.score)
    if model.algorithm is Algorithm.BPE:
        _warn_of_normalization(checkpoint, model)
        found = _joined(checkpoint, tokens, adds_prefix=model.adds_prefix)
    else:
        found = _summed(
            checkpoint, tokens, model.charsmap, adds_prefix=model.adds_prefix, merges_spaces=model.merges_spaces
        )
    if model.space_is_suffix:
        checkpoint.warn("tokenizer.model: treat_whitespace_as_suffix has no effect")
    return found | _finished(checkpoint, tokens, description, model.specials)


def is_sentence_pieces(description: dict[str, Any]) -> bool:
    """Whether a tokenizer.json describes SentencePiece's pieces: unigrams, or pairs that fall back to bytes."""
    model = model_of(description)
    return model.get("type") == "Unigram" or (model.get("type", "BPE") == "BPE" and model.get("byte_fallback") is True)


def described_pieces(checkpoint: Checkpoint, description: dict[str, Any]) -> Metadata:
    """The vocabulary of a tokenizer.json that `is_sentence_pieces`."""
    model = model_of(description)
    rules = _Rules(description)
    tokens = _scored_pairs(description) if model.get("type", "BPE") == "BPE" else _unigrams(model)
    if model.get("type") == "Unigram":
        found = _summed(
            checkpoint, tokens, rules.charsmap, adds_prefix=rules.adds_prefix, merges_spaces=rules.merges_spaces
        )
    else:
        found = _joined(checkpoint, tokens, adds_prefix=rules.adds_prefix)
    for name in rules.unknown:
        checkpoint.warn(f"tokenizer.json: {name[:40]!r} has no effect")
    unknown = {"unk": tokens.kinds.index(TokenType.UNKNOWN)} if TokenType.UNKNOWN in tokens.kinds else {}
    return found | _finished(checkpoint, tokens, description, unknown)


def _joined(checkpoint: Checkpoint, tokens: Tokens, *, adds_prefix: bool) -> Metadata:
    """What the engine must know about its algorithm `llama`."""
    there = set(tokens.texts)
    if missing := sum(f"<0x{byte:02X}>" not in there for byte in range(256)):
        checkpoint.warn(f"the vocabulary has no token for {missing} bytes: texts with unknown characters will fail")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": pre_tokenizers.DEFAULT,
        "tokenizer.ggml.add_space_prefix": adds_prefix,
    }


def _summed(
    checkpoint: Checkpoint, tokens: Tokens, charsmap: bytes, *, adds_prefix: bool, merges_spaces: bool
) -> Metadata:
    """What the engine must know about its algorithm `t5`."""
    if TokenType.BYTE in tokens.kinds:
        checkpoint.warn("unknown characters do not fall back to bytes: the engine takes the unknown token for them")
    replacements: dict[str, Value] = {"tokenizer.ggml.precompiled_charsmap": charsmap} if charsmap else {}
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": pre_tokenizers.DEFAULT,
        "tokenizer.ggml.add_space_prefix": adds_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": merges_spaces,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        **replacements,
    }


def _finished(
    checkpoint: Checkpoint, tokens: Tokens, description: dict[str, Any], specials: Mapping[str, int]
) -> Metadata:
    tokens.merge(added_tokens(checkpoint, description), score=min(tokens.scores, default=0.0) - 1)
    tokens.fit(checkpoint)
    _spell_out(tokens)
    warn_of_strips(checkpoint, description)
    return tokens.metadata(scored=True) | special_tokens(checkpoint, tokens, description, specials)


def _spell_out(tokens: Tokens) -> None:
    """The engine looks for user-defined tokens in the text as it comes, before spaces get their mark."""
    there = set(tokens.texts)
    for number, (text, kind) in enumerate(zip(tokens.texts, tokens.kinds, strict=True)):
        plain = text.replace(_SPACE, " ")
        if kind == TokenType.USER_DEFINED and plain not in there:
            tokens.texts[number] = plain


def _scored_pairs(description: dict[str, Any]) -> Tokens:
    model = model_of(description)
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise BadRequest("tokenizer.json: 'merges' must list pairs of tokens")
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        match parts:
            case [str(left), str(right)]:
                ranks.setdefault(left + right, rank)
            case _:
                raise BadRequest(f"tokenizer.json: {str(merge)[:40]!r} is not a pair of tokens")
    tokens = Tokens()
    for text in trained(model.get("vocab"), described_added(description)):
        kind = _kind(text, is_unknown=text == model.get("unk_token"))
        tokens.add(text, kind, -float(ranks.get(text, len(ranks) + 1)))
    return tokens


def _unigrams(model: dict[str, Any]) -> Tokens:
    tokens = Tokens()
    entries = model.get("vocab")
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        match entry:
            case [str(text), int() | float() as score] if not isinstance(score, bool):
                tokens.add(text, _kind(text, is_unknown=number == model.get("unk_id")), float(score))
            case _:
                raise BadRequest(f"tokenizer.json: unigram {number} must be a text and a score")
    return tokens


def _kind(text: str, *, is_unknown: bool) -> TokenType:
    if is_unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if is_byte(text) else TokenType.NORMAL


def _warn_of_normalization(checkpoint: Checkpoint, model: PieceModel) -> None:
    if model.charsmap:
        checkpoint.warn("tokenizer.model: its replacements of characters have no effect")
    if model.merges_spaces:
        checkpoint.warn("tokenizer.model: remove_extra_whitespaces has no effect")


class _Rules:
    """What a tokenizer.json does to a text first, from its normalizer and its pre-tokenizer."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.adds_prefix = False
        self.merges_spaces = False
        self.charsmap = b""
        self.unknown: list[str] = []
        for step in members(description.get("normalizer"), "normalizers"):
            self._read(step)
        for step in members(description.get("pre_tokenizer"), "pretokenizers"):
            self._read(step)

    def _read(self, step: Any) -> None:
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                self.adds_prefix = True
            case {"type": "Metaspace"}:
                scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
                self.adds_prefix |= scheme != "never"
            case {"type": "Replace", "pattern": {"Regex": " {2,}"}} | {"type": "WhitespaceSplit" | "Strip"}:
                self.merges_spaces = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                pass  # the mark of spaces
            case {"type": "Split", "pattern": {"String": " " | "▁"}}:
                pass  # pieces do not reach over spaces anyhow
            case {"type": "Precompiled", "precompiled_charsmap": str(text)}:
                self.charsmap = _decoded(text)
            case {"type": kind}:
                self.unknown.append(str(kind))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise BadRequest("tokenizer.json: 'precompiled_charsmap' is not base64") from exc

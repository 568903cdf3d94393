"""WordPiece, the vocabulary of BERT and its kin, from `tokenizer.json` or `vocab.txt`."""

from __future__ import annotations

from typing import Any

from gguf import TokenType

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import MAX_VOCABULARY, Metadata
from .special_tokens import KEYS, named
from .tokens import Tokens, described_added, model_of, trained

_WORD_START = "\u2581"


def word_pieces(checkpoint: Checkpoint) -> Metadata:
    """The engine finds pieces by a marked beginning of words where the original marks continuations (`##ing`), so
    `play` becomes `▁play` and `##ing` becomes `ing`; tokens in brackets stand for themselves.
    """
    description = checkpoint.object("tokenizer.json")
    pieces = _pieces_of_json(description) if description else _pieces_of_lines(checkpoint.text("vocab.txt"))
    if not pieces:
        raise BadRequest("unknown tokenizer format")
    specials = _special_ids(checkpoint, pieces)
    control = {*specials.values(), *(token.number for token in described_added(description) if token.is_special)}
    tokens = Tokens()
    for number, piece in enumerate(pieces):
        tokens.add(_phantom_space(piece), TokenType.CONTROL if number in control else TokenType.NORMAL)
    tokens.pad(checkpoint.config.count("vocab_size", most=MAX_VOCABULARY))
    return {
        "tokenizer.ggml.model": "bert",
        **tokens.metadata(scored=False),
        **{f"tokenizer.ggml.{KEYS[kind]}_token_id": number for kind, number in specials.items()},
        **_normalizer(checkpoint, description),
    }


def _pieces_of_json(description: dict[str, Any]) -> list[str]:
    model = model_of(description)
    if model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise BadRequest("unknown tokenizer format")
    return trained(model["vocab"], described_added(description))


def _pieces_of_lines(text: str) -> list[str]:
    # not splitlines(): a piece may be a character that Unicode calls a line end
    return text.removesuffix("\n").split("\n") if text else []


def _special_ids(checkpoint: Checkpoint, pieces: list[str]) -> dict[str, int]:
    """The ids of [CLS], [SEP] and so on by kind. The files' own word comes first, BERT's habit second."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    found = named(checkpoint, ids)
    for kind in KEYS:
        if (usual := f"[{kind.upper()}]") in ids:
            found.setdefault(kind, ids[usual])
    for kind in ("cls", "sep", "unk"):
        if kind not in found:
            raise BadRequest(f"the vocabulary has no {kind!r} token")
    found.setdefault("bos", found["cls"])  # the engine puts its `bos` where BERT puts [CLS]
    return found


def _phantom_space(piece: str) -> str:
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 1:
        return piece
    return piece[2:] if piece.startswith("##") and len(piece) > 2 else _WORD_START + piece


def _normalizer(checkpoint: Checkpoint, description: dict[str, Any]) -> Metadata:
    """Whether text loses its capitals and accents first. What the files leave open, the engine decides (yes)."""
    rules = description.get("normalizer")
    if not isinstance(rules, dict) or rules.get("type") != "BertNormalizer":
        settings = checkpoint.object("tokenizer_config.json")
        rules = {"lowercase": settings.get("do_lower_case"), "strip_accents": settings.get("strip_accents")}
    return {
        f"tokenizer.ggml.normalizer.{key}": rules[key]
        for key in ("lowercase", "strip_accents")
        if isinstance(rules.get(key), bool)
    }

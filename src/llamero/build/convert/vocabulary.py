"""Tokenizer files of a checkpoint -> `tokenizer.*` keys: one function per kind of vocabulary (store-registry §6.8)."""

from __future__ import annotations

from typing import Any

from gguf import TokenType

from ...errors import BadRequest
from .checkpoint import Checkpoint
from .family import MAX_VOCABULARY, Metadata

MAX_TOKEN_BYTES = 64 * 1024
"""The engine's vocabulary code counts in 32 bits; longer tokens are attacks (security §3)."""

_SPECIAL_KEYS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",  # the format's own spelling
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}

_WORD_START = "\u2581"


def word_pieces(checkpoint: Checkpoint) -> Metadata:
    """The vocabulary of BERT and its kin, from `tokenizer.json` or `vocab.txt`.

    The engine finds pieces by a marked beginning of words where the original marks continuations (`##ing`), so
    `play` becomes `▁play` and `##ing` becomes `ing`; tokens in brackets stand for themselves.
    """
    description = checkpoint.object("tokenizer.json")
    pieces = _pieces_of_json(description) if description else _pieces_of_lines(checkpoint.text("vocab.txt"))
    if not pieces:
        raise BadRequest("unknown tokenizer format")
    specials = _special_ids(checkpoint, pieces)
    specials.setdefault("bos", specials["cls"])  # the engine puts its `bos` where BERT puts [CLS]
    control = {*specials.values(), *_special_added(description)}
    tokens = _checked([_phantom_space(piece) for piece in pieces])
    types = [int(TokenType.CONTROL if number in control else TokenType.NORMAL) for number in range(len(tokens))]
    _pad(tokens, types, checkpoint.config.count("vocab_size", most=MAX_VOCABULARY))
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        **{f"tokenizer.ggml.{_SPECIAL_KEYS[kind]}_token_id": number for kind, number in specials.items()},
        **_normalizer(checkpoint, description),
    }


def _pieces_of_json(description: dict[str, Any]) -> list[str]:
    model = description.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise BadRequest("unknown tokenizer format")
    by_id = {number: token for token, number in model["vocab"].items() if type(number) is int}
    distinct = len(by_id) == len(model["vocab"])
    for added in _added(description):
        by_id.setdefault(added["id"], added["content"])
    if not distinct or set(by_id) != set(range(len(by_id))):
        raise BadRequest("tokenizer.json: token ids must count from 0 without holes")
    return [by_id[number] for number in range(len(by_id))]


def _pieces_of_lines(text: str) -> list[str]:
    # not splitlines(): a piece may be a character that Unicode calls a line end
    return text.removesuffix("\n").split("\n") if text else []


def _added(description: dict[str, Any]) -> list[dict[str, Any]]:
    entries = description.get("added_tokens") or []
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("content"), str)
        for entry in entries
    ):
        raise BadRequest("tokenizer.json: 'added_tokens' must list tokens with an id and a content")
    return entries


def _special_added(description: dict[str, Any]) -> set[int]:
    return {entry["id"] for entry in _added(description) if entry.get("special") is True}


def _special_ids(checkpoint: Checkpoint, pieces: list[str]) -> dict[str, int]:
    """The ids of [CLS], [SEP] and so on by kind. The files' own word comes first, BERT's habit second."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    sources = [checkpoint.object("special_tokens_map.json"), checkpoint.object("tokenizer_config.json")]
    found = {}
    for kind in _SPECIAL_KEYS:
        for token in (*(source.get(f"{kind}_token") for source in sources), f"[{kind.upper()}]"):
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str) and text in ids:
                found[kind] = ids[text]
                break
    for kind in ("cls", "sep", "unk"):
        if kind not in found:
            raise BadRequest(f"the vocabulary has no {kind!r} token")
    return found


def _phantom_space(piece: str) -> str:
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 1:
        return piece
    return piece[2:] if piece.startswith("##") and len(piece) > 2 else _WORD_START + piece


def _checked(tokens: list[str]) -> list[str]:
    if len(tokens) > MAX_VOCABULARY:
        raise BadRequest(f"the vocabulary has {len(tokens)} tokens, more than {MAX_VOCABULARY}")
    if len(set(tokens)) != len(tokens):  # the engine ends the process over two tokens with one text
        raise BadRequest("the vocabulary has one token twice")
    for number, token in enumerate(tokens):
        try:
            length = len(token.encode())
        except UnicodeEncodeError as exc:
            raise BadRequest(f"token {number} is not valid Unicode") from exc
        if length > MAX_TOKEN_BYTES:
            raise BadRequest(f"token {number} has {length} bytes, more than {MAX_TOKEN_BYTES}")
    return tokens


def _pad(tokens: list[str], types: list[int], vocab_size: int) -> None:
    """Give the rows of the embedding matrix that no token uses a name each."""
    if len(tokens) > vocab_size:
        raise BadRequest(f"the vocabulary has {len(tokens)} tokens, config.json allows {vocab_size}")
    for number in range(len(tokens), vocab_size):
        tokens.append(f"[PAD{number}]")
        types.append(int(TokenType.USER_DEFINED))


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

"""A vocabulary under construction: texts, kinds and scores by id, with the checks that all kinds of them share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf import TokenType

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import MAX_VOCABULARY, Metadata

MAX_TOKEN_BYTES = 64 * 1024
"""The engine's vocabulary code counts in 32 bits; longer tokens are attacks (security §3)."""

MAX_STEPS = 64
"""Published tokenizers have up to 7."""

_PADDING_SCORE = -1.0
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
_DECODER = "added_tokens_decoder"


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beside the trained vocabulary. A special one steers the model, the others are text."""

    number: int
    text: str
    is_special: bool

    @property
    def kind(self) -> TokenType:
        return TokenType.CONTROL if self.is_special else TokenType.USER_DEFINED


@dataclass(slots=True)
class Tokens:
    """Tokens by id. `add` gives the next id; `metadata` checks them all."""

    texts: list[str] = field(default_factory=list)
    kinds: list[TokenType] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str, kind: TokenType = TokenType.NORMAL, score: float = 0.0) -> None:
        self.texts.append(text)
        self.kinds.append(kind)
        self.scores.append(score)

    def ids(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.texts)}

    def merge(self, added: Iterable[AddedToken], *, score: float = 0.0) -> None:
        """Let `added` take the places that they name: those of trained tokens, or the next ones without a hole."""
        for token in sorted(added, key=lambda token: token.number):
            if token.number > len(self):
                raise BadRequest(f"added token {token.text[:40]!r}: token ids must count from 0 without holes")
            if token.number == len(self):
                self.add(token.text, token.kind, score)
            self.texts[token.number], self.kinds[token.number] = token.text, token.kind

    def fit(self, checkpoint: Checkpoint) -> None:
        """Make the tokens as many as the embedding matrix has rows, where config.json says how many."""
        if not checkpoint.config.has("vocab_size"):
            return
        rows = checkpoint.config.count("vocab_size", most=MAX_VOCABULARY)
        while len(self) > rows and self.kinds[-1] in (TokenType.CONTROL, TokenType.USER_DEFINED):
            checkpoint.warn(f"token {self.texts[-1][:40]!r} is dropped: config.json allows {rows} tokens")
            for values in (self.texts, self.kinds, self.scores):
                values.pop()
        self.pad(rows)

    def pad(self, rows: int) -> None:
        """Give the rows of the embedding matrix that no token uses a name each."""
        if len(self) > rows:
            raise BadRequest(f"the vocabulary has {len(self)} tokens, config.json allows {rows}")
        for number in range(len(self), rows):
            self.add(f"[PAD{number}]", TokenType.USER_DEFINED, _PADDING_SCORE)

    def metadata(self, *, scored: bool) -> Metadata:
        self._check()
        scores: Metadata = {"tokenizer.ggml.scores": self.scores} if scored else {}
        return {
            "tokenizer.ggml.tokens": self.texts,
            "tokenizer.ggml.token_type": [int(kind) for kind in self.kinds],
            **scores,
        }

    def _check(self) -> None:
        if not self.texts:
            raise BadRequest("unknown tokenizer format")
        if len(self) > MAX_VOCABULARY:
            raise BadRequest(f"the vocabulary has {len(self)} tokens, more than {MAX_VOCABULARY}")
        if len(set(self.texts)) != len(self):  # the engine ends the process over two tokens with one text
            raise BadRequest("the vocabulary has one token twice")
        for number, (text, kind, score) in enumerate(zip(self.texts, self.kinds, self.scores, strict=True)):
            try:
                length = len(text.encode())
            except UnicodeEncodeError as exc:
                raise BadRequest(f"token {number} is not valid Unicode") from exc
            if length > MAX_TOKEN_BYTES:
                raise BadRequest(f"token {number} has {length} bytes, more than {MAX_TOKEN_BYTES}")
            if kind == TokenType.BYTE and not is_byte(text):
                raise BadRequest(f"token {number} stands for a byte, and its text {text[:40]!r} names none")
            if not math.isfinite(score):
                raise BadRequest(f"token {number} has no finite score")


def is_byte(text: str) -> bool:
    """Whether a token's text has the form of those that stand for one byte."""
    return _BYTE.fullmatch(text) is not None


def model_of(description: dict[str, Any]) -> dict[str, Any]:
    """The object `model` of a tokenizer.json; {} when there is none."""
    model = description.get("model")
    return model if isinstance(model, dict) else {}


def members(step: Any, key: str) -> list[dict[str, Any]]:
    """The steps of a (nested) `Sequence`, which lists them under `key`, or the step itself; [] for null."""
    pending, found = [step], []
    while pending:
        step = pending.pop()
        if isinstance(step, dict) and step.get("type") == "Sequence":
            inner = step.get(key)
            pending += reversed(inner if isinstance(inner, list) else [])
        elif isinstance(step, dict):
            found.append(step)
        if len(pending) + len(found) > MAX_STEPS:
            raise BadRequest(f"tokenizer.json: {key!r} lists more than {MAX_STEPS} steps")
    return found


def trained(vocab: Any, added: list[AddedToken]) -> list[str]:
    """The texts by id of a tokenizer.json's `vocab`, which maps texts to ids; `added` fill the gaps in it."""
    if not isinstance(vocab, dict):
        raise BadRequest("tokenizer.json: 'vocab' must map tokens to ids")
    by_id = {number: text for text, number in vocab.items() if type(number) is int}
    distinct = len(by_id) == len(vocab)
    for token in added:
        by_id.setdefault(token.number, token.text)
    if not distinct or set(by_id) != set(range(len(by_id))):
        raise BadRequest("tokenizer.json: token ids must count from 0 without holes")
    return [by_id[number] for number in range(len(by_id))]


def described_added(description: dict[str, Any]) -> list[AddedToken]:
    """The list `added_tokens` of a tokenizer.json."""
    entries = description.get("added_tokens") or []
    if not isinstance(entries, list):
        raise BadRequest("tokenizer.json: 'added_tokens' must list tokens with an id and a content")
    return [_added("tokenizer.json: 'added_tokens'", entry, entry.get("id")) for entry in map(_object, entries)]


def added_tokens(checkpoint: Checkpoint, description: dict[str, Any]) -> list[AddedToken]:
    """What every file says about tokens beside the trained ones; the first file that names an id decides about it.

    That is tokenizer.json, then tokenizer_config.json, then added_tokens.json, which does not tell the special ones.
    """
    found = {token.number: token for token in described_added(description)}
    for token in (*_decoder(checkpoint), *_listed(checkpoint)):
        found.setdefault(token.number, token)
    return list(found.values())


def warn_of_strips(checkpoint: Checkpoint, description: dict[str, Any]) -> None:
    """The engine knows no tokens that swallow the spaces beside them, nor any that are whole words only."""
    entries = list(map(_object, description.get("added_tokens") or []))
    for rule in ("lstrip", "rstrip", "single_word"):
        if count := sum(entry.get(rule) is True for entry in entries):
            checkpoint.warn(f"tokenizer.json: {rule!r}, which {count} added tokens ask for, has no effect")


def _decoder(checkpoint: Checkpoint) -> list[AddedToken]:
    entries = checkpoint.object("tokenizer_config.json").get(_DECODER) or {}
    if not isinstance(entries, dict):
        raise BadRequest(f"tokenizer_config.json: {_DECODER!r} must map ids to tokens")
    return [
        _added(f"tokenizer_config.json: {_DECODER!r}", _object(entry), int(number) if number.isdecimal() else None)
        for number, entry in entries.items()
    ]


def _listed(checkpoint: Checkpoint) -> list[AddedToken]:
    special = set(_texts(checkpoint.object("special_tokens_map.json")))
    return [
        _added("added_tokens.json", {"content": text, "special": text in special}, number)
        for text, number in checkpoint.object("added_tokens.json").items()
    ]


def _texts(values: Mapping[str, Any]) -> Iterator[str]:
    """The texts of special_tokens_map.json, where a token is a text, an object with a content, or a list of these."""
    for value in values.values():
        for token in value if isinstance(value, list) else [value]:
            text = _object(token).get("content", token)
            if isinstance(text, str):
                yield text


def _object(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}


def _added(where: str, entry: dict[str, Any], number: Any) -> AddedToken:
    text = entry.get("content")
    if type(number) is not int or number < 0 or not isinstance(text, str):
        raise BadRequest(f"{where} must list tokens with an id and a content")
    return AddedToken(number, text, entry.get("special") is True)

"""Reads `tokenizer.model`, a SentencePiece model: a message of Protocol Buffers, of which we need a dozen fields.

Source: `sentencepiece_model.proto` of the SentencePiece project. The file comes from strangers, so it is read here with
every length checked, and not by that project's C++; its package is the judge in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from gguf import TokenType

from ....errors import BadRequest
from ..family import MAX_VOCABULARY

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

T = TypeVar("T")

Field = tuple[int, int | bytes]
"""A field's number and its value: an integer, or the bytes of everything else."""


class Algorithm(IntEnum):
    """`TrainerSpec.ModelType`."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    score: float
    kind: TokenType


@dataclass(frozen=True, slots=True)
class PieceModel:
    """A model's pieces by id, and what happens to a text before they are found in it."""

    pieces: list[Piece]
    algorithm: Algorithm
    specials: dict[str, int]
    """Ids by kind (bos, eos, unk, pad); a kind that the model has not is absent."""
    charsmap: bytes
    """Replacements of characters, compiled; empty when the text stays as it is."""
    adds_prefix: bool
    """A space comes before the text."""
    merges_spaces: bool
    """Spaces at both ends vanish, and others become one."""
    space_is_suffix: bool


def read_piece_model(content: bytes) -> PieceModel:
    """Raises BadRequest naming what is wrong."""
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(content):
        match number, value:
            case 1, bytes():
                pieces.append(_piece(dict(_fields(value)), len(pieces)))
                if len(pieces) > MAX_VOCABULARY:
                    raise BadRequest(f"tokenizer.model has more than {MAX_VOCABULARY} pieces")
            case 2, bytes():
                trainer |= dict(_fields(value))
            case 3, bytes():
                normalizer |= dict(_fields(value))
    if not pieces:
        raise BadRequest("tokenizer.model is not a SentencePiece model")
    return PieceModel(
        pieces=pieces,
        algorithm=_algorithm(trainer.get(3, Algorithm.UNIGRAM)),
        specials=_specials(trainer, pieces),
        charsmap=_expect(bytes, normalizer.get(2, b"")),
        adds_prefix=bool(normalizer.get(3, 1)),
        merges_spaces=bool(normalizer.get(4, 1)),
        space_is_suffix=bool(trainer.get(24, 0)),
    )


def _piece(fields: dict[int, int | bytes], number: int) -> Piece:
    try:
        text = _expect(bytes, fields.get(1, b"")).decode()
    except UnicodeDecodeError as exc:
        raise BadRequest(f"tokenizer.model: piece {number} is not valid Unicode") from exc
    score = _expect(bytes, fields.get(2, bytes(4)))
    kind = fields.get(3, TokenType.NORMAL)
    if len(score) != 4 or kind not in set(TokenType):
        raise BadRequest(f"tokenizer.model: piece {number} has no score or no known type")
    return Piece(text, struct.unpack("<f", score)[0], TokenType(_expect(int, kind)))


def _algorithm(value: int | bytes) -> Algorithm:
    if value not in (Algorithm.UNIGRAM, Algorithm.BPE):
        raise BadRequest("tokenizer.model: the algorithm is neither BPE nor unigram")
    return Algorithm(_expect(int, value))


def _specials(trainer: dict[int, int | bytes], pieces: list[Piece]) -> dict[str, int]:
    """The trainer's ids where the pieces agree with them: many published models were edited after training."""
    stated = {
        "unk": trainer.get(40, 0),
        "bos": trainer.get(41, 1),
        "eos": trainer.get(42, 2),
        "pad": trainer.get(43, -1),
    }
    marks = (TokenType.CONTROL, TokenType.UNKNOWN)
    return {
        kind: number
        for kind, number in stated.items()
        if isinstance(number, int) and 0 <= number < len(pieces) and pieces[number].kind in marks
    }


def _fields(content: bytes) -> Iterator[Field]:
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield tag >> 3, value
            continue
        if kind not in (_FIXED_64, _BYTES, _FIXED_32):
            raise BadRequest("tokenizer.model is not a SentencePiece model")
        length = {_FIXED_64: 8, _FIXED_32: 4}.get(kind)
        if length is None:
            length, position = _varint(content, position)
        if not 0 <= length <= len(content) - position:
            raise BadRequest("tokenizer.model is cut short")
        yield tag >> 3, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A 64-bit integer with a sign, and the position behind it."""
    value = 0
    for shift, byte in enumerate(content[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            value &= (1 << 64) - 1
            return value - (1 << 64) if value >> 63 else value, position + shift + 1
    raise BadRequest("tokenizer.model is cut short")


def _expect(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise BadRequest("tokenizer.model is not a SentencePiece model")
    return value

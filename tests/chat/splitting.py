"""A stream may be cut anywhere: one text in all its pieces must give one and the same answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from llamero.chat.pipeline import Parser, Piece
from llamero.messages import ToolCall

RANDOM_CUTS = 5


def ways_to_cut(text: str) -> Iterator[list[str]]:
    """Whole, in two at every place, character by character, and at random places, some of the pieces empty."""
    yield [text]
    yield from ([text[:at], text[at:]] for at in range(1, len(text)))
    yield list(text)
    dice = random.Random(text)
    for _ in range(RANDOM_CUTS):
        cuts = sorted(dice.choices(range(len(text) + 1), k=dice.randint(2, 8)))
        yield [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same answer with neighbouring texts, and neighbouring thoughts, in one piece."""
    result: list[Piece] = []
    for kind, group in groupby(pieces, type):
        if kind is ToolCall:
            result += group
        else:
            result.append(kind("".join(piece.text for piece in group if not isinstance(piece, ToolCall))))
    return result


def read_whole(parser: Parser, chunks: Sequence[str]) -> list[Piece]:
    return joined([*(piece for chunk in chunks for piece in parser.feed(chunk)), *parser.finish()])


def read(make: Callable[[], Parser], text: str) -> list[Piece]:
    """What a parser makes of a text, however it is cut."""
    whole = read_whole(make(), [text])
    for chunks in ways_to_cut(text):
        assert read_whole(make(), chunks) == whole, chunks
    return whole

"""The head of a file that the engine saved a slot in: which tokens it holds. What follows only the engine can read.

The engine trusts such a file: one that is cut short ends its process, with everybody's answers. So it is given none
that this module and a checksum have not passed. Layout, little-endian words of 32 bits: magic, version, the number of
words that tell the tokens, those words, the state. The words are the tokens themselves, or `MARK`, a version, the
number of tokens, the tokens, and the same for where pictures begin, followed by the pictures.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import BinaryIO

from ..errors import StorageError

MAGIC = b"qsgg"
VERSIONS = frozenset({2, 3, 4})
"""Of the file; the head has been the same in all of them."""
WORDS_VERSION = 1
"""Of the words that tell the tokens."""

MARK = 0xFFFFFFFF
"""Stands before words that are more than tokens, and where a picture takes the place of a token."""

MAX_WORDS = 4 << 20
"""More than the longest window of any model, a million tokens, and its pictures."""

_HEAD = struct.Struct("<4sII")


class BadSlotFile(StorageError):
    """No file of an engine, or one that we cannot use."""


class HoldsPictures(BadSlotFile):
    """A prompt with pictures, of which the file does not say which they are."""


def read_tokens(file: BinaryIO, size_bytes: int) -> array[int]:
    """The tokens of a saved slot. BadSlotFile when it is none, or cut short; HoldsPictures.

    Reads the head only, and never more than the file has.
    """
    words = _words(file, size_bytes)
    if not words or words[0] != MARK:
        return _only_text(words)
    if len(words) < 4 or words[1] != WORDS_VERSION:
        raise BadSlotFile("a saved slot tells its tokens in an unknown way")
    count = words[2]
    if len(words) < 4 + count:
        raise BadSlotFile("a saved slot has fewer tokens than it says")
    if words[3 + count]:
        raise HoldsPictures("a saved slot holds pictures")
    return _only_text(words[3 : 3 + count])


def _words(file: BinaryIO, size_bytes: int) -> array[int]:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise BadSlotFile("a saved slot is cut short")
    magic, version, count = _HEAD.unpack(head)
    if magic != MAGIC or version not in VERSIONS:
        raise BadSlotFile("not a saved slot")
    if count > MAX_WORDS or _HEAD.size + 4 * count > size_bytes:
        raise BadSlotFile("a saved slot is cut short")
    words = array("I", file.read(4 * count))
    if len(words) != count:
        raise BadSlotFile("a saved slot is cut short")
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _only_text(tokens: array[int]) -> array[int]:
    if any(token > 0x7FFFFFFF for token in tokens):
        raise BadSlotFile("a saved slot holds what is no token")
    return tokens

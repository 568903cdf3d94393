"""Files as the engine writes them when it saves a slot, with a state that means nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

MARK = 0xFFFFFFFF


def words_of(tokens: Sequence[int], pictures_at: Sequence[int] = ()) -> list[int]:
    """What tells the tokens, in the way of the engine."""
    return [MARK, 1, len(tokens), *tokens, len(pictures_at), *pictures_at]


def slot_bytes(words: Sequence[int], state: bytes = b"\0" * 8, *, magic: bytes = b"qsgg", version: int = 4) -> bytes:
    return struct.pack(f"<4sII{len(words)}I", magic, version, len(words), *words) + state


def write_slot(path: Path, tokens: Sequence[int], state_bytes: int = 1000) -> Path:
    path.write_bytes(slot_bytes(words_of(tokens), bytes(index % 251 for index in range(state_bytes))))
    return path

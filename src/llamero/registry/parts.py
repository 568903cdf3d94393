"""The parts in which one blob is fetched, and what stock Ollama writes down about each of them. No files, no network.

Source: store-registry §3.3. Both programs resume each other's downloads, so the plan and the text of a part's state are
Ollama's, byte for byte; what is read back was on a disk that others write to, so it is believed only as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

MAX_IN_FLIGHT = 16
"""Requests at once for one blob, as in the reference."""

MIN_PART_BYTES = 100_000_000
MAX_PART_BYTES = 1_000_000_000

MAX_PARTS = 10_000
"""More than the largest blob that a manifest may list (8 TiB) is cut into."""


@dataclass(slots=True, eq=False)
class Part:
    """A range of the blob, whose first `completed_bytes` are on disk. They grow, and the end may move."""

    number: int
    offset: int
    size_bytes: int
    completed_bytes: int = 0

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self.offset + self.completed_bytes

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes

    @property
    def remaining_bytes(self) -> int:
        return self.size_bytes - self.completed_bytes

    @property
    def is_done(self) -> bool:
        return self.completed_bytes == self.size_bytes

    @property
    def state(self) -> bytes:
        """The content of the part's state file: Ollama's keys in Ollama's order, and a newline."""
        fields = (self.number, self.offset, self.size_bytes, self.completed_bytes)
        return b'{"N":%d,"Offset":%d,"Size":%d,"Completed":%d}\n' % fields

    def split(self, at: int, number: int) -> Part:
        """Give everything from `at` on to a new part, which is returned. Both have bytes."""
        assert self.offset < at < self.end
        assert at >= self.position
        rest = Part(number, at, self.end - at)
        self.size_bytes = at - self.offset
        return rest


class _State(msgspec.Struct):
    number: int = msgspec.field(name="N")
    offset: int = msgspec.field(name="Offset")
    size_bytes: int = msgspec.field(name="Size")
    completed_bytes: int = msgspec.field(name="Completed")


def plan(size_bytes: int) -> list[Part]:
    """Cut a blob into sixteen equal parts, or into parts of the smallest or the largest size that is allowed."""
    part_bytes = min(max(size_bytes // MAX_IN_FLIGHT, MIN_PART_BYTES), MAX_PART_BYTES)
    offsets = range(0, size_bytes, part_bytes)
    return [Part(number, offset, min(part_bytes, size_bytes - offset)) for number, offset in enumerate(offsets)]


def read(states: Mapping[int, bytes], size_bytes: int) -> list[Part] | None:
    """The parts that these state files (number in the name, content) describe, by offset.

    None unless they are numbered without a gap and cover exactly `size_bytes` without a hole or an overlap: with states
    that were damaged or tampered with, the download starts anew (X-84).
    """
    if not 0 < len(states) <= MAX_PARTS:
        return None
    parts = [part for number, content in states.items() if (part := _read(number, content)) is not None]
    if {part.number for part in parts} != set(range(len(states))):
        return None
    parts.sort(key=lambda part: part.offset)
    end = 0
    for part in parts:
        if part.offset != end:
            return None
        end = part.end
    return parts if end == size_bytes else None


def completed_bytes(states: Mapping[int, bytes]) -> int:
    """How far a download is that somebody else is at; states that are being written just now do not count."""
    parts = (_read(number, content) for number, content in states.items())
    return sum(part.completed_bytes for part in parts if part is not None)


def _read(number: int, content: bytes) -> Part | None:
    try:
        state = msgspec.json.decode(content, type=_State)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    part = Part(state.number, state.offset, state.size_bytes, state.completed_bytes)
    sound = part.number == number and part.offset >= 0 and 0 <= part.completed_bytes <= part.size_bytes
    return part if sound and part.size_bytes > 0 else None

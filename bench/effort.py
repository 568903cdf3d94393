"""How much a measurement may cost: so many rounds, or just enough to see that it runs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    rounds: int | None = None
    """None: as many as each program thinks right."""
    quick: bool = False
    """One round of everything in its smallest size: that shows whether it works, and no more."""

    def rounds_of(self, usual: int) -> int:
        return self.rounds if self.rounds is not None else 1 if self.quick else usual

    def size(self, usual: int, smallest: int) -> int:
        """Tokens, words, bytes: what a figure that is to be kept needs, or what a look needs."""
        return smallest if self.quick else usual


def rounds(text: str) -> int:
    """A number of rounds, as somebody types it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds")
    return int(text)

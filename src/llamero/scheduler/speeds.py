"""How quickly models have answered here, and what that says about others. Pure.

An answer's speed is bounded by how quickly memory is read: each token costs one reading of the weights that take part.
Source: cli §3.16 (`fit`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..durations import SECOND
from ..gguf import Gguf
from ..messages import Usage

MIN_TOKENS = 32
"""A shorter answer says little about speed."""

Basis = Literal["measured", "scaled", "bandwidth"]

_EXPERTS = re.compile(r"blk\.\d{1,5}\.ffn_\w+_exps\..*")


@dataclass(frozen=True, slots=True)
class Speed:
    tokens_per_s: float
    basis: Basis
    """This model has answered here; another one has; or it is what reading memory allows at most."""


class Speeds:
    """The best of each model since the server's start: any other was measured while others answered too."""

    def __init__(self) -> None:
        self._best: dict[str, float] = {}
        """Tokens per second, by the digest of the weights."""
        self._bytes_per_s = 0.0

    def learn(self, digest: str, header: Gguf, usage: Usage) -> None:
        # a guess that was right cost no reading of its own, and another text will not be guessed as well
        read_tokens = usage.predicted_tokens - usage.accepted_tokens
        if read_tokens < MIN_TOKENS or usage.predicted_ns <= 0:
            return
        per_s = read_tokens * SECOND / usage.predicted_ns
        if per_s > self._best.get(digest, 0.0):
            self._best[digest] = per_s
            self._bytes_per_s = max(self._bytes_per_s, per_s * token_read_bytes(header))

    def of(self, digest: str, header: Gguf, bandwidth: float) -> Speed | None:
        """What to expect of weights; `digest` is empty where they are not here. None: nobody knows."""
        if digest in self._best:
            return Speed(self._best[digest], "measured")
        read_bytes = token_read_bytes(header)
        if self._bytes_per_s and read_bytes:
            return Speed(self._bytes_per_s / read_bytes, "scaled")
        if bandwidth and read_bytes:
            return Speed(bandwidth / read_bytes, "bandwidth")
        return None


def token_read_bytes(header: Gguf) -> float:
    """Bytes of weights that one token costs to read: of the experts those that are used, of the embedding one row.

    The keys and values of the conversation come on top.
    """
    total, used = header.get_int("expert_count"), header.get_int("expert_used_count")
    share = min(1.0, used / total) if total > 0 and used > 0 else 1.0
    has_output = any(tensor.name == "output.weight" for tensor in header.tensors)
    read = 0.0
    for tensor in header.tensors:
        if has_output and tensor.name == "token_embd.weight":
            continue  # else it is the output as well, and read as a whole
        read += tensor.size_bytes * (share if _EXPERTS.fullmatch(tensor.name) else 1.0)
    return read

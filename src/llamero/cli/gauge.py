"""How full a conversation's context window is, so that no forgotten message is a surprise (cli G-22). Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

ATTENTION_SHARE = 0.75
ALARM_SHARE = 0.9

Mood = Literal["calm", "attention", "alarm"]


class Gauge(NamedTuple):
    used_tokens: int = 0
    limit_tokens: int = 0
    """0 while nobody has told it."""

    @property
    def share(self) -> float:
        return self.used_tokens / self.limit_tokens if self.limit_tokens else 0.0

    @property
    def mood(self) -> Mood:
        if self.share >= ALARM_SHARE:
            return "alarm"
        return "attention" if self.share >= ATTENTION_SHARE else "calm"

    def __str__(self) -> str:
        """`1.2K/4.1K`, or nothing as long as there is nothing to tell."""
        if not (self.used_tokens and self.limit_tokens):
            return ""
        return f"{human_tokens(self.used_tokens)}/{human_tokens(self.limit_tokens)}"


def human_tokens(count: int) -> str:
    """`812`, `4.1K`, `128K`: a window of 131,072 is called 128K by everybody, so thousands here are of 1024."""
    if count < 1024:
        return str(count)
    thousands = count / 1024
    return f"{thousands:.1f}K" if thousands < 10 and count % 1024 else f"{thousands:.0f}K"

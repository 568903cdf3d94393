"""How full each loaded model's context was when it answered last: what `ollama ps --wide` shows (cli G-22)."""

from __future__ import annotations

from ..messages import Usage


class Fullness:
    """By the digest of the weights. A model that is loaded again begins with an empty context."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def answered(self, digest: str, usage: Usage) -> None:
        self._tokens[digest] = usage.prompt_tokens + usage.predicted_tokens

    def loaded(self, digest: str) -> None:
        self._tokens.pop(digest, None)

    def tokens(self, digest: str) -> int:
        """Of the last conversation, prompt and answer; 0 when nothing was answered since the load."""
        return self._tokens.get(digest, 0)

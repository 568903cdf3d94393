"""Tokens for a while and requests seen once: what the share remembers of who may read, which is next to nothing.

A token is stateless: its own MAC, made with a secret of this process, proves it. Source: store-registry GAP-12.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable

from ...errors import Busy
from ...names import Digest

TOKEN_LIFE_S = 3600
MAX_NONCES = 10_000
"""Only listed keys can add to them; at most this many tokens in the ten minutes for which one is remembered."""


class Tokens:
    """`<expiry>.<subject>.<MAC>`; the subject is `pull` with its scopes, or `blob` with a digest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def grant(self, scopes: list[str]) -> str:
        return self._issue(" ".join(["pull", *scopes]))

    def opens(self, token: str, scope: str) -> bool:
        kind, *scopes = self._subject(token).split(" ")
        return kind == "pull" and (not scope or scope in scopes)

    def is_ours(self, token: str) -> bool:
        """Whether it was made here, even if it has ended."""
        content, _, mac = token.rpartition(".")
        return hmac.compare_digest(self._mac(content).encode(), mac.encode())

    def link(self, digest: Digest) -> str:
        return self._issue(f"blob {digest}")

    def links_to(self, token: str, digest: Digest) -> bool:
        return self._subject(token) == f"blob {digest}"

    def _issue(self, subject: str) -> str:
        encoded = base64.urlsafe_b64encode(subject.encode()).decode().rstrip("=")
        content = f"{int(self._clock()) + TOKEN_LIFE_S}.{encoded}"
        return f"{content}.{self._mac(content)}"

    def _subject(self, token: str) -> str:
        """What a token is about; empty when it is not ours or too old."""
        if not self.is_ours(token):
            return ""
        content = token.rpartition(".")[0]
        expiry, _, encoded = content.partition(".")
        if int(expiry) <= self._clock():
            return ""
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()

    def _mac(self, content: str) -> str:
        return hmac.new(self._secret, content.encode(), hashlib.sha256).hexdigest()


class Nonces:
    """Which requests have been seen, for as long as their time would let them in again. Any thread may ask."""

    def __init__(self, clock: Callable[[], float], *, kept_s: float) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._forget_at: dict[tuple[bytes, str], float] = {}
        """In the order in which they came, which is that of their times."""
        self._lock = threading.Lock()

    def use(self, key: bytes, nonce: str) -> bool:
        """Whether it is new. Busy when more come in than can be remembered."""
        now = self._clock()
        with self._lock:
            while self._forget_at and next(iter(self._forget_at.values())) < now:
                del self._forget_at[next(iter(self._forget_at))]
            if (key, nonce) in self._forget_at:
                return False
            if len(self._forget_at) >= MAX_NONCES:
                raise Busy("too many tokens were asked for, try again later", retry_after_s=round(self._kept_s))
            self._forget_at[key, nonce] = now + self._kept_s
            return True

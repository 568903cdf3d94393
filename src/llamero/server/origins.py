"""Which pages of other origins may read our replies, and with which headers they are told so (CORS).

Source: security §7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BadRequest

HeaderLines = tuple[tuple[str, str], ...]

MAX_ORIGIN_CHARS = 512
"""A scheme and a host; browsers send no more."""

DEFAULT_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    *(f"{scheme}://*" for scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")),
)

EXACT_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "moz-extension://",
    "ms-browser-extension://",
    "safari-extension://",
    "safari-web-extension://",
)
"""How an entry without `*` may start; an origin of another scheme needs the `*`, as in the reference."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]*)(?::[0-9]{1,5})?")

_EXPOSED = ("Access-Control-Expose-Headers", "X-Request-Id,Request-Id,Llamero-Warning")

_PREFLIGHT: HeaderLines = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        # the reference's, in its order
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
        "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
        "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
        "X-Stainless-Runtime-Version,X-Stainless-Timeout,"
        # ours
        "X-Api-Key,Anthropic-Version,Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access,Openai-Organization,"
        "Openai-Project,X-Stainless-Helper,X-Stainless-Read-Timeout,Llamero-Priority",
    ),
    ("Access-Control-Max-Age", "43200"),
)


class Origins:
    """Which pages of other origins may read our replies. Raises BadRequest naming an entry that cannot be meant."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._all = "*" in entries
        patterns = [_compile_origin(entry.lower()) for entry in (*entries, *DEFAULT_ORIGINS) if entry != "*"]
        self._pattern = re.compile("|".join(patterns))

    def allow(self, origin: str) -> bool:
        if self._all:
            return True
        if len(origin) > MAX_ORIGIN_CHARS:
            return False
        origin = origin.lower()
        return _ORIGIN.fullmatch(origin) is not None and self._pattern.fullmatch(origin) is not None

    def reply_headers(self, origin: str) -> HeaderLines:
        return (*self._allow_origin(origin), _EXPOSED)

    def preflight_headers(self, origin: str, to_private_network: bool) -> HeaderLines:
        headers = self._allow_origin(origin) + _PREFLIGHT
        if not self._all:
            headers += (("Vary", "Access-Control-Request-Method"), ("Vary", "Access-Control-Request-Headers"))
        if to_private_network:
            headers += (("Access-Control-Allow-Private-Network", "true"),)
        return headers

    def _allow_origin(self, origin: str) -> HeaderLines:
        # never Access-Control-Allow-Credentials: no page may act with what the browser remembers
        if self._all:
            return (("Access-Control-Allow-Origin", "*"),)
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def _compile_origin(entry: str) -> str:
    """One entry, in lower case, as a regular expression. Raises BadRequest naming it."""
    before, star, after = entry.partition("*")
    if "*" in after:
        raise BadRequest(f"OLLAMA_ORIGINS: {entry!r} has more than one *")
    if not star and not (entry.startswith(EXACT_SCHEMES) and _ORIGIN.fullmatch(entry)):
        raise BadRequest(f"OLLAMA_ORIGINS: {entry!r} is not an origin: write scheme://host[:port], at most one *, or *")
    # a port is digits: http://localhost:* must not cover http://localhost:1.evil.test
    is_port = "://" in before and before.endswith(":") and not after
    wildcard = ("[0-9]+" if is_port else ".*") if star else ""
    return re.escape(before) + wildcard + re.escape(after)

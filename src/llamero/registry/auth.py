"""Challenges of registries and how they are answered: tokens for a signature, tokens for a login, a login as it is.

Source: store-registry §3.7, Appendix A. The signature goes to a realm on the registry's own host or its alias, a login
also to the token server that the user's file names for this registry; nothing is sent anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode

import msgspec
from yarl import URL

from ..errors import RegistryError
from .credentials import Entry
from .egress import authority, parse_url, same_origin
from .identity import Identity

ACCESS_DENIED = "unauthorized: access denied"

ALIASES: Mapping[str, str] = {"hf.co": "huggingface.co"}
"""Registry host to the one other host that may ask for its signature (store-registry GAP-06)."""

EMPTY_BODY_HASH = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
NONCE_BYTES = 16
EXPIRY_MARGIN_S = 10.0
"""A token that ends while a request is on its way is of no use."""

Fetch = Callable[[URL, Mapping[str, str]], Awaitable[bytes]]
"""GET of a token: its URL and headers to the answer's body."""


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: Literal["bearer", "basic"]
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    lifetime_s: float | None = None
    """None: the server did not say."""


_CHALLENGE = re.compile(r"[\s,]*([A-Za-z][\w-]*)(?:\s+(?=[\w-]+\s*=)|\s*(?=,|$))")
_PARAMETER = re.compile(r'[\s,]*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


def parse_challenge(values: Iterable[str]) -> Challenge | None:
    """The challenge that we can answer, of all `WWW-Authenticate` headers: Bearer before Basic; None: none at all."""
    found: dict[str, Challenge] = {}
    for value in values:
        at = 0 if value.isascii() else len(value)
        while (match := _CHALLENGE.match(value, at)) is not None:
            scheme, at = match[1].lower(), match.end()
            parameters: dict[str, str] = {}
            while (pair := _PARAMETER.match(value, at)) is not None:
                quoted = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
                parameters[pair[1].lower()] = quoted
                at = pair.end()
            known = {name: parameters.get(name, "") for name in ("realm", "service", "scope")}
            if scheme == "bearer":
                found.setdefault(scheme, Challenge("bearer", **known))
            elif scheme == "basic":
                found.setdefault(scheme, Challenge("basic", **known))
    return found.get("bearer") or found.get("basic")


def token_url(challenge: Challenge, extra: Mapping[str, str]) -> str:
    """The realm with all parameters, its own among them, sorted by key; several scopes stay in their order."""
    realm, _, query = challenge.realm.partition("#")[0].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    pairs += [("scope", scope) for scope in challenge.scope.split(" ")]
    pairs += [("service", challenge.service), *extra.items()]
    return f"{realm}?{urlencode(sorted(pairs, key=lambda pair: pair[0]))}"


def signed_token_url(challenge: Challenge, *, nonce: str, unix_s: int) -> str:
    return token_url(challenge, {"nonce": nonce, "ts": str(unix_s)})


def new_nonce() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(NONCE_BYTES)).decode().rstrip("=")


def payload(url: str) -> bytes:
    """What is signed to get a token from `url`."""
    return f"GET,{url},{EMPTY_BODY_HASH}".encode()


class _Answer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


def read_token(body: bytes) -> Token:
    """Raises RegistryError when there is no token, or one that does not fit into a header."""
    try:
        answer = msgspec.json.decode(body, type=_Answer, strict=False)
    except (ValueError, RecursionError):
        raise RegistryError("the token server's answer is malformed") from None
    value = answer.token or answer.access_token or ""
    if re.fullmatch(r"[!-~]+", value) is None:
        raise RegistryError("the token server's answer holds no token")
    lifetime_s = answer.expires_in
    return Token(value, lifetime_s if lifetime_s is not None and lifetime_s > 0 else None)


class Authenticator:
    """Holds one registry's authorization for one operation. Only requests to `origin` may carry it."""

    def __init__(
        self,
        origin: URL,
        *,
        bearer: str = "",
        entry: Callable[[], Entry],
        identity: Callable[[], Identity],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`entry` and `identity` are read only when a challenge asks for them; `bearer` is sent from the start."""
        self._origin = origin
        self._entry = entry
        self._identity = identity
        self._fetch = fetch
        self._clock = clock
        self._challenge: Challenge | None = None
        self._expires_s = float("inf")
        self._secrets: set[str] = set()
        self._header = ""
        if bearer:
            self._hold(f"Bearer {bearer}", bearer)

    @property
    def header(self) -> str:
        """The Authorization header to send now; empty when none is held."""
        return self._header

    async def refresh(self) -> None:
        """Replace a token that has run out, rather than send a large body along with it."""
        if self._challenge is not None and self._clock() >= self._expires_s:
            await self.answer(self._challenge)

    async def answer(self, challenge: Challenge) -> None:
        """Get what the challenge wants, and hold it. Raises RegistryError; a foreign realm is never asked."""
        entry = self._entry()
        if challenge.scheme == "basic":
            if entry.login is None:
                raise RegistryError(f"{ACCESS_DENIED}: {authority(self._origin)} wants a user name and a password")
            self._hold(entry.login.basic, entry.login.basic.removeprefix("Basic "), entry.login.password)
            return
        if entry.login is not None:
            token = await self._token_for_login(challenge, entry)
        else:
            token = await self._token_for_signature(challenge)
        self._hold(f"Bearer {token.value}", token.value)
        self._challenge = challenge
        lifetime_s = float("inf") if token.lifetime_s is None else max(0.0, token.lifetime_s - EXPIRY_MARGIN_S)
        self._expires_s = self._clock() + lifetime_s

    def redact(self, text: str) -> str:
        """The text without any secret that was sent: a registry may echo what it got."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        return text

    def _hold(self, header: str, *secret: str) -> None:
        self._header = header
        self._secrets |= {each for each in secret if each}

    async def _token_for_signature(self, challenge: Challenge) -> Token:
        text = signed_token_url(challenge, nonce=new_nonce(), unix_s=int(time.time()))
        url = self._realm(text)
        if authority(url) != authority(self._origin) and ALIASES.get(authority(self._origin)) != authority(url):
            raise _other_host(url, self._origin)
        return read_token(await self._fetch(url, {"Authorization": self._identity().authorization(payload(str(url)))}))

    async def _token_for_login(self, challenge: Challenge, entry: Entry) -> Token:
        assert entry.login is not None
        url = self._realm(token_url(challenge, {"account": entry.login.user}))
        if authority(url) != authority(self._origin) and not _names(entry.realm, url):
            raise _other_host(url, self._origin)
        self._secrets |= {entry.login.password, entry.login.basic.removeprefix("Basic ")}
        return read_token(await self._fetch(url, {"Authorization": entry.login.basic}))

    def _realm(self, text: str) -> URL:
        url = parse_url(text)
        if url.scheme != "https" and self._origin.scheme == "https":
            raise RegistryError(f"realm of {authority(self._origin)} is not encrypted")
        return url


def _names(realm: str, url: URL) -> bool:
    """Whether the user's file means this token server: where it is, and its path."""
    if not realm:
        return False
    named = parse_url(realm)
    return same_origin(named, url) and named.raw_path == url.raw_path


def _other_host(realm: URL, origin: URL) -> RegistryError:
    return RegistryError(f'realm host "{authority(realm)}" does not match original host "{authority(origin)}"')

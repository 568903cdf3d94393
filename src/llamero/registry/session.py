"""One operation with one repository of a registry: manifests, where blobs lie, and requests in its name.

It keeps no file and knows no model. Source: store-registry §3.2, §3.3 no. 6, §3.7, security §10.1. Every URL that an
answer names is judged again before it is asked, and gets none of our credentials unless it is the origin's.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from ..errors import InvalidDigest, RegistryAnswered, RegistryError
from ..names import DEFAULT_HOST, Digest
from . import credentials
from .auth import ACCESS_DENIED, Authenticator, parse_challenge
from .credentials import Entry, Login
from .egress import Egress, Exemption, authority, join_url, parse_url, same_origin, shown
from .identity import Identity
from .network import Body, Network, Transport, translated

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_TOKEN_BYTES = 64 * 2**10
"""The largest tokens in the wild, with a list of permissions inside, have some 10 kB."""
MAX_ANSWER_BYTES = 64 * 2**10
"""An error's text, or the answer to an upload; neither is kept."""
MAX_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REPEATABLE = frozenset({307, 308})
"""Redirects that keep the method and the body; the others turn everything into a GET."""
_HARMLESS = frozenset({"accept", "range", "content-type", "content-length", "content-range"})
"""Headers that a redirect to another origin may see."""

Kind = Literal["registry", "mirror", "peer"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one repository is asked."""

    base_url: str
    """`https://registry.ollama.ai`, with a path where the registry has one. User information is a login for it."""
    namespace: str
    model: str
    kind: Kind
    host: str
    """The registry's host by the model's name; a mirror or a peer stands for it."""
    may_be_private: bool
    """The exception of security §10.1 holds: who asks may have this host on a private network."""
    must_be_private: bool = False
    """Plain http that only a name asks for: over a public network it is refused (store-registry §1.5)."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a blob's bytes are."""

    url: URL
    with_credentials: bool
    """The registry serves them itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    """The first 64 KiB, unpacked."""
    url: URL
    """Where it came from, after redirects: `Location` is relative to it."""


class Session:
    """Talks to one origin as long as the `async with` lasts, in one event loop. Its token lives as long.

    All methods raise RegistryError (`retryable` when nobody answered), RegistryAnswered for a status that refuses, and
    Forbidden for what may not be asked.
    """

    def __init__(self, origin: Origin, network: Network) -> None:
        self.origin = origin
        self._network = network
        self._base, self._login = _split_base(origin.base_url)
        self._host = authority(self._base)
        exemptions = tuple(Exemption.parse(text) for text in network.allow_private)
        self._egress = Egress(
            self._base, origin.may_be_private, exemptions, network.is_own_listener, origin.must_be_private
        )
        self._auth = Authenticator(
            self._base,
            bearer=credentials.hub_token(network.env, self._base.scheme, self._host),
            entry=self._entry,
            identity=lambda: Identity.load(network.home),
            fetch=self._fetch_token,
        )
        self._auth_lock = asyncio.Lock()
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        self._transport = Transport(self._network, self._egress)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    @property
    def place(self) -> str:
        """The origin for a person: without the login that its URL may hold (X-36)."""
        return shown(self._base).rstrip("/")

    def path(self, tail: str) -> URL:
        """The URL of `tail` in this repository: `blobs/uploads/`, a query may follow."""
        return self._below_base(f"{self.origin.namespace}/{self.origin.model}/{tail}")

    def _below_base(self, tail: str) -> URL:
        return parse_url(f"{str(self._base).rstrip('/')}/v2/{tail}")

    async def check(self) -> None:
        """Ask whether a registry is there that would answer us."""
        await self.request("GET", self._below_base(""))

    async def listing(self, tail: str, limit_bytes: int) -> bytes:
        """The body of a GET below the origin that is no part of the registry protocol: a catalogue's."""
        url = parse_url(f"{str(self._base).rstrip('/')}/{tail}")
        async with self._call("GET", url, {"Accept": "application/json"}) as response:
            return await self._sender.read_body(response, limit_bytes)

    # --- pull ------------------------------------------------------------------------------------------------------

    async def manifest(self, reference: str) -> bytes:
        """A manifest by tag or `sha256:...`: the registry's own bytes, compared with every digest that is given."""
        url = self._asked(f"manifests/{reference}")
        async with self._call("GET", url, {"Accept": ", ".join(MANIFEST_TYPES)}) as response:
            body = await self._sender.read_body(response, MAX_MANIFEST_BYTES)
        for claim in (reference, response.headers.get("Docker-Content-Digest", "").strip()):
            with suppress(InvalidDigest):
                if (wanted := Digest.parse(claim)) != Digest.of(body):
                    raise RegistryError(f"manifest digest mismatch: want {wanted}, got {Digest.of(body)}")
        return body

    async def locate(self, digest: Digest) -> Located:
        """Ask the registry where a blob's bytes are; nothing of them is read.

        1. An answer without `Location`: at the URL that was asked, for whoever has the credentials.
        2. A redirect, or 200 with `Location`: there, without credentials, unless it is the very URL that was asked.
        """
        url = self._asked(f"blobs/{digest}")
        async with self._call("GET", url, {}, follow=False) as response:
            location = response.headers.get("Location", "").strip()
            if response.status != HTTPStatus.OK and response.status not in _REDIRECTS:
                raise RegistryError(f"unexpected status code {response.status}")
            if not location:
                if response.status != HTTPStatus.OK:
                    raise RegistryError("http: no Location header in response")
                return Located(url, with_credentials=True)
        target = join_url(url, location)
        self._egress.check_hop(url, target)
        return Located(target, with_credentials=target == url)

    @asynccontextmanager
    async def open(self, located: Located, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET a blob's bytes as they are, never unpacked. Any status is the caller's to judge, but for a 401 of the
        registry itself; so are the errors of reading, which `network.translated` turns into ours.
        """
        if located.with_credentials:
            response = await self._authorized("GET", located.url, headers, None, follow=True)
        else:
            response = await self._walk("GET", located.url, headers, None, "", follow=True)
        try:
            yield response
        finally:
            response.close()

    # --- push ------------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        data: Body = None,
        expect: Collection[int] = (),
        follow: bool = True,
    ) -> Answer:
        """Any request, with the credentials when `url` is at the origin.

        A text is a path at the origin or a whole URL. Statuses from 400 up are errors unless they stand in `expect`.
        Without `follow` a redirect is an answer.
        """
        target = join_url(self._base, url) if isinstance(url, str) else url
        self._egress.check_hop(self._base, target)
        async with self._call(method, target, headers or {}, data, expect=expect, follow=follow) as response:
            return await self._answer(response)

    async def put_elsewhere(self, url: str | URL, *, headers: Mapping[str, str], data: Body) -> Answer:
        """PUT to where a registry sent us, word for word: no credentials, no redirect; any status is an answer."""
        target = join_url(self._base, url) if isinstance(url, str) else url
        self._egress.check_hop(self._base, target)
        response = await self._walk("PUT", target, headers, data, "", follow=False)
        try:
            return await self._answer(response)
        finally:
            response.close()

    def in_words(self, body: bytes) -> str:
        """What an answer says, for a person: in one line, without the credentials that it may repeat (X-36)."""
        return self._auth.redact(_plain(body.decode(errors="replace")))

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        body = await self._sender.read_body(response, MAX_ANSWER_BYTES, cut=True)
        return Answer(response.status, response.headers, body, response.url)

    # --- how a request goes ----------------------------------------------------------------------------------------

    @property
    def _sender(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("a Session is used inside its `async with`")
        return self._transport

    def _asked(self, tail: str) -> URL:
        """A peer learns which registry it stands for (`ns`, as containerd asks its mirrors)."""
        names_host = self.origin.kind == "peer" and self.origin.host.lower() != DEFAULT_HOST
        return self.path(f"{tail}?ns={quote(self.origin.host, safe='')}" if names_host else tail)

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        data: Body = None,
        *,
        expect: Collection[int] = (),
        follow: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call of the registry protocol: credentials at the origin only, refusals are errors."""
        if same_origin(url, self._base):
            response = await self._authorized(method, url, headers, data, follow=follow)
        else:
            response = await self._walk(method, url, headers, data, "", follow=follow)
        try:
            if response.status >= 400 and response.status not in expect:
                raise await self._refusal(response)
            yield response
        finally:
            response.close()

    async def _authorized(
        self, method: str, url: URL, headers: Mapping[str, str], data: Body, *, follow: bool
    ) -> aiohttp.ClientResponse:
        """One request, and once more when the origin wants to know who asks (store-registry §3.7)."""
        async with self._auth_lock:
            await self._auth.refresh()
        sent = self._auth.header
        response = await self._walk(method, url, headers, data, sent, follow=follow)
        if response.status != HTTPStatus.UNAUTHORIZED or not same_origin(response.url, self._base):
            return response
        response.close()
        challenge = parse_challenge(response.headers.getall("WWW-Authenticate", []))
        if challenge is None:
            raise RegistryAnswered(ACCESS_DENIED, HTTPStatus.UNAUTHORIZED)
        async with self._auth_lock:
            # many parts may meet a token's end at once: the first one asks for the new one
            if self._auth.header == sent:
                await self._auth.answer(challenge)
        response = await self._walk(method, url, headers, data, self._auth.header, follow=follow)
        if response.status == HTTPStatus.UNAUTHORIZED:
            response.close()
            raise RegistryAnswered(ACCESS_DENIED, HTTPStatus.UNAUTHORIZED)
        return response

    async def _walk(
        self, method: str, url: URL, headers: Mapping[str, str], data: Body, authorization: str, *, follow: bool
    ) -> aiohttp.ClientResponse:
        """One request and its redirects. What leaves the origin loses all that is ours, also when it comes back."""
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**headers, "Authorization": authorization} if authorization else headers
            response = await self._sender.send(method, url, sent, data)
            location = response.headers.get("Location", "").strip()
            followed = _REDIRECTS if method in ("GET", "HEAD") else _REPEATABLE
            if not follow or not location or response.status not in followed:
                return response
            response.close()
            target = join_url(url, location)
            self._egress.check_hop(url, target)
            if not same_origin(url, target):
                authorization = ""
                headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
            url = target
        raise RegistryError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def _fetch_token(self, url: URL, headers: Mapping[str, str]) -> bytes:
        response = await self._sender.send("GET", url, headers)
        try:
            if response.status >= 400:
                raise await self._refusal(response)
            if response.status != HTTPStatus.OK:
                raise RegistryError(f"the token server {authority(url)} answered {response.status}")
            return await self._sender.read_body(response, MAX_TOKEN_BYTES)
        finally:
            response.close()

    async def _refusal(self, response: aiohttp.ClientResponse) -> RegistryAnswered:
        """The error of a status from 400 up, in the words of store-registry §3.2."""
        status = response.status
        if status == HTTPStatus.NOT_FOUND:
            return RegistryAnswered("file does not exist", status)
        text = ""
        with suppress(RegistryError):
            body = await self._sender.read_body(response, MAX_ANSWER_BYTES, cut=True)
            text = self.in_words(body)
        return RegistryAnswered(f"{status}: {text}" if text else str(status), status)

    def _entry(self) -> Entry:
        entry = credentials.entry_for(self._network.home, self._network.env, self._host)
        if self._login is None:
            return entry
        return Entry(self._login, entry.realm, entry.ca, entry.insecure_tls)


def _split_base(text: str) -> tuple[URL, Login | None]:
    """An origin's URL, and the login that an operator wrote into it."""
    scheme, mark, rest = text.partition("://")
    place, slash, path = rest.partition("/")
    user_info, at, place = place.rpartition("@")
    if "\\" in user_info:
        raise RegistryError("the registry's address is malformed")
    user, _, password = user_info.partition(":")
    url = parse_url(f"{scheme}{mark}{place}{slash}{path}")
    return url, Login(unquote(user), unquote(password)) if at else None


def _plain(text: str) -> str:
    """A foreign text in one line: no control, format or bidirectional characters."""
    kept = (
        " " if character.isspace() or unicodedata.category(character)[0] == "C" else character for character in text
    )
    return " ".join("".join(kept).split())


__all__ = ["Answer", "Located", "Network", "Origin", "Session", "translated"]

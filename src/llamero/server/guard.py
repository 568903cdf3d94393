"""Who may reach a handler at all: the Host, the Origin and the peer of a request, judged before anything else is read.

It decides and sends nothing: `Guard.check` takes values and returns a `Verdict`.
Source: native-api §1.3 and §1.4; security §6.3 to §6.5, §7, §8, §9.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ..dialects import native
from ..errors import BadRequest, Forbidden, LlameroError
from . import addresses
from .addresses import Address

Role = Literal["none", "infer", "share", "admin"]
"""What a route asks of its caller (security §6.3, §6.4)."""

Rights = Literal["infer", "admin"]
"""What a caller may do (security §6.3)."""

HeaderLines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    """True: on to the handler, whose reply gets `headers` too. False: this is the whole reply; so is a preflight's."""
    status: int = 200
    headers: HeaderLines = ()
    body: bytes = b""
    content_type: str | None = None
    rights: Rights = "admin"
    """Of an allowed request: with `infer`, handlers withhold what security §6.3 reserves."""


def _refuse(error: LlameroError, headers: HeaderLines = ()) -> Verdict:
    return Verdict(False, error.status, headers, native.write_error(error), "application/json; charset=utf-8")


_FORBIDDEN = Verdict(False, 403)
_NO_CONTENT = Verdict(False, 204)

_SEVERAL_HOSTS = _refuse(BadRequest("more than one Host header"))
_NO_HOST = _refuse(BadRequest("missing Host header"))
_BAD_HOST = _refuse(BadRequest("malformed Host header"))

_PUBLIC = Forbidden("forbidden: public addresses are not served, see LLAMERO_INSECURE_PUBLIC")
_FORWARDED = Forbidden(
    "forbidden: a forwarded request may use models but not manage them, see LLAMERO_TRUSTED_PROXIES and OLLAMA_API_KEY"
)


class Guard:
    """The rules of one server. Raises BadRequest for an entry of `origins` or `allowed_hosts` that cannot be meant.

    `origins` is OLLAMA_ORIGINS, `allowed_hosts` LLAMERO_ALLOWED_HOSTS, `insecure_public` LLAMERO_INSECURE_PUBLIC;
    `host_names` are the names of this machine; `own_addresses` is called only where the answer depends on them.
    """

    def __init__(
        self,
        *,
        origins: Sequence[str],
        allowed_hosts: Sequence[str],
        loopback_bind: bool,
        insecure_public: bool,
        host_names: Sequence[str],
        own_addresses: Callable[[], frozenset[Address]],
    ) -> None:
        self._origins = _Origins(origins)
        self._hosts = _Hosts(allowed_hosts, host_names, loopback_bind, own_addresses)
        self._loopback_bind = loopback_bind
        self._insecure_public = insecure_public
        self._own_addresses = own_addresses

    def start_warning(self, listen: str) -> str | None:
        """What to say at start about the address we are bound to; None when only this machine reaches it."""
        if self._loopback_bind:
            return None
        who = "anyone who reaches it" if self._insecure_public else "every machine of the private network"
        return f"{listen} is served without an API key: {who} may use, change and delete models"

    def check(
        self,
        *,
        method: str,
        headers: Iterable[tuple[bytes, bytes]],
        peer: str | None,
        role: Role | None,
        http_version: str = "1.1",
    ) -> Verdict:
        """Judge one request by its head.

        `headers` as ASGI gives them (names in lower case); `peer` is the socket's address, None on a unix socket;
        `role` is that of the route, None for a path that is no route.

        1. No sound Host: 400.
        2. A Host that is not served: 403.
        3. An Origin that is not allowed, or a cross-site request without one: 403, empty.
        4. A peer that is not served: 403.
        5. OPTIONS: 204 for an allowed origin, and for an allowed host name on a loopback bind.
        6. A forwarded request to what needs `admin`: 403.
        """
        head = _Head(headers)

        if len(head.hosts) > 1:  # 1
            return _SEVERAL_HOSTS
        if not head.hosts and http_version == "1.1":
            return _NO_HOST
        host = read_host(head.hosts[0]) if head.hosts else _EMPTY_HOST
        if host is None:
            return _BAD_HOST

        if not self._hosts.serve(host, from_browser=head.from_browser):  # 2
            return self._hosts.refusal

        cors = self._judge_origin(head, host, method)  # 3
        if cors is None:
            return _FORBIDDEN

        near = self._is_near(peer)
        if not near and not self._insecure_public:  # 4
            return _refuse(_PUBLIC, cors)

        if method == "OPTIONS":  # 5
            if cors:
                return Verdict(False, 204, self._origins.preflight_headers(head.origins[0], head.to_private_network))
            if self._loopback_bind and host.address is None:
                return _NO_CONTENT

        # A tunnel or a proxy makes strangers look near. A public peer is served only by LLAMERO_INSECURE_PUBLIC,
        # which lets strangers do everything anyway.
        rights: Rights = "infer" if near and head.forwarded else "admin"
        if rights == "infer" and role not in ("none", "infer", "share"):  # 6
            return _refuse(_FORWARDED, cors)
        return Verdict(True, headers=cors, rights=rights)

    def is_ours(self, host: str) -> bool:
        """Whether a Host header certainly means this machine, so that what was signed for it was meant for us.

        Stricter than what is served: any server may call itself by a name that nobody here has given it.
        """
        read = read_host(host)
        return read is not None and self._hosts.is_ours(read)

    def _judge_origin(self, head: _Head, host: _Host, method: str) -> HeaderLines | None:
        """The CORS headers of the reply, none for the same origin; None: not allowed (security §7 no. 1 to 5)."""
        if not head.origins:
            return None if head.cross_site and method not in ("GET", "HEAD") else ()
        if len(head.origins) > 1:
            return None
        origin = head.origins[0]
        if origin.lower() in (f"http://{host.text}", f"https://{host.text}"):
            return ()
        return self._origins.reply_headers(origin) if self._origins.allow(origin) else None

    def _is_near(self, peer: str | None) -> bool:
        if peer is None:
            return True
        address = addresses.parse(peer)
        return address is not None and addresses.is_near(address, self._own_addresses)


class _Head:
    """What a verdict needs of a request's headers."""

    __slots__ = ("cross_site", "forwarded", "from_browser", "hosts", "origins", "to_private_network")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.hosts: list[str] = []
        self.origins: list[str] = []
        """Without empty ones: no browser sends those, and the reference takes them for absent."""
        self.from_browser = False
        self.cross_site = False
        self.to_private_network = False
        self.forwarded = False
        for name, value in headers:
            if name == b"host":
                self.hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                if value:
                    self.origins.append(value.decode("latin-1"))
                    self.from_browser = True
            elif name == b"user-agent":
                self.from_browser |= value.startswith(b"Mozilla/")
            elif name == b"sec-fetch-site":
                self.cross_site |= value == b"cross-site"
            elif name == b"access-control-request-private-network":
                self.to_private_network |= value == b"true"
            elif name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip", b"cf-connecting-ip"):
                self.forwarded = True


# --- Host (security §8) --------------------------------------------------------------------------------------------

MAX_HOST_CHARS = 260
"""A DNS name of 253 characters, its last dot, a colon and five digits."""

# What DNS and container networks use. Userinfo, blanks, control characters and all else: malformed.
_NAME = r"(?P<name>[a-z0-9._-]*)"
_LITERAL = r"\[(?P<literal>[0-9a-f:.]+)\]"
_HOST = re.compile(rf"(?:{_LITERAL}|{_NAME})(?::[0-9]{{0,5}})?")

_LOCAL_ENDINGS = (".localhost", ".local", ".internal")


@dataclass(frozen=True, slots=True)
class _Host:
    text: str
    """In lower case, else as sent: what an origin of the same host ends with."""
    name: str
    """Without port, brackets and the dot at its end; an IP literal in its usual form."""
    address: Address | None = None
    """When the name is an IP literal."""


_EMPTY_HOST = _Host("", "")


def read_host(text: str) -> _Host | None:
    """The value of a Host header; None when it is malformed."""
    return _read_host(text.lower()) if len(text) <= MAX_HOST_CHARS else None


@lru_cache(maxsize=256)
def _read_host(text: str) -> _Host | None:
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    literal = match["literal"]
    name = literal or match["name"].removesuffix(".")
    address = addresses.parse(name)
    if literal and (address is None or ":" not in literal):
        return None  # brackets are for IPv6
    return _Host(text, str(address or name), address)


class _Hosts:
    """Which hosts are served: the defence against DNS rebinding."""

    def __init__(
        self,
        allowed: Sequence[str],
        host_names: Sequence[str],
        loopback_bind: bool,
        own_addresses: Callable[[], frozenset[Address]],
    ) -> None:
        self._all = "*" in allowed
        listed = [_read_allowed_host(entry) for entry in allowed if entry != "*"]
        given = [name.lower() for name in host_names]
        self._own_names = {"localhost", *given, *(f"{name}.local" for name in given)}
        self._own_names.update(name for name in listed if not name.startswith("."))
        self._listed_endings = tuple(name for name in listed if name.startswith("."))
        self._endings = (*_LOCAL_ENDINGS, *self._listed_endings)
        self._loopback_bind = loopback_bind
        self._own_addresses = own_addresses
        why = "host not allowed, see LLAMERO_ALLOWED_HOSTS"
        warning = (("Llamero-Warning", why),)
        # on a loopback bind the body is empty, as the reference's
        self.refusal = Verdict(False, 403, warning) if loopback_bind else _refuse(Forbidden(why), warning)

    def serve(self, host: _Host, *, from_browser: bool) -> bool:
        if self._all or not host.name or host.name in self._own_names or host.name.endswith(self._endings):
            return True
        if self._loopback_bind:
            return host.address is not None and self._is_local(host.address)
        # Bound wider, other programs may use any name. A page cannot rebind an address, nor a name without a dot.
        return not from_browser or host.address is not None or "." not in host.name

    def is_ours(self, host: _Host) -> bool:
        if self._all or host.name in self._own_names or host.name.endswith(self._listed_endings):
            return True
        return host.address is not None and (host.address.is_loopback or host.address in self._own_addresses())

    def _is_local(self, address: Address) -> bool:
        if address.is_loopback or address.is_unspecified or addresses.is_private(address):
            return True
        return address in self._own_addresses()


def _read_allowed_host(entry: str) -> str:
    """A name, an IP literal, or `.name` for all subdomains; a port is ignored. Raises BadRequest naming the entry."""
    host = read_host(entry.removeprefix("."))
    if host is None or not host.name:
        raise BadRequest(f"LLAMERO_ALLOWED_HOSTS: {entry!r} is not a host: write a name, .name for subdomains, or *")
    return f".{host.name}" if entry.startswith(".") else host.name


# --- Origin (security §7) ------------------------------------------------------------------------------------------

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


class _Origins:
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

"""Who may reach a handler at all: the peer, the Host, the Origin and the key of a request, judged before its body.

It decides and sends nothing: `Guard.check` takes values and returns a `Verdict`. What hosts, origins, peers and keys
are is said in `hosts`, `origins`, `peers` and `keys`. Source: native-api §1.3 and §1.4; security §6 to §8, §9.4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import BadRequest, Forbidden, LlameroError, Unauthorized
from . import addresses
from .addresses import Address
from .attempts import Attempts
from .caller import Rights
from .hosts import NO_HOST, Host, Hosts, read_host
from .keys import Key, Keys
from .origins import HeaderLines, Origins
from .peers import Peers

Role = Literal["none", "infer", "share", "admin"]
"""What a route asks of its caller (security §6.3, §6.4). `share`: an API key will do, or what the share itself takes
for one (store-registry GAP-12)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    """True: on to the handler, whose reply gets `headers` too. False: this is the whole reply; so is a preflight's."""
    status: int = 200
    headers: HeaderLines = ()
    error: LlameroError | None = None
    """What a refusal says; None: nothing at all."""
    rights: Rights = "admin"
    """Of an allowed request: with `infer`, handlers withhold what security §6.3 reserves."""
    key: Key | None = None
    """That the caller has shown, also when it does not suffice."""


def _refuse(error: LlameroError, headers: HeaderLines = (), key: Key | None = None) -> Verdict:
    """The words stand in a header as well: the reply to a HEAD, which is how `ollama` knocks, has no body."""
    return Verdict(False, error.status, (*headers, _warning(str(error))), error, key=key)


def _warning(text: str) -> tuple[str, str]:
    return ("Llamero-Warning", text)


_FORBIDDEN = Verdict(False, 403)
_NO_CONTENT = Verdict(False, 204)
_NO_KEYS = Keys()

_SEVERAL_HOSTS = _refuse(BadRequest("more than one Host header"))
_NO_HOST = _refuse(BadRequest("missing Host header"))
_BAD_HOST = _refuse(BadRequest("malformed Host header"))

_NOT_LISTED = "forbidden: this address may not connect: LLAMERO_ALLOW_IPS does not list {}"
_PUBLIC = Forbidden(
    "forbidden: public addresses are not served without an API key: make one on the server with `ollama key new`, or "
    "see LLAMERO_ALLOW_IPS and LLAMERO_INSECURE_PUBLIC"
)
_FORWARDED = Forbidden(
    "forbidden: a forwarded request may use models but not manage them, see LLAMERO_TRUSTED_PROXIES and OLLAMA_API_KEY"
)
_FOR_ADMINS = Forbidden("forbidden")
_TWO_KEYS = BadRequest("the request shows more than one API key: send Authorization or x-api-key, once")

_HOST_WARNING = "host not allowed, see LLAMERO_ALLOWED_HOSTS"


class Guard:
    """The rules of one server. Raises BadRequest for an entry of a list that cannot be meant.

    `origins` is OLLAMA_ORIGINS, `allowed_hosts` LLAMERO_ALLOWED_HOSTS, `insecure_public` LLAMERO_INSECURE_PUBLIC,
    `allow_ips` LLAMERO_ALLOW_IPS, `trusted_proxies` LLAMERO_TRUSTED_PROXIES, `admin_loopback` LLAMERO_ADMIN_LOOPBACK;
    `host_names` are the names of this machine; `own_addresses` is called only where the answer depends on them; `keys`
    gives those in force, `attempts` counts the wrong ones, `clock` tells seconds since 1970.
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
        allow_ips: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        admin_loopback: bool = False,
        keys: Callable[[], Keys] = lambda: _NO_KEYS,
        attempts: Attempts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origins = Origins(origins)
        self._hosts = Hosts(allowed_hosts, host_names, loopback_bind, own_addresses)
        self._peers = Peers(allow_ips=allow_ips, trusted_proxies=trusted_proxies, own_addresses=own_addresses)
        self._loopback_bind = loopback_bind
        self._insecure_public = insecure_public
        self._admin_loopback = admin_loopback
        self._keys = keys
        self._attempts = attempts or Attempts()
        self._clock = clock
        # on a loopback bind the body is empty, as the reference's
        quiet, aloud = Verdict(False, 403, (_warning(_HOST_WARNING),)), _refuse(Forbidden(_HOST_WARNING))
        self._wrong_host = quiet if loopback_bind else aloud

    @property
    def needs_key(self) -> bool:
        """Whether requests must show an API key."""
        return self._keys().required

    @property
    def lists_addresses(self) -> bool:
        """Whether only some addresses may connect (LLAMERO_ALLOW_IPS)."""
        return self._peers.are_listed

    def start_warning(self, listen: str) -> str | None:
        """What to say at start about the address we are bound to; None when a key is needed, or only we reach it."""
        if self._loopback_bind or self._keys().required:
            return None
        who = "every machine of the private network"
        if self._peers.are_listed:
            who = "every address in LLAMERO_ALLOW_IPS"
        elif self._insecure_public:
            who = "anyone who reaches it"
        return f"{listen} is served without an API key: {who} may use, change and delete models"

    def shuts_out(self, address: str) -> bool:
        """Whether LLAMERO_ALLOW_IPS keeps this address from connecting."""
        return not self._peers.may_connect(address)

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

        1. A peer that LLAMERO_ALLOW_IPS leaves out: 403.
        2. No sound Host: 400.
        3. A Host that is not served: 403.
        4. An Origin that is not allowed, or a cross-site request without one: 403, empty.
        5. Without keys, a peer that is not served: 403.
        6. OPTIONS: 204 for an allowed origin, and for an allowed host name on a loopback bind without keys.
        7. With keys, as `_judge_key` says; without, a forwarded request to what needs `admin`: 403.
        """
        if not self._peers.may_connect(peer):  # 1
            return self._not_listed(peer)
        head = _Head(headers)
        with_keys = self._keys().required

        if len(head.hosts) > 1:  # 2
            return _SEVERAL_HOSTS
        if not head.hosts and http_version == "1.1":
            return _NO_HOST
        host = read_host(head.hosts[0]) if head.hosts else NO_HOST
        if host is None:
            return _BAD_HOST

        is_served = self._hosts.serve(host, from_browser=head.from_browser)  # 3
        # bound wider, a page under another name has no key to show
        if not is_served and (self._loopback_bind or not with_keys):
            return self._wrong_host

        cors = self._judge_origin(head, host, method)  # 4
        if cors is None:
            return _FORBIDDEN

        if not (with_keys or self._may_come(peer)):  # 5
            return _refuse(_PUBLIC, cors)

        if method == "OPTIONS":  # 6
            if cors and (head.is_preflight or not with_keys):
                return Verdict(False, 204, self._origins.preflight_headers(head.origins[0], head.to_private_network))
            if self._loopback_bind and host.address is None and not with_keys:
                return _NO_CONTENT

        if with_keys:  # 7
            is_admin = self._admin_loopback and is_served and not head.forwarded and self._peers.is_loopback(peer)
            return self._judge_key(head, peer, role, cors, is_admin=is_admin)
        rights = self._rights(head, peer)
        if rights == "infer" and role not in ("none", "infer", "share"):
            return _refuse(_FORWARDED, cors)
        return Verdict(True, headers=cors, rights=rights)

    def client(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The address of who asks, for logs and limits: no decision but those may stand on it."""
        lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        return self._peers.client(peer, lines)

    def is_ours(self, host: str) -> bool:
        """Whether a Host header certainly means this machine, so that what was signed for it was meant for us."""
        read = read_host(host)
        return read is not None and self._hosts.is_ours(read)

    def is_local(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the client itself, and no proxy or tunnel for it, runs on this machine."""
        return self._peers.is_loopback(peer) and not any(_tells_forwarding(name) for name, _ in headers)

    def _judge_origin(self, head: _Head, host: Host, method: str) -> HeaderLines | None:
        """The CORS headers of the reply, none for the same origin; None: not allowed (security §7 no. 1 to 5)."""
        if not head.origins:
            return None if head.cross_site and method not in ("GET", "HEAD") else ()
        if len(head.origins) > 1:
            return None
        origin = head.origins[0]
        if origin.lower() in (f"http://{host.text}", f"https://{host.text}"):
            return ()
        return self._origins.reply_headers(origin) if self._origins.allow(origin) else None

    def _judge_key(
        self, head: _Head, peer: str | None, role: Role | None, cors: HeaderLines, *, is_admin: bool
    ) -> Verdict:
        """With keys (security §6.2). `is_admin`: the caller counts as admin without one.

        1. More than one key shown: 400. 2. A good one: what its role may. 3. None that is good: what is open to
        everybody, and the share, which asks for itself. 4. Nothing else, and every path that is no route: 401.
        """
        secrets = head.secrets
        if len(set(secrets)) > 1 or head.repeats_secrets:  # 1
            return _refuse(_TWO_KEYS, cors)
        key = self._keys().find(secrets[0], self._clock()) if secrets else None
        if is_admin:
            return Verdict(True, headers=cors, key=key)
        if key is not None:  # 2
            if key.role == "infer" and role not in ("none", "infer", "share"):
                return _refuse(_FOR_ADMINS, cors, key)
            return Verdict(True, headers=cors, rights=key.role, key=key)
        if role in ("none", "share"):  # 3
            return Verdict(True, headers=cors, rights="infer")
        if not secrets:  # 4
            return _refuse(Unauthorized(), cors)
        return _refuse(self._attempts.failed(self._peers.client(peer, head.forwarded_for), Unauthorized()), cors)

    def _not_listed(self, peer: str | None) -> Verdict:
        """Whoever sits at this machine is told the way out; which address others come by may be a proxy's secret."""
        address = None if peer is None else addresses.parse(peer)
        is_ours = address is not None and address.is_loopback
        missing = f"{address}; add it and start the server again" if is_ours else "it"
        return _refuse(Forbidden(_NOT_LISTED.format(missing)))

    def _may_come(self, peer: str | None) -> bool:
        """Whether a peer is served while there are no keys (security §6.5)."""
        if self._insecure_public or self._peers.are_listed:
            return True
        return self._peers.is_near(peer) or self._peers.is_trusted_proxy(peer)

    def _rights(self, head: _Head, peer: str | None) -> Rights:
        """Of a peer that is served while there are no keys: a tunnel or a proxy makes strangers look near.

        A public peer that only LLAMERO_INSECURE_PUBLIC lets in is none the better for it: strangers may do everything.
        """
        if not head.forwarded or self._peers.is_trusted_proxy(peer):
            return "admin"
        return "infer" if self._peers.is_near(peer) or self._peers.are_listed else "admin"


def _tells_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip", b"cf-connecting-ip")


class _Head:
    """What a verdict needs of a request's headers."""

    __slots__ = (
        "_bearers",
        "_x_api_keys",
        "cross_site",
        "forwarded",
        "forwarded_for",
        "from_browser",
        "hosts",
        "is_preflight",
        "origins",
        "to_private_network",
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.hosts: list[str] = []
        self.origins: list[str] = []
        """Without empty ones: no browser sends those, and the reference takes them for absent."""
        self.from_browser = False
        self.cross_site = False
        self.is_preflight = False
        self.to_private_network = False
        self.forwarded = False
        self.forwarded_for: list[str] = []
        self._bearers: list[bytes] = []
        self._x_api_keys: list[bytes] = []
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
            elif name == b"access-control-request-method":
                self.is_preflight = True
            elif name == b"access-control-request-private-network":
                self.to_private_network |= value == b"true"
            elif name == b"authorization":
                self._bearers.append(_bearer(value))
            elif name == b"x-api-key":
                self._x_api_keys.append(value)
            elif _tells_forwarding(name):
                self.forwarded = True
                if name == b"x-forwarded-for":
                    self.forwarded_for.append(value.decode("latin-1"))

    @property
    def secrets(self) -> list[bytes]:
        """What is shown as a key, without empty ones: clients that have none send those."""
        return [secret for secret in (*self._bearers, *self._x_api_keys) if secret]

    @property
    def repeats_secrets(self) -> bool:
        return len(self._bearers) > 1 or len(self._x_api_keys) > 1


def _bearer(authorization: bytes) -> bytes:
    """The secret of `Bearer SECRET`; empty for another scheme, which is somebody else's: a proxy's, the share's."""
    scheme, _, secret = authorization.partition(b" ")
    return secret if scheme.lower() == b"bearer" else b""

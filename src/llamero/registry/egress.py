"""Where a request may go: the one reading of URLs, the rules for hosts and addresses, the resolver that holds to them.

It sends nothing. Source: security §10.1. What is refused has no public reason to be asked: this machine, its networks,
the metadata services of clouds. Three things lift that: an operator's list, and for the origin (scheme, host and port
that the model's name gives) the trust in who asked, though never for link-local addresses and metadata services.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..errors import Forbidden, RegistryError

Address = IPv4Address | IPv6Address

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port to addresses. Raises OSError."""

ALLOW_LIST = "LLAMERO_ALLOW_PRIVATE_REGISTRIES"

# --- URLs ----------------------------------------------------------------------------------------------------------

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?P<port>:[0-9]{1,5})?"
    r"(?P<rest>(?:[/?][!-~]*)?)",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def parse_url(text: str) -> URL:
    """Read an http or https URL; path and query stay as they are written, a fragment goes.

    User information, a backslash, a control or a foreign character in the authority would let two readers see two
    hosts (CVE-2026-24779, CVE-2026-45400); they are a RegistryError, whose text does not repeat the URL.
    """
    match = _URL.fullmatch(text.partition("#")[0])
    if match is None:
        raise RegistryError("the registry's address is malformed")
    rest = match["rest"]
    start = f"{match['scheme']}://{match['host']}{match['port'] or ''}".lower()
    try:
        url = URL(start + ("" if rest.startswith("/") else "/") + rest, encoded=True)
        literal(url)
    except ValueError as error:
        raise RegistryError("the registry's address is malformed") from error
    return url


def join_url(base: URL, location: str) -> URL:
    """The URL that a `Location` means, seen from `base`. Raises RegistryError."""
    if _ABSOLUTE.match(location):
        return parse_url(location)
    try:
        return parse_url(str(base.join(URL(location, encoded=True))))
    except ValueError as error:
        raise RegistryError("the registry's address is malformed") from error


def same_origin(one: URL, other: URL) -> bool:
    """Scheme, host and port are the same: credentials of one may be sent to the other."""
    return (one.scheme, one.raw_host, one.port) == (other.scheme, other.raw_host, other.port)


def authority(url: URL) -> str:
    """`host`, or `host:port` when the port is not the scheme's own."""
    return url.raw_authority.removesuffix(":443" if url.scheme == "https" else ":80")


def shown(url: URL) -> str:
    """The URL for a person: no query, which may be a signature, and no user information."""
    return f"{url.scheme}://{authority(url)}{url.raw_path}"


def literal(url: URL) -> Address | None:
    """The address that stands in the URL; None when it names its host. Raises ValueError for one in odd digits.

    A last label of digits makes a host an IPv4 address to every C library, in octal or with parts left out too.
    """
    host = url.raw_host or ""
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        return ip_address(host)
    return None


# --- rules ---------------------------------------------------------------------------------------------------------


class Reach(Enum):
    PUBLIC = "public"
    PRIVATE = "private"
    """This machine or its networks."""
    NEVER = "reserved"
    """Link-local, metadata services, and forms that no honest answer has; only an operator's list lifts it."""


_NETWORKS: tuple[tuple[IPv4Network | IPv6Network, Reach], ...] = tuple(
    (ip_network(network), reach)
    for reach, networks in (
        # what lies inside a network of the second row stands in the first
        (Reach.NEVER, "100.100.100.200 168.63.129.16 192.0.0.0/24 fd00:ec2::254 fd20:ce::254"),  # metadata of clouds
        (Reach.PRIVATE, "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 ::1 fc00::/7"),
        (Reach.NEVER, "0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 fe80::/10 fec0::/10 ff00::/8"),
        # an IPv4 address in other clothes: unspecified and compatible, mapped, translated, local NAT64, Teredo, 6to4
        (Reach.NEVER, "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b:1::/48 2001::/32 2002::/16"),
    )
    for network in networks.split()
)
_NAT64 = IPv6Network("64:ff9b::/96")

_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa", "localdomain")
"""Ends of names that no public DNS has: RFC 6761, 6762, 8375, and what routers and offices use."""
_METADATA_NAMES = ("metadata", "instance-data", "metadata.google.internal", "instance-data.ec2.internal")


def reach_of_address(address: Address) -> Reach:
    if address in _NAT64:
        # on a network without IPv4 the resolver writes every IPv4 address of the public net so
        inner = reach_of_address(IPv4Address(int(address) & 0xFFFFFFFF))
        return inner if inner is Reach.PUBLIC else Reach.NEVER
    return next((reach for network, reach in _NETWORKS if address in network), Reach.PUBLIC)


def reach_of_name(name: str) -> Reach:
    """What a name tells without being resolved: all that can be known when a proxy resolves it."""
    name = name.rstrip(".")
    if name in _METADATA_NAMES:
        return Reach.NEVER
    if "." not in name or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES)):
        return Reach.PRIVATE
    return Reach.PUBLIC


@dataclass(frozen=True, slots=True)
class Exemption:
    """One entry of the operator's list: a name, an address or a network, with a port or for every port."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """Read `host`, `host:port`, `10.0.0.0/8`, `10.1.2.3:5000`, `[::1]:5000`. Raises RegistryError."""
        host, port = text.strip().lower(), None
        if (match := re.fullmatch(r"(\[.*\]|[^:]*):([0-9]{1,5})", host)) is not None:
            host, port = match[1], int(match[2])
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            return cls(network=ip_network(host, strict=False), port=port)
        except ValueError:
            if re.fullmatch(r"[a-z0-9_.-]*[a-z_-][a-z0-9_.-]*", host) is None:
                raise RegistryError(f"{ALLOW_LIST}: {text!r} is no host, host:port or network") from None
        return cls(name=host, port=port)

    def means(self, name: str, port: int) -> bool:
        return bool(self.name) and self.name == name and self.port in (None, port)

    def holds(self, address: Address, port: int) -> bool:
        return self.network is not None and address in self.network and self.port in (None, port)


def nobody_listens(address: Address, port: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Egress:
    """The rules for one operation. All refusals are Forbidden, in words that tell nothing about what answered DNS."""

    origin: URL
    may_be_private: bool = False
    """Whoever asked may have the origin itself on this machine or on its networks."""
    exemptions: tuple[Exemption, ...] = ()
    is_own_listener: Callable[[Address, int], bool] = nobody_listens
    """Whether this server itself listens there: asking it would be asking ourselves, without an end."""
    must_be_private: bool = False
    """The origin is asked over plain http without having been called insecure: only near ones may be."""

    def check_url(self, url: URL, *, proxied: bool = False) -> None:
        """Judge what is written: an address, and when a proxy resolves also a name."""
        address = literal(url)
        if address is not None:
            self._judge(url.raw_host or "", url.port or 0, address, is_origin=same_origin(url, self.origin))
        elif proxied:
            self._judge(url.raw_host or "", url.port or 0, None, is_origin=same_origin(url, self.origin))

    def check_addresses(self, host: str, port: int, addresses: Iterable[Address]) -> None:
        """Judge everything a name resolved to: one bad address among good ones refuses them all."""
        is_origin = (host, port) == (self.origin.raw_host, self.origin.port)
        for address in addresses:
            self._judge(host, port, address, is_origin=is_origin)

    def check_hop(self, source: URL, target: URL) -> None:
        """Judge a step to another URL that an answer asks for: what was encrypted stays so."""
        if source.scheme == "https" and target.scheme != "https":
            raise Forbidden(f"{authority(source)} leads from https to http: refused")

    def _judge(self, host: str, port: int, address: Address | None, *, is_origin: bool) -> None:
        is_own = address is not None and self.is_own_listener(address, port)
        reach = reach_of_name(host) if address is None else Reach.NEVER if is_own else reach_of_address(address)
        if reach is Reach.PUBLIC and is_origin and self.must_be_private:
            raise Forbidden("insecure protocol http")
        if reach is Reach.PUBLIC or (reach is Reach.PRIVATE and self.may_be_private and is_origin):
            return
        for exemption in self.exemptions:
            if is_own and exemption.port is None:
                continue  # a network that holds this server is not meant to make it ask itself
            if exemption.means(host, port) or (address is not None and exemption.holds(address, port)):
                return
        what = "this server itself" if is_own else f"a {reach.value} address"
        raise Forbidden(f"{host}:{port} is {what}: {ALLOW_LIST} does not name it")


# --- names to addresses --------------------------------------------------------------------------------------------


async def system_lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except UnicodeError as error:  # Python's word for a label of more than 63 characters
        raise OSError(None, "no such host") from error
    return [str(info[4][0]) for info in found]


class CheckedResolver(AbstractResolver):
    """Resolves, judges every address, and hands exactly those to the connection: nobody looks a name up again."""

    def __init__(self, egress: Egress, lookup: Lookup = system_lookup) -> None:
        self._egress = egress
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = [ip_address(text) for text in await self._lookup(host, port)]
        self._egress.check_addresses(host, port, addresses)
        if not addresses:
            raise OSError(None, "no address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held open."""

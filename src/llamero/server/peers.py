"""Where a request comes from: the socket's peer, and the client behind it as far as a trusted proxy tells it.

Which peer may do what is decided in `guard`. Source: security §6.5, §6.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..errors import BadRequest
from . import addresses
from .addresses import Address


class Networks:
    """Addresses and CIDRs of a setting. Raises BadRequest naming an entry that is neither."""

    def __init__(self, setting: str, entries: Iterable[str]) -> None:
        self._networks = [_read_network(setting, entry) for entry in entries]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


class Peers:
    """What the settings of one server say about addresses.

    `allow_ips` is LLAMERO_ALLOW_IPS, `trusted_proxies` LLAMERO_TRUSTED_PROXIES. A peer is None on a unix socket, whose
    file's mode says who may connect: it is near, and no list is about it.
    """

    def __init__(
        self,
        *,
        allow_ips: Sequence[str],
        trusted_proxies: Sequence[str],
        own_addresses: Callable[[], frozenset[Address]],
    ) -> None:
        self._allowed = Networks("LLAMERO_ALLOW_IPS", allow_ips)
        self._proxies = Networks("LLAMERO_TRUSTED_PROXIES", trusted_proxies)
        self._own_addresses = own_addresses

    @property
    def are_listed(self) -> bool:
        """Whether only some may connect."""
        return bool(self._allowed)

    def may_connect(self, peer: str | None) -> bool:
        return peer is None or not self._allowed or addresses.parse(peer) in self._allowed

    def is_trusted_proxy(self, peer: str | None) -> bool:
        return peer is not None and addresses.parse(peer) in self._proxies

    def is_near(self, peer: str | None) -> bool:
        """This machine, or on a private network."""
        if peer is None:
            return True
        address = addresses.parse(peer)
        return address is not None and addresses.is_near(address, self._own_addresses)

    def is_loopback(self, peer: str | None) -> bool:
        address = None if peer is None else addresses.parse(peer)
        return peer is None or (address is not None and address.is_loopback)

    def client(self, peer: str | None, forwarded_for: Sequence[str]) -> str:
        """The address of who asks: of the peer, or the last one that a trusted proxy does not know for a proxy.

        `forwarded_for` are the X-Forwarded-For lines in their order. Each proxy adds the address that it sees at the
        end, so what stands before the last untrusted one may be made up. Empty on a unix socket.
        """
        if not forwarded_for or not self.is_trusted_proxy(peer):
            return peer or ""
        hops = [addresses.parse(hop.strip()) for hop in ",".join(forwarded_for).split(",")]
        for hop in reversed(hops):
            if hop is None:
                return peer or ""
            if hop not in self._proxies:
                return str(hop)
        return str(hops[0])


def _read_network(setting: str, entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        raise BadRequest(f"{setting}: {entry!r} is neither an address nor a network such as 192.168.1.0/24") from None

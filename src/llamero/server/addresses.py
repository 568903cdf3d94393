"""IP addresses: which are this machine's own, which are near, which are one party's. `guard` says what a peer may do.

Source: security §5 (floods), §6.2, §6.5 and §6.6 (peers) and §8 (addresses in a Host header).
"""

from __future__ import annotations

import ctypes
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

logger = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

MAX_AGE_S = 10.0
"""How long a listing of the interfaces is used: a laptop that changes its network is served again within seconds."""

IPV6_PARTY_BITS = 64
"""What a network at home is given, and a customer at the least: the rest of an address costs nothing to change."""

# Not `is_private` of the standard library: that counts documentation and benchmark networks too.
_PRIVATE = tuple(ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
_NEAR = (*_PRIVATE, *(ip_network(text) for text in ("100.64.0.0/10", "169.254.0.0/16", "fe80::/10")))


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """An IP literal without brackets, less its zone; an IPv4 address mapped into IPv6 becomes IPv4. None: not one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


@lru_cache(maxsize=1024)
def party(text: str) -> str:
    """For whom an address counts wherever something is limited per address: an IPv6 address for all of its /64.

    What is no address, such as the empty text of a unix socket, stands for itself.
    """
    match parse(text):
        case IPv6Address() as address:
            return str(IPv6Network((int(address), IPV6_PARTY_BITS), strict=False))
        case IPv4Address() as address:
            return str(address)
    return text


def is_private(address: Address) -> bool:
    """RFC 1918 or fc00::/7."""
    return any(address in network for network in _PRIVATE)


def is_near(address: Address, own: Callable[[], frozenset[Address]]) -> bool:
    """Whether a peer is this machine or on a private network; `own` is asked only when the address does not tell."""
    if address.is_loopback or any(address in network for network in _NEAR):
        return True
    mine = own()
    return address in mine or any(_same_link(address, other) for other in mine)


def _same_link(address: Address, own: Address) -> bool:
    # home networks give every machine a public IPv6 address out of one /64
    if not isinstance(address, IPv6Address) or not isinstance(own, IPv6Address) or own.is_loopback:
        return False
    return int(address) >> 64 == int(own) >> 64


class OwnAddresses:
    """The addresses of this machine's interfaces, listed anew when asked and older than MAX_AGE_S.

    A listing that fails leaves the one before in force (at first: none), so doubt never lets a stranger in.
    """

    def __init__(
        self,
        listing: Callable[[], frozenset[Address]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listing = listing or list_addresses
        self._clock = clock
        self._addresses: frozenset[Address] = frozenset()
        self._expires_s = float("-inf")

    def __call__(self) -> frozenset[Address]:
        now_s = self._clock()
        if now_s >= self._expires_s:
            self._expires_s = now_s + MAX_AGE_S
            try:
                self._addresses = self._listing()
            except OSError as exc:
                logger.warning("cannot list the addresses of this machine: %s", exc)
        return self._addresses


def list_addresses() -> frozenset[Address]:
    """Every address of every interface, loopback included. Raises OSError."""
    if sys.platform == "win32":
        # the Windows resolver answers the machine's own name from its interfaces, without asking the network
        found = (parse(str(info[4][0])) for info in socket.getaddrinfo(socket.gethostname(), None))
    else:
        # elsewhere the resolver may wait for the network, and knows only what somebody wrote down
        found = _interfaces()
    return frozenset(address for address in found if address is not None)


class _Interface(ctypes.Structure):
    """The head of `struct ifaddrs`, which Linux, macOS and the BSDs share."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("socket_address", ctypes.c_void_p),
]


def _interfaces() -> Iterator[Address | None]:
    """What getifaddrs(3) lists; None for an entry that is not an IP address."""
    first = ctypes.POINTER(_Interface)()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.getifaddrs(ctypes.byref(first))
    except AttributeError as exc:
        raise OSError("the C library has no getifaddrs") from exc
    if failed:
        raise OSError(ctypes.get_errno(), "getifaddrs failed")
    try:
        entry = first
        while entry:
            yield _read_socket_address(entry.contents.socket_address)
            entry = entry.contents.next
    finally:
        libc.freeifaddrs(first)


def _read_socket_address(pointer: int | None) -> Address | None:
    """`struct sockaddr_in` or `sockaddr_in6`: where the address lies in it is the same on every system."""
    if pointer is None:
        return None
    # BSD puts a byte of length before a byte of family, Linux has two bytes of family
    head = ctypes.string_at(pointer, 2)
    family = int.from_bytes(head, sys.byteorder) if sys.platform == "linux" else head[1]
    if family == socket.AF_INET:
        return IPv4Address(ctypes.string_at(pointer + 4, 4))
    if family == socket.AF_INET6:
        return IPv6Address(ctypes.string_at(pointer + 8, 16))
    return None

"""Which hosts are served: the defence against DNS rebinding. Names only; who asks is judged in `guard`.

Source: security §8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadRequest
from . import addresses
from .addresses import Address

MAX_HOST_CHARS = 260
"""A DNS name of 253 characters, its last dot, a colon and five digits."""

# What DNS and container networks use. Userinfo, blanks, control characters and all else: malformed.
_NAME = r"(?P<name>[a-z0-9._-]*)"
_LITERAL = r"\[(?P<literal>[0-9a-f:.]+)\]"
_HOST = re.compile(rf"(?:{_LITERAL}|{_NAME})(?::[0-9]{{0,5}})?")

_LOCAL_ENDINGS = (".localhost", ".local", ".internal")


@dataclass(frozen=True, slots=True)
class Host:
    text: str
    """In lower case, else as sent: what an origin of the same host ends with."""
    name: str
    """Without port, brackets and the dot at its end; an IP literal in its usual form."""
    address: Address | None = None
    """When the name is an IP literal."""


NO_HOST = Host("", "")


def read_host(text: str) -> Host | None:
    """The value of a Host header; None when it is malformed."""
    return _read_host(text.lower()) if len(text) <= MAX_HOST_CHARS else None


@lru_cache(maxsize=256)
def _read_host(text: str) -> Host | None:
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    literal = match["literal"]
    name = literal or match["name"].removesuffix(".")
    address = addresses.parse(name)
    if literal and (address is None or ":" not in literal):
        return None  # brackets are for IPv6
    return Host(text, str(address or name), address)


class Hosts:
    """The rules of one server. Raises BadRequest for an entry of `allowed` that cannot be meant."""

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

    def serve(self, host: Host, *, from_browser: bool) -> bool:
        if self._all or not host.name or host.name in self._own_names or host.name.endswith(self._endings):
            return True
        if self._loopback_bind:
            return host.address is not None and self._is_local(host.address)
        # Bound wider, other programs may use any name. A page cannot rebind an address, nor a name without a dot.
        return not from_browser or host.address is not None or "." not in host.name

    def is_ours(self, host: Host) -> bool:
        """Stricter than what is served: any server may call itself by a name that nobody here has given it."""
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

"""Who has the address that we cannot have, told to the person who started us. It looks, and changes nothing.

Source: cli §3.1 (GAP), issue "a clear `address already in use` message". What listens is read from Linux's /proc, as
far as this user may look; what it is, by asking it for `/api/version`.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..config import HostUrl
from .native import VersionReply

PROBE_TIMEOUT_S = 1.0
MAX_PROBE_BYTES = 4096
MAX_COMMAND_CHARS = 100
"""Of a command line that is shown."""

_LISTENING = "0A"
"""A TCP state, as the tables of /proc/net number them."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A process that listens."""

    pid: int
    command: str
    unit: str = ""
    """The systemd unit it belongs to, when it is a service."""
    is_users: bool = False
    """Whether that is one of a user's own manager."""

    @property
    def how_to_stop(self) -> str:
        if self.unit:
            return f"systemctl {'--user ' if self.is_users else ''}stop {self.unit.removesuffix('.service')}"
        return f"taskkill /pid {self.pid}" if sys.platform == "win32" else f"kill {self.pid}"


def explain(host: HostUrl) -> str:
    """What follows `address already in use`: who is there, as far as that can be known, and the ways out."""
    occupant = find(host.host, host.port)
    if occupant is not None and occupant.pid == os.getpid():
        return ": another address in the list covers it; leave one of them out"
    elsewhere = "choose another address with --listen or OLLAMA_HOST"
    stop = f"stop it ({occupant.how_to_stop})" if occupant else "stop it"
    process = f"{occupant.command} (pid {occupant.pid})" if occupant else ""
    if version := _version(host.for_clients):
        who = f"an ollama server, version {version}, is already running there"
        return f": {who}{f': {process}' if process else ''}; use it, {stop}, or {elsewhere}"
    if occupant:
        return f": {process} listens there; {stop}, or {elsewhere}"
    return f": stop the program that listens there, or {elsewhere}"


def find(host: str, port: int) -> Occupant | None:
    """The process that keeps us from listening there; None where the system does not tell us."""
    inodes = set(_listening(host, port))
    return next(_holders(inodes), None) if inodes else None


def _listening(host: str, port: int) -> Iterator[str]:
    """The inodes of listening TCP sockets at `port` whose address is `host`, or stands for every address, or would."""
    try:
        ours = ipaddress.ip_address(host or "::")
    except ValueError:
        ours = ipaddress.ip_address("::")
    for table in ("tcp", "tcp6"):
        try:
            rows = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *_, inode = row.split()[:10]
            address, _, its_port = local.partition(":")
            if state == _LISTENING and int(its_port, 16) == port:
                theirs = _address(address)
                if ours == theirs or ours.is_unspecified or theirs.is_unspecified:
                    yield inode


def _address(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of /proc/net: groups of four bytes, each as this machine keeps a number."""
    raw = bytes.fromhex(digits)
    groups = [raw[start : start + 4] for start in range(0, len(raw), 4)]
    ordered = b"".join(group[::-1] if sys.byteorder == "little" else group for group in groups)
    address = ipaddress.ip_address(ordered)
    return getattr(address, "ipv4_mapped", None) or address


def _holders(inodes: set[str]) -> Iterator[Occupant]:
    """The processes that have one of these sockets open, of those that this user may look into."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # not ours to look into, or gone meanwhile
                if any(os.readlink(link) in wanted for link in (entry / "fd").iterdir()):
                    yield _occupant(entry)


def _occupant(process: Path) -> Occupant:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if Path(words[0]).name.startswith("python") and words[1:2] and not words[1].startswith("-"):
        del words[0]  # the script is what people know it by
    command = " ".join(filter(None, [Path(words[0]).name, *words[1:]])) or (process / "comm").read_text().strip()
    shown = "".join(char if char.isprintable() else "?" for char in command)
    unit, is_users = "", False
    with contextlib.suppress(OSError):
        places = (process / "cgroup").read_text().strip().rpartition("\n")[2].split("/")
        unit = places[-1] if places[-1].endswith(".service") and not places[-1].startswith("user@") else ""
        is_users = any(place.startswith("user@") for place in places)
    return Occupant(int(process.name), shown[:MAX_COMMAND_CHARS], unit, is_users)


def _version(host: HostUrl) -> str:
    """The version of the server there, when it is one of our kind: most often somebody started one and forgot it."""
    try:
        connection = http.client.HTTPConnection(host.host, host.port, timeout=PROBE_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/api/version")
            body = connection.getresponse().read(MAX_PROBE_BYTES)
        version = msgspec.json.decode(body, type=VersionReply).version
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return ""
    return "".join(character for character in version if character.isalnum() or character in ".-+")[:20]

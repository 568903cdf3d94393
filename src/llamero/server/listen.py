"""Where we listen: addresses bound as they were asked for, and never another one in place of one that is taken.

It accepts nothing; what comes in is the event loop's. Source: cli §3.1, §9.1, §11; security §9.1; systemd's
sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import HostUrl, Settings
from ..errors import LlameroError
from . import occupant

BACKLOG = 2048
"""Connections that the system holds for us: those of a restart, and of a burst."""

UNIX_MODE = 0o660
"""Of a socket file: its owner and group may connect."""

FIRST_DESCRIPTOR = 3
"""Of the sockets that a service manager hands over."""

MAX_ACTIVATED = 64
"""More sockets than any unit file lists."""

VIA_ACTIVATION = "socket activation"


class CannotListen(LlameroError):
    """An address could not be bound."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket."""

    socket: socket.socket
    host: HostUrl
    """What it is bound to: the port is the real one, a name has become its address."""
    via: str
    """Who said so: `OLLAMA_HOST`, `--listen`, `config.toml`, `socket activation` or `default`."""
    file: tuple[int, int] | None = None
    """Device and inode of the socket file that we made."""

    @property
    def shown(self) -> str:
        return self.host.url if self.host.is_unix else self.host.netloc

    @property
    def own_address(self) -> str | None:
        """By which programs on this machine come; None by a socket file."""
        if self.host.is_unix:
            return None
        return "127.0.0.1" if self.host.host in ("", "0.0.0.0", "::") else self.host.host

    @property
    def is_for_everybody(self) -> bool:
        """Whether its socket file lets every account of this machine connect: one of systemd's, unless it is told."""
        with contextlib.suppress(OSError):  # one without a file
            return self.host.is_unix and bool(Path(self.host.path).stat().st_mode & stat.S_IWOTH)
        return False

    def close(self) -> None:
        """Let go of the address. Our socket file goes too, unless another server has put its own there meanwhile."""
        if self.file is not None:
            path = Path(self.host.path)
            with contextlib.suppress(OSError), _folder_locked(path.parent):
                if _identity(path) == self.file:
                    path.unlink()
        self.socket.close()


def listen(settings: Settings) -> tuple[Listener, ...]:
    """Every address of the settings, or the sockets that a service manager has opened for us. All of them or none.

    Raises CannotListen, naming the address, and what to do.
    """
    if activated := tuple(_activated(settings.activation)):
        return activated
    with contextlib.ExitStack() as opened:
        listeners = []
        for host in dict.fromkeys(settings.listen):
            if host.scheme == "https" and settings.tls_cert is None:
                raise CannotListen(
                    f"{host.url} asks for TLS, which needs a certificate: set LLAMERO_TLS_CERT and LLAMERO_TLS_KEY"
                )
            listeners.append(listener := _listener(host, settings.listen_via))
            opened.callback(listener.close)
        opened.pop_all()
    return tuple(listeners)


def _listener(host: HostUrl, via: str) -> Listener:
    if host.is_unix:
        return Listener(_bind_unix(host), host, via, _identity(Path(host.path)))
    if host.scheme not in ("http", "https"):
        raise CannotListen(f"cannot listen on {host.url}: write an address and a port, http://, https:// or unix:")
    listening = _bind(host)
    return Listener(listening, _where(listening, host.scheme), via)


def _where(listening: socket.socket, scheme: str) -> HostUrl:
    if _is_unix(listening):
        return HostUrl("unix", "localhost", 0, str(listening.getsockname()))
    address, port = listening.getsockname()[:2]
    return HostUrl(scheme, address, port)


# --- TCP -----------------------------------------------------------------------------------------------------------


def _bind(host: HostUrl) -> socket.socket:
    """A listening socket. An empty host is every address of the machine, IPv6 and IPv4."""
    target = host.host or "::"
    try:
        found = socket.getaddrinfo(target, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        raise CannotListen(f"listen tcp: lookup {host.host}: {reason}; write an address of this machine") from error
    # a name may have several addresses; Go, and hence the reference, takes the first IPv4 one
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    try:
        with contextlib.ExitStack() as opened:
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            if sys.platform == "win32":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # REUSEADDR means to steal there
            else:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if target == "::" else 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            opened.pop_all()
    except OSError as error:
        if not host.host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return _bind(replace(host, host="0.0.0.0"))  # a machine without IPv6: these are all it has
        raise CannotListen(f"listen tcp {host.netloc}: bind: {_reason(error)}{_advice(host, error)}") from error
    return listening


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _advice(host: HostUrl, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return occupant.explain(host)
    if error.errno in (errno.EACCES, errno.EPERM) and host.port < 1024:
        return ": ports below 1024 are for root; choose a higher one, such as 11434"
    if error.errno == errno.EADDRNOTAVAIL:
        return ": no network of this machine has it; :11434 stands for all of its addresses"
    return ""


# --- unix sockets --------------------------------------------------------------------------------------------------


def _bind_unix(host: HostUrl) -> socket.socket:
    """A listening unix socket. A file that a server left behind is replaced; one that somebody answers at is not."""
    path = Path(host.path)
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        raise CannotListen(f"cannot listen on {host.url}: there are no unix sockets on this system")
    if not path.is_absolute():
        raise CannotListen(f"cannot listen on {host.url}: write the whole path, such as unix:/run/llamero.sock")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _folder_locked(path.parent):
            _remove_stale(path)
            listening.bind(str(path))
            path.chmod(UNIX_MODE)  # nobody gets in before `listen`
            listening.listen(BACKLOG)
    except CannotListen:
        listening.close()
        raise
    except OSError as error:  # a path that is too long has no number
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(f"listen {host.url}: bind: {reason}") from error
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotListen(f"listen unix:{path}: bind: something else has this name; choose another, or remove it")
    if _answers(str(path)):
        raise CannotListen(
            f"listen unix:{path}: bind: address already in use: a server listens there; use it, stop it, "
            "or choose another path"
        )
    path.unlink()


def _answers(path: str) -> bool:
    """Whether a process listens at this socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(occupant.PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # such as one whose backlog is full, or that is not for us: somebody's in any case
            return True
    return True


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Of two servers that start at once, only one may take the other's new socket for one that was left behind."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_unix(listening: socket.socket) -> bool:
    return listening.family == getattr(socket, "AF_UNIX", None)


# --- socket activation ---------------------------------------------------------------------------------------------


def _activated(variables: Mapping[str, str], pid: int | None = None) -> Iterator[Listener]:
    """The sockets that systemd, or whoever follows its protocol, opened for this very process."""
    if variables.get("LISTEN_PID") != str(pid or os.getpid()):
        return  # none, or a parent's
    count = variables.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit() and 0 < int(count) <= MAX_ACTIVATED):
        raise CannotListen(f"LISTEN_FDS={count!r} is no number of sockets")
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        try:
            listening = socket.socket(fileno=descriptor)
            is_listening = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise CannotListen(f"socket activation: descriptor {descriptor}: {_reason(error)}") from error
        if not is_listening or listening.type != socket.SOCK_STREAM:
            raise CannotListen("socket activation: a socket does not listen; use ListenStream= and Accept=no")
        listening.set_inheritable(False)
        yield Listener(listening, _where(listening, "http"), VIA_ACTIVATION)


# --- what is said about it -----------------------------------------------------------------------------------------


def exposure(listeners: Sequence[Listener], *, has_tls: bool, has_key: bool, has_allow_list: bool) -> str | None:
    """What to say at start when other machines reach us (security §9.1); None when none does."""
    wide = [each.shown for each in listeners if not each.host.is_loopback]
    if not wide:
        return None

    def state(name: str, on: bool) -> str:
        return f"{name} {'on' if on else 'off'}"

    means = ", ".join((state("TLS", has_tls), state("API key", has_key), state("address list", has_allow_list)))
    return f"other machines can reach {', '.join(wide)}: {means}; see {SECURITY_GUIDE}"


SECURITY_GUIDE = "https://github.com/llamero/llamero/blob/main/docs/security.md"

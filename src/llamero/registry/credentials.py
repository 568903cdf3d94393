"""What the user wrote down about registries: names and passwords, token servers, certificates.

Source: store-registry GAP-05, §3.7 no. 7. Our file is `<home>/llamero/registries.json`, Docker's format with three keys
more; Docker's own `config.json` is read for its `auths`, its helper programs are not. It sends nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..errors import RegistryError
from ..store.files import open_regular

MAX_FILE_BYTES = 2**20
"""Docker keeps a few hundred bytes per registry."""

HUB_HOSTS = ("hf.co", "huggingface.co")


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Entry:
    """One registry's entry. Empty values are absent ones."""

    login: Login | None = None
    realm: str = ""
    """URL of a token server on another host, which may have the login."""
    ca: str = ""
    """Path of certificates (PEM) that are trusted for this registry besides the system's."""
    insecure_tls: bool = False
    """https without a look at the certificate."""


class _Auth(msgspec.Struct):
    auth: str = ""
    realm: str = ""
    ca: str = ""
    insecure_tls: bool = False


class _File(msgspec.Struct):
    auths: dict[str, _Auth] = {}


def own_entry(home: Path, host: str) -> Entry:
    """What our file says about `host` (with its port unless that is the scheme's own). Raises RegistryError."""
    return _entry(home / "llamero" / "registries.json", "llamero/registries.json", host)


def entry_for(home: Path, env: Mapping[str, str], host: str) -> Entry:
    """The same, with the login of Docker's file where ours has none. Raises RegistryError."""
    own = own_entry(home, host)
    if own.login is not None:
        return own
    folder = env.get("DOCKER_CONFIG", "").strip()
    path = (Path(folder).expanduser() if folder else Path.home() / ".docker") / "config.json"
    login = _entry(path, "Docker's config.json", host).login
    return Entry(login, own.realm, own.ca, own.insecure_tls)


def hub_token(env: Mapping[str, str], scheme: str, host: str) -> str:
    """HF_TOKEN for the hub itself, encrypted, and for nobody else (store-registry GAP-06); else empty."""
    token = env.get("HF_TOKEN", "").strip()
    return token if scheme == "https" and host in HUB_HOSTS and re.fullmatch(r"[!-~]+", token) else ""


def _entry(path: Path, label: str, host: str) -> Entry:
    for key, auth in _read(path, label).auths.items():
        if _host(key) == host:
            return Entry(_login(auth.auth, label, host), auth.realm, auth.ca, auth.insecure_tls)
    return Entry()


def _read(path: Path, label: str) -> _File:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise RegistryError(f"cannot read {label}: {error.strerror}") from error
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError
        return msgspec.json.decode(data, type=_File)
    except (ValueError, RecursionError):
        # the cause would show a line of the file
        raise RegistryError(f"{label} is malformed") from None


def _host(key: str) -> str:
    """Docker's keys are hosts, or URLs of them."""
    scheme, _, rest = key.lower().rpartition("://")
    host = rest.partition("/")[0]
    return host.removesuffix(":80" if scheme == "http" else ":443")


def _login(auth: str, label: str, host: str) -> Login | None:
    if not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise RegistryError(f"{label} is malformed: auth of {host} is not user:password in base64") from None
    return Login(user, password.rstrip("\0"))

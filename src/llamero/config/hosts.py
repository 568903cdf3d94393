"""Where a server is: `OLLAMA_HOST` and other addresses, as people write them (cli §9)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace

from .words import clean


@dataclass(frozen=True, slots=True)
class HostUrl:
    """Where a server is, as OLLAMA_HOST says it. An empty `host` means every interface."""

    scheme: str
    """`http`, `https` or `unix`; whatever else was written there is refused by whoever would have to speak it."""
    host: str
    port: int
    path: str = ""
    """Base path without a trailing slash: clients put it before every API path. Of a unix socket the file."""
    user_info: str = field(default="", repr=False)
    """`user:password` for Basic auth, still percent-encoded; no text that we print ever holds it."""

    @property
    def is_unix(self) -> bool:
        return self.scheme == "unix"

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"unix:{self.path}" if self.is_unix else f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def for_clients(self) -> HostUrl:
        """The address to connect to: an unspecified one becomes loopback (cli §9.2)."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return replace(self, host=host)

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}


def parse_host(text: str) -> tuple[HostUrl, list[str]]:
    """Read one OLLAMA_HOST value by the algorithm of cli §9.1, or `unix:` and a path. Returns it and the warnings."""
    warnings: list[str] = []
    text = clean(text)
    if text == "ollama.com":
        text = "https://ollama.com:443"
    if text[:5].lower() == "unix:":
        return HostUrl("unix", "localhost", 0, text[5:].removeprefix("//")), warnings
    scheme, default_port = "http", DEFAULT_PORT
    if "://" in text:
        scheme, _, text = text.partition("://")
        scheme = scheme.lower()
        default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT)
    text, slash, path = text.partition("/")
    user_info, _, text = text.rpartition("@")
    host, port_text = _split_port(text)
    port = default_port
    if port_text is not None:
        # Go's Atoi: no blanks, no underscores; a sign is a number out of range
        if port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
            port = int(port_text)
        else:
            warnings.append(f"invalid port, using default port={port_text} default={default_port}")
    return HostUrl(scheme, host, port, f"/{path}".rstrip("/") if slash else "", user_info), warnings


def _split_port(text: str) -> tuple[str, str | None]:
    """Host and port text; the port is None when the value has none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), None
    except ValueError:
        return text or "127.0.0.1", None


def parse_hosts(text: str) -> tuple[tuple[HostUrl, ...], list[str]]:
    """Read addresses with commas between them; an empty text is the default one. Returns them and the warnings."""
    read = [parse_host(part) for part in text.split(",") if clean(part)] or [parse_host("")]
    return tuple(host for host, _ in read), [warning for _, warnings in read for warning in warnings]


_BASE_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


def is_base_url(text: str) -> bool:
    """Whether it is what other paths can be put behind: no query, no fragment."""
    return _BASE_URL.fullmatch(text) is not None

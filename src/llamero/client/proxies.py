"""Forward proxies on the way to an address, by the rules that Go programs follow. Source: cli §9.3."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import HostUrl, parse_host
from ..errors import ClientError
from .credentials import basic


@dataclass(frozen=True, slots=True)
class Proxies:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

    http: str = ""
    https: str = ""
    bypass: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Proxies:
        def read(name: str) -> str:
            return (env.get(name) or env.get(name.lower()) or "").strip()

        bypass = (part.strip().lower() for part in read("NO_PROXY").split(","))
        return cls(read("HTTP_PROXY"), read("HTTPS_PROXY"), tuple(part for part in bypass if part))

    def for_host(self, host: HostUrl) -> str:
        """The proxy to ask for `host`, or an empty text. Loopback never goes through one."""
        proxy = self.https if host.scheme == "https" else self.http
        if not proxy or host.is_loopback or any(matches(pattern, host) for pattern in self.bypass):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def matches(pattern: str, host: HostUrl) -> bool:
    """Whether one NO_PROXY entry means `host`: `*`, a name, `.domain`, an address, a network; most may have a port."""
    if pattern == "*":
        return True
    name, colon, port = pattern.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        if int(port) != host.port:
            return False
        pattern = name
    pattern = pattern.strip("[]")
    asked = host.host.lower()
    try:
        return ipaddress.ip_address(asked) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        pass
    if pattern.startswith("."):
        return asked.endswith(pattern)
    return asked == pattern or asked.endswith(f".{pattern}")


def split_proxy(text: str) -> HostUrl:
    host, warnings = parse_host(text)
    if host.scheme != "http" or not host.host or warnings:
        raise ClientError(f"unusable proxy for requests to OLLAMA_HOST: {host.url}; set an http:// proxy or NO_PROXY")
    return host


def proxy_headers(proxy: HostUrl) -> dict[str, str]:
    return {"Proxy-Authorization": basic(proxy.user_info)} if proxy.user_info else {}

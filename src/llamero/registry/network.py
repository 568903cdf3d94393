"""Single HTTP requests to registries: certificates, proxies, limits of time, and our errors for the library's.

It follows no redirect and answers no challenge; `session` does. Source: store-registry §3.6, GAP-05, security §10.1.
"""

from __future__ import annotations

import asyncio
import os
import platform
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import aiohttp
from yarl import URL

from .. import API_LEVEL, __version__
from ..client import Proxies
from ..config import HostUrl
from ..errors import LlameroError, RegistryError
from . import credentials
from .egress import (
    Address,
    CheckedResolver,
    Egress,
    Lookup,
    authority,
    nobody_listens,
    shown,
    system_lookup,
)

Body = bytes | Callable[[], AsyncIterator[bytes]] | None
"""What a request carries; a stream is a function, so that a request can be repeated."""

READ_BLOCK_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Network:
    """How this server reaches registries. Made once, out of its settings."""

    home: Path
    """`~/.ollama`: the key pair and `llamero/registries.json`."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`Settings.registry_env`: proxies, certificates, HF_TOKEN, DOCKER_CONFIG."""
    allow_private: tuple[str, ...] = ()
    """LLAMERO_ALLOW_PRIVATE_REGISTRIES."""
    connect_timeout_s: float = 10.0
    """Name, connection and TLS together."""
    first_byte_timeout_s: float = 30.0
    """Also the longest pause inside an answer."""
    answer_timeout_s: float = 120.0
    """The whole of a small answer, whose largest is a manifest of 4 MiB: a peer that drips bytes is given up."""
    is_own_listener: Callable[[Address, int], bool] = nobody_listens
    lookup: Lookup = system_lookup


_GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def user_agent() -> str:
    """The form that registries parse and the level they compare (cli §1, §3.14), and who we are."""
    machine = platform.machine().lower()
    system = platform.system().lower()
    return f"ollama/{API_LEVEL} ({_GO_MACHINES.get(machine, machine)} {system}) Go/go1.24 llamero/{__version__}"


class Transport:
    """Sends requests where `egress` lets them go. One event loop; close it in the same."""

    def __init__(self, network: Network, egress: Egress) -> None:
        self._network = network
        self._egress = egress
        self._proxies = Proxies.from_env(network.env)
        self._tls: dict[str, ssl.SSLContext] = {}
        # a proxy's own name and address are the operator's word and not judged, hence two pools of connections
        self._direct = self._client(CheckedResolver(egress, network.lookup))
        self._proxied = self._client(None)

    def _client(self, resolver: CheckedResolver | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # the parts of a download bound themselves
            connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            # compressed only in spite of our wish, and unpacked with a limit in `read_body` only
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._network.connect_timeout_s, sock_read=self._network.first_byte_timeout_s
            ),
        )

    async def close(self) -> None:
        await self._direct.close()
        await self._proxied.close()

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], data: Body = None
    ) -> aiohttp.ClientResponse:
        """One request; the answer's head has arrived. The caller closes it. Raises RegistryError, Forbidden."""
        proxy = self._proxy(url)
        self._egress.check_url(url, proxied=proxy is not None)
        client = self._direct if proxy is None else self._proxied
        with translated(method, url):
            return await client.request(
                method,
                url,
                headers=headers,
                data=data() if callable(data) else data,
                allow_redirects=False,
                proxy=proxy,
                ssl=self._context(url) if url.scheme == "https" else True,
            )

    async def read_body(self, response: aiohttp.ClientResponse, limit_bytes: int, *, cut: bool = False) -> bytes:
        """The answer's bytes, unpacked, at most `limit_bytes`. More is a RegistryError, or cut off there."""
        with translated(response.method, response.url):
            async with asyncio.timeout(self._network.answer_timeout_s):
                body = await _read(response, limit_bytes + 1)
        if len(body) > limit_bytes and not cut:
            raise RegistryError(f"{shown(response.url)}: the answer is larger than {limit_bytes} bytes")
        return body[:limit_bytes]

    def _proxy(self, url: URL) -> URL | None:
        text = self._proxies.for_host(HostUrl(url.scheme, url.host or "", url.port or 0))
        if not text:
            return None
        try:
            proxy = URL(text)
        except ValueError:
            proxy = URL()
        if proxy.scheme not in ("http", "https") or not proxy.host:
            raise RegistryError("unusable proxy for registries: set an http:// or https:// proxy, or NO_PROXY")
        return proxy

    def _context(self, url: URL) -> ssl.SSLContext:
        host = authority(url)
        if host not in self._tls:
            self._tls[host] = tls_context(self._network.env, credentials.own_entry(self._network.home, host))
        return self._tls[host]


def tls_context(env: Mapping[str, str], entry: credentials.Entry) -> ssl.SSLContext:
    """Trust the system's certificates, those of SSL_CERT_FILE and SSL_CERT_DIR, and the registry's own authority.

    Raises RegistryError naming what cannot be read.
    """
    context = ssl.create_default_context()
    if entry.insecure_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    # where OpenSSL itself reads the variables, it takes them instead of the system's certificates, not besides
    paths = ssl.get_default_verify_paths()
    for place in (paths.openssl_cafile, paths.openssl_capath):
        with suppress(RegistryError):
            _trust(context, place, "the system")
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if text := env.get(variable, "").strip():
            _trust(context, text, variable)
    if entry.ca:
        _trust(context, entry.ca, "ca in llamero/registries.json")
    return context


def _trust(context: ssl.SSLContext, place: str, said_by: str) -> None:
    path = Path(place).expanduser()
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates in PEM form"
        raise RegistryError(f"cannot read certificates of {said_by}: {reason}") from error


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", ""):
        raise RegistryError(f"{shown(response.url)}: unknown Content-Encoding")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if coding == "gzip" else None
    body = bytearray()
    async for chunk in response.content.iter_chunked(READ_BLOCK_BYTES):
        # a bomb is cut while it unpacks: one block of it may hold a thousand blocks
        body += unpacker.decompress(chunk, limit_bytes - len(body)) if unpacker else chunk
        if len(body) >= limit_bytes:
            break
    else:
        if unpacker is not None and not unpacker.eof:
            raise zlib.error
    return bytes(body[:limit_bytes])


@contextmanager
def translated(method: str, url: URL) -> Iterator[None]:
    """Turn the library's errors inside the block into ours. Nobody answered, so all of them may be tried again."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, zlib.error) as error:
        if isinstance(error.__cause__, LlameroError):
            # what a body that we were sending said of itself
            raise error.__cause__ from None
        _unreachable(method, url, error)


def _unreachable(method: str, url: URL, error: Exception) -> NoReturn:
    raise RegistryError(f'{method} "{shown(url)}": {_reason(error)}', retryable=True) from error


def _reason(error: Exception) -> str:
    """Our words for what went wrong: the library's hold whole URLs."""
    match error:
        case TimeoutError():
            return "timed out"
        case aiohttp.ClientConnectorDNSError():
            return "no such host"
        case aiohttp.ClientConnectorCertificateError():
            return f"certificate not trusted: {getattr(error.certificate_error, 'verify_message', '')}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError()):
            return "it does not speak TLS as we do: is it a plain http server?"
        case aiohttp.ClientConnectorError():
            return _system_says(error.os_error.errno) or "cannot connect"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection was closed too early"
        case zlib.error():
            return "the answer cannot be unpacked"
        case OSError():
            return _system_says(error.errno) or "the connection was lost"
    return "no proper HTTP answer"


def _system_says(number: int | None) -> str:
    # not `strerror`: the event loop writes addresses into it
    return os.strerror(number).lower() if number else ""

"""The way to one server and back: a connection for each request, whatever lies in between.

It knows no route. What fails on the way says what was tried, and what to look at.
"""

from __future__ import annotations

import http.client
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from .. import API_LEVEL
from ..config import HostUrl
from ..errors import ClientError, ServerRefused
from .bodies import UPLOAD_BLOCK_BYTES, Readable
from .credentials import authorization
from .proxies import Proxies, proxy_headers, split_proxy
from .tls import Certificates, tls_trouble

MAX_LINE_BYTES = 8_000_000
"""One line of a stream, as the reference bounds it: a chat chunk is a few hundred bytes."""
CONNECT_TIMEOUT_S = 30.0
"""To reach the address; a router on the way that drops our packets must not hold a person for minutes."""


def user_agent() -> str:
    """Registries and proxies read the prefix; the rest tells an administrator who asks (cli §1)."""
    machine, system = platform.machine().lower(), platform.system().lower()
    return f"ollama/{API_LEVEL} ({machine} {system}) Python/{platform.python_version()}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket: `OLLAMA_HOST=unix:///run/llamero.sock`."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Patience:
    """How long one exchange waits for bytes: each time at most `silence_s`, and in all at most `whole_s`."""

    def __init__(self, silence_s: float | None, whole_s: float | None = None) -> None:
        self._silence_s = silence_s
        self._end_s = None if whole_s is None else time.monotonic() + whole_s

    def hold(self, sock: socket.socket) -> None:
        self._sock = sock
        self._renew()

    def line(self, response: http.client.HTTPResponse) -> bytes:
        """The next line of a stream, and nothing at its end. TimeoutError when it does not come in time."""
        if self._end_s is not None and not response.isclosed():
            self._renew()
        line = response.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise ClientError(f"a line of the server's reply is longer than {MAX_LINE_BYTES} bytes")
        return line

    def _renew(self) -> None:
        waits_s = [] if self._silence_s is None else [self._silence_s]
        if self._end_s is not None:
            waits_s.append(self._end_s - time.monotonic())
        if waits_s and min(waits_s) <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(min(waits_s, default=None))


class Transport:
    """Requests to one server, each with its own connection: threads may share it, and nothing is left open.

    `timeout_s` bounds each wait for the server's next bytes; None: no bound. `certificates` are for TLS. ClientError
    for a proxy or a key that cannot be used.
    """

    def __init__(
        self, host: HostUrl, api_key: str, *, proxies: Proxies, timeout_s: float | None, certificates: Certificates
    ) -> None:
        self.host = host.for_clients
        self._timeout_s = timeout_s
        self._certificates = certificates
        self._is_unix = host.is_unix
        self._base_path = "" if self._is_unix else quote(self.host.path, safe="/%")
        proxy = proxies.for_host(self.host)
        self._proxy = split_proxy(proxy) if proxy else None
        self._headers = {"User-Agent": user_agent(), "Content-Type": "application/json"} | authorization(host, api_key)

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One connection, one request, its response; whatever happens, the connection is closed when this is left."""
        patience = patience or Patience(self._timeout_s)
        place = self.host.url if self._is_unix else f"{self.host.scheme}://{self.host.netloc}{self._base_path}"
        url = place + path
        connection = self._connection()
        target = url if self._proxy and self.host.scheme == "http" else self._base_path + path
        all_headers = self._headers | {"Accept": "application/json"} | dict(headers or {})
        if self._proxy and self.host.scheme == "http":
            all_headers |= proxy_headers(self._proxy)
        try:
            connection.connect()
            patience.hold(connection.sock)
            # a server that knows its answer early (a blob it has, a key it misses) does not read the rest
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body, all_headers)
            yield connection.getresponse()
        except (ConnectionRefusedError, FileNotFoundError) as error:
            if self._proxy:
                raise ClientError(self._failed(method, url, error)) from error
            raise ServerRefused(f"nothing answers at {self.host.url}") from error
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise ClientError(self._failed(method, url, error)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_unix:
            return _UnixConnection(self.host.path)
        secure = self.host.scheme == "https"
        if not secure and self.host.scheme != "http":
            raise ClientError(f"OLLAMA_HOST: {self.host.scheme}:// is not spoken here; use http://, https:// or unix:")
        to = self._proxy or self.host
        how: dict[str, Any] = {"timeout": CONNECT_TIMEOUT_S, "blocksize": UPLOAD_BLOCK_BYTES}
        if secure:
            how["context"] = self._certificates.context()
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            connection = kind(to.host, to.port, **how)
        except http.client.InvalidURL as error:
            setting = "the proxy" if self._proxy else "OLLAMA_HOST"
            raise ClientError(f"{setting}: {to.host!r} cannot be the name of a host") from error
        if self._proxy is None:
            return connection
        if secure:
            connection.set_tunnel(self.host.host, self.host.port, proxy_headers(self._proxy))
        return connection

    def _failed(self, method: str, url: str, error: Exception) -> str:
        """What was tried and why it failed; a proxy is named, since nobody expects one (cli G-24)."""
        through = f" through the proxy {self._proxy.netloc}" if self._proxy else ""
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        cause = " ".join(cause.split())  # some of them quote lines of the peer's
        hint = ""
        if self.host.scheme == "https" and (of_tls := tls_trouble(error, self._certificates)):
            cause, hint = of_tls
        elif isinstance(error, socket.gaierror):
            hint = "; check the host name in OLLAMA_HOST"
        elif isinstance(error, TimeoutError):
            hint = "; check the address in OLLAMA_HOST and the firewalls in between"
        return f'{method.title()} "{url}"{through}: {cause}{hint}'

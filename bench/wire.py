"""Requests to a server under measurement, over TCP or a unix socket, timed by whoever reads. It knows no API.

The standard library's client on purpose: it is the same for every side, and costs little on a machine whose cores the
engine needs. One connection per request, as the engine wants it.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from llamero.config import HostUrl, parse_host

TIMEOUT_S = 120.0
"""Of silence. A long prompt on a slow machine takes a minute; a server that hangs must not end the comparison."""
ERROR_CHARS = 200
"""Of a refusal's words: they go into a table."""


class Failed(Exception):
    """A server did not do what it was asked to; the words are for a row of a table."""


@dataclass(frozen=True, slots=True)
class Http:
    """Where a server is. Every method raises Failed, and nothing else, when it does not answer as it should."""

    host: HostUrl
    socket: str = ""
    """Path of a unix socket; the host is but a name then."""
    secret: str = ""
    """Bearer token."""

    @classmethod
    def at(cls, url: str) -> Http:
        """Raises Failed for what is no address."""
        host, warnings = parse_host(url)
        if host.scheme not in ("http", "https"):
            warnings.append(f"nothing is asked by {host.scheme}")
        if warnings:  # in words that have no password in them, as the address may
            raise Failed(f"{warnings[0]}: write an address like http://127.0.0.1:11434")
        return cls(host.for_clients)

    @property
    def name(self) -> str:
        """Without the password that the address may have."""
        return self.host.url

    @contextmanager
    def streaming(self, method: str, path: str, body: Any = None) -> Iterator[Iterator[bytes]]:
        """The lines of a reply as they come. Leaving the block hangs up."""
        connection = self._connection()
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self.host.path + path, data, dict(self._headers()))
            with connection.getresponse() as response:
                if response.status != 200:
                    raise Failed(f"{response.status}: {_words(response.read())}")
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A whole reply, which is an object; an empty one, too, where nothing comes back."""
        with self.streaming(method, path, body) as lines:
            data = b"".join(lines)
        reply = parse(data) if data else {}
        if not isinstance(reply, dict):
            raise Failed(f"{path}: this is no object: {data[:ERROR_CHARS]!r}")
        return reply

    def _connection(self) -> http.client.HTTPConnection:
        if self.socket:
            return _UnixConnection(self.socket)
        kind = http.client.HTTPSConnection if self.host.scheme == "https" else http.client.HTTPConnection
        return kind(self.host.host, self.host.port, timeout=TIMEOUT_S)

    def _headers(self) -> Iterator[tuple[str, str]]:
        yield "Content-Type", "application/json"
        if self.secret:
            yield "Authorization", f"Bearer {self.secret}"
        elif self.host.user_info:
            yield "Authorization", "Basic " + base64.b64encode(unquote(self.host.user_info).encode()).decode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def parse(data: bytes) -> Any:
    """JSON of a server that may be anything."""
    try:
        return json.loads(data)
    except ValueError:
        raise Failed(f"this is no JSON: {data[:ERROR_CHARS]!r}") from None


def _words(body: bytes) -> str:
    """What a refusal says, in Ollama's form and in OpenAI's; or the body as it is."""
    try:
        error = json.loads(body)["error"]
        words = error["message"] if isinstance(error, Mapping) else error
    except (ValueError, LookupError, TypeError):
        words = body.decode("utf-8", "replace")
    return " ".join(str(words).split())[:ERROR_CHARS]

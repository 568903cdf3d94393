"""A registry of whole models on loopback, in threads of its own: what a server in another process pulls from.

    with ModelRegistry() as registry:
        model = registry.add("library/m:latest", WEIGHTS, template="...")    # served byte for byte
        registry.answers["/v2/library/m/manifests/old"] = Answer(412, b"...")  # instead of what is there
        registry.hold(model.digests[1])      # half of that blob is sent, and the rest after `release()`
        registry.asked                       # every request, in order

It keeps blobs in a storage of its own, `/storage/<digest>`, to which it redirects. For tests that run our client in
their own event loop there are `web.py` and `faulty_server.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.model_folders import CONFIG, IMAGE

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
WAIT_LIMIT_S = 20
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Added:
    """A model as it is served: the manifest's bytes, and the digests in it, the config's first."""

    raw: bytes
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.raw)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def manifest(layers: list[Any], config: Any) -> bytes:
    """As the public registry writes it: compact, no newline."""
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
    return json.dumps(document, separators=(",", ":")).encode()


def layer(content: bytes, kind: str = "model", **changed: Any) -> dict[str, Any]:
    media_type = CONFIG if kind == "config" else IMAGE + kind
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)} | changed


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are nothing to print a traceback for."""


class ModelRegistry:
    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        """By path, without the query."""
        self.blobs: dict[str, bytes] = {}
        self.login = ""
        """`user:password` that it asks for (Basic), though not its storage."""
        self.is_silent = False
        """It accepts requests, and that is all."""
        self.asked: list[Asked] = []
        self.hung_up = threading.Event()
        """Somebody went away before he had all."""
        self.sent_bytes = 0
        self._held: set[str] = set()
        self._release = threading.Event()
        self._arrival = threading.Condition()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Threads(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    # --- what it has ---

    def add(self, name: str, *weights: bytes, kind: str = "model", config: bytes = b"{}", **texts: str) -> Added:
        """Serve a model of some weights and a layer for each text, under `<namespace>/<model>:<tag>`."""
        parts = [(kind, each) for each in weights] + [(key, text.encode()) for key, text in texts.items()]
        raw = manifest([layer(content, kind) for kind, content in parts], layer(config, "config"))
        for content in [*(content for _, content in parts), config]:
            self.blobs[digest_of(content)] = content
        return self.put(name, raw)

    def put(self, name: str, raw: bytes) -> Added:
        """Serve a manifest, whatever it is, by its tag and by its digest."""
        repository, _, tag = name.rpartition(":")
        for reference in (tag, digest_of(raw)):
            path = f"/v2/{repository}/manifests/{reference}"
            self.answers[path] = Answer(200, raw, {"Content-Type": MANIFEST_TYPE})
        return Added(raw, tuple(re.findall(r"sha256:[0-9a-f]{64}", raw.decode(errors="replace"))))

    # --- what it does ---

    def hold(self, digest: str) -> None:
        """From now on half of this blob is sent, and the rest when it is released."""
        self._release.clear()
        self._held.add(digest)

    def release(self) -> None:
        self._held.clear()
        self._release.set()

    # --- what it saw ---

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def bodies(self, digest: str) -> list[Asked]:
        """The requests for a blob's bytes."""
        return [each for each in self.asked if each.path == f"/storage/{digest}"]

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Until it is so after some request or some bytes."""
        with self._arrival:
            assert self._arrival.wait_for(holds, WAIT_LIMIT_S), f"it was asked for no more than {self.paths}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._arrival:
            self.asked.append(Asked(handler.command, handler.path, headers))
            self._arrival.notify_all()
        path = handler.path.partition("?")[0]
        digest = path.rpartition("/")[2]
        try:
            if self.is_silent:
                self._wait(handler)
            elif self.login and "/v2/" in path and headers.get("authorization") != _basic(self.login):
                self._send(handler, Answer(401, b"", {"WWW-Authenticate": 'Basic realm="registry"'}))
            elif path in self.answers:
                self._send(handler, self.answers[path])
            elif path == "/v2/":
                self._send(handler, Answer(200, b"{}"))
            elif "/blobs/" in path and digest in self.blobs:
                self._send(handler, Answer(307, b"", {"Location": f"/storage/{digest}"}))
            elif path == f"/storage/{digest}" and digest in self.blobs:
                self._send_blob(handler, digest, headers.get("range", ""))
            else:
                self._send(handler, Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'))
        except OSError:
            handler.close_connection = True
            self.hung_up.set()

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        self._head(handler, answer.status, {"Content-Length": str(len(answer.body))} | dict(answer.headers))
        if handler.command != "HEAD":
            handler.wfile.write(answer.body)

    def _send_blob(self, handler: BaseHTTPRequestHandler, digest: str, asked: str) -> None:
        content = self.blobs[digest]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        start, stop = (int(span[1]), int(span[2]) + 1) if span else (0, len(content))
        head = {"Content-Length": str(stop - start)}
        if span:
            head["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._head(handler, 206 if span else 200, head)
        half = (start + stop) // 2 if digest in self._held else stop
        self._send_bytes(handler, content[start:half])
        if half < stop:
            self._wait(handler)
            self._send_bytes(handler, content[half:stop])

    def _send_bytes(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        for at in range(0, len(data), PIECE_BYTES):
            handler.wfile.write(data[at : at + PIECE_BYTES])
            with self._arrival:
                self.sent_bytes += len(data[at : at + PIECE_BYTES])
                self._arrival.notify_all()

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    def _wait(self, handler: BaseHTTPRequestHandler) -> None:
        """Until it is released, or the other side hangs up: then its socket reads as ended."""
        handler.connection.settimeout(0.01)
        for _ in range(WAIT_LIMIT_S * 100):
            if self._release.is_set():
                break
            try:
                if not handler.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                pass
        handler.connection.settimeout(None)

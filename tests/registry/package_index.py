"""A package index on loopback: the pages of a simple index in either of their forms, and archives.

with PackageServer() as index: index.offer("llm", "1.0", archive_bytes); index.url
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

JSON = "application/vnd.pypi.simple.v1+json"


class PackageServer:
    def __init__(self, *, speaks_json: bool = True) -> None:
        self.speaks_json = speaks_json
        self.pages: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.root}/simple"

    def offer(self, project: str, version: str, content: bytes, *, sha256: str | None = None) -> str:
        """Put a source distribution on the project's page. Returns its file name. An empty `sha256` is left out."""
        name = f"{project.replace('-', '_')}-{version}.tar.gz"
        self.files[f"/files/{name}"] = content
        digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        entry = {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": digest} if digest else {}}
        self.pages.setdefault(project, []).append(entry)
        return name

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append((self.path, dict(self.headers)))
                if "/endless/" in self.path:
                    index._closing.wait()
                status, kind, body = index.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if self.path in index.redirects:
                    self.send_header("Location", index.redirects[self.path])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path in self.redirects:
            return 302, "text/plain", b""
        if path in self.files:
            return 200, "application/gzip", self.files[path]
        page = self.pages.get(path.removeprefix("/simple/").strip("/"))
        if page is None:
            return 404, "text/html", b"not found"
        if self.speaks_json:
            return 200, JSON, json.dumps({"meta": {"api-version": "1.1"}, "files": page}).encode()
        links = "".join(_link(file["filename"], file["url"], file["hashes"]) for file in page)
        return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


def _link(name: str, url: str, hashes: Mapping[str, str]) -> str:
    fragment = "".join(f"#{kind}={digest}" for kind, digest in hashes.items())
    return f'<a href="{url}{fragment}">{name}</a><br>'


def packed(files: Mapping[str, bytes | str]) -> bytes:
    """A `.tar.gz` with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()

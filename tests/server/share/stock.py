"""A stock client as the specification describes it, request by request (store-registry §3.2, §3.3, §3.7).

It is no code of ours that is under test: plain http.client, a key of its own, and the checks that such a client makes.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.running import Reply

EMPTY_BODY = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
PARTS = 16


class Refused(Exception):
    """What the user of the client reads."""


@dataclass
class Key:
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def line(self) -> str:
        """As in `id_ed25519.pub`."""
        return self.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def authorization(self, token_url: str) -> str:
        signature = self.private.sign(f"GET,{token_url},{EMPTY_BODY}".encode())
        return f"{self.line.split()[1]}:{base64.b64encode(signature).decode()}"


@dataclass
class StockClient:
    """`base` is the registry with its scheme, as `insecure` makes it: http://host:port."""

    base: str
    key: Key = field(default_factory=Key)
    token: str = ""
    ranges: list[str] = field(default_factory=list)
    """Every `Range` that was asked for."""

    def pull(self, repository: str, tag: str) -> tuple[bytes, dict[str, bytes]]:
        """The manifest's bytes, and every blob by its digest. Refused as the reference refuses."""
        manifest = self.ask("GET", f"/v2/{repository}/manifests/{tag}", {"Accept": MANIFEST_TYPE}).body
        document = json.loads(manifest)
        blobs = {}
        for layer in [*document["layers"], document["config"]]:
            blobs[layer["digest"]] = content = self.download(f"/v2/{repository}/blobs/{layer['digest']}")
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != layer["digest"]:
                raise Refused("digest mismatch, file must be downloaded again")
        return manifest, blobs

    def download(self, path: str) -> bytes:
        size = int(self.ask("HEAD", path).headers["Content-Length"])
        direct = self.direct_url(path)
        part = -(-size // PARTS) or 1
        content = b""
        for start in range(0, size, part):
            self.ranges.append(f"bytes={start}-{min(start + part, size) - 1}")
            content += send("GET", direct, {"Range": self.ranges[-1]}).body
        return content

    def direct_url(self, path: str) -> str:
        reply = self.ask("GET", path, read=False)
        if reply.status not in (200, 307):
            raise Refused(f"unexpected status code {reply.status}")
        location = reply.headers["Location"]
        if location is None:
            raise Refused("http: no Location header in response")
        return str(location)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, *, read: bool = True) -> Reply:
        for _ in range(2):
            bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            reply = send(method, self.base + path, (headers or {}) | bearer, read=read)
            if reply.status != 401:
                break
            self.fetch_token(reply.headers["WWW-Authenticate"])
        else:
            raise Refused("unauthorized: access denied")
        if reply.status == 404:
            raise Refused("file does not exist")
        if reply.status >= 400:
            raise Refused(f"{reply.status}: {reply.body.decode()}")
        return reply

    def fetch_token(self, challenge: str) -> None:
        url = token_url(challenge)
        if urlsplit(url).netloc != urlsplit(self.base).netloc:
            raise Refused("realm host does not match original host")
        reply = send("GET", url, {"Authorization": self.key.authorization(url)})
        if reply.status >= 400:
            raise Refused(f"{reply.status}: {reply.body.decode()}")
        self.token = reply.json()["token"]


def token_url(challenge: str, **changes: Any) -> str:
    """What a client asks after a challenge: the realm, and parameters sorted by key."""
    values = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {
        "nonce": secrets.token_urlsafe(16),
        "scope": values.get("scope", ""),
        "service": values.get("service", ""),
        "ts": str(int(time.time())),
    }
    return f"{values['realm']}?{urlencode(sorted((query | changes).items()))}"


def send(method: str, url: str, headers: dict[str, str] | None = None, *, read: bool = True) -> Reply:
    """One request. The target is sent as it stands in the URL, verbatim."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, url.removeprefix(f"{parts.scheme}://{parts.netloc}"), None, headers or {})
        with connection.getresponse() as response:
            return Reply(response.status, response.msg, response.read() if read else b"")
    finally:
        connection.close()

"""Real proxies with the files that we ship for them: another port, another folder, nothing else.

    with nginx(folder, "https", server.port) as proxy: proxy.call("GET", "/api/version")

In front of the one, people give a name and a password; certificates are of the test's own making, none is fetched.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.certificates import Pair, self_signed
from tests.nginx import nginx_with
from tests.running import Reply, free_port

DEPLOY = Path(__file__).parents[2] / "deploy"

CADDY = shutil.which("caddy")
needs_caddy = pytest.mark.skipif(CADDY is None, reason="caddy is not installed")

START_LIMIT_S = 15.0

USER = "ada"
PASSWORD = "s3cr3t/w@rd#1"
PASSWORD_HASH = "$2b$04$3Nlw7nwj4fBs7hcJCxy0xuwK62j.QtiAh9QcRmlKqiooo8FGFM3RC"
"""Of the password, at bcrypt's lowest cost."""
IN_URL = "ada:s3cr3t%2Fw%40rd%231"
KEY = "infer-secret-of-the-proxy"
"""By which the server knows the proxy."""


@dataclass(frozen=True)
class Proxy:
    port: int
    certificate: Path | None
    """Of whoever signed the proxy's, or its own; None: it speaks plain HTTP."""
    prefix: str = ""
    """Under which the server lies."""
    wants_password: bool = True

    def url(self, credentials: str = IN_URL) -> str:
        """As OLLAMA_HOST has it."""
        scheme = "https" if self.certificate else "http"
        user_info = f"{credentials}@" if credentials else ""
        return f"{scheme}://{user_info}127.0.0.1:{self.port}{self.prefix}"

    @property
    def env(self) -> dict[str, str]:
        """What a client of ours needs to come through."""
        trusted = {"SSL_CERT_FILE": str(self.certificate)} if self.certificate else {}
        return {"OLLAMA_HOST": self.url(IN_URL if self.wants_password else ""), **trusted}

    def headers(self, password: str = PASSWORD) -> dict[str, str]:
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return {"Authorization": f"Basic {login}"} if self.wants_password else {}

    def connect(self, source: str = "127.0.0.1", timeout_s: float = 60) -> http.client.HTTPConnection:
        address = (source, 0)
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s, source_address=address)
        trust = ssl.create_default_context(cafile=str(self.certificate))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=timeout_s, source_address=address, context=trust
        )

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Reply:
        """One request by somebody who knows the password, unless `headers` are given; the path as it stands there."""
        connection = self.connect(source)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, self.prefix + path, data, dict(self.headers() if headers is None else headers))
            response = connection.getresponse()
            return Reply(response.status, response.msg, response.read())
        finally:
            connection.close()

    def arrivals(self, path: str, body: Any, headers: Mapping[str, str]) -> list[float]:
        """When each line of a streamed reply was here (seconds)."""
        connection = self.connect()
        try:
            connection.request("POST", self.prefix + path, json.dumps(body), dict(headers))
            with connection.getresponse() as response:
                assert response.status == 200, response.read()
                return [time.monotonic() for line in iter(response.readline, b"") if line.strip()]
        finally:
            connection.close()


# --- nginx ---------------------------------------------------------------------------------------------------------

Site = Literal["http", "https", "subpath"]

SITE_WITH_MORE = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem;
    location / {{ return 200 "the rest of the site"; }}
    include {folder}/subpath.conf;
}}
"""


@contextmanager
def nginx(folder: Path, site: Site, server_port: int, *, plain_port: int = 0) -> Iterator[Proxy]:
    """One of our sites. `plain_port` is where the HTTPS site sends browsers on from."""
    port = free_port()
    swaps = {"/etc/nginx/llamero/": f"{folder}/", "127.0.0.1:11434": f"127.0.0.1:{server_port}"}
    swaps |= {"listen [::]:80;": "", "listen [::]:443 ssl;": "", "put-the-key-here": KEY}
    swaps |= {"listen 80;": f"listen 127.0.0.1:{port if site == 'http' else plain_port or free_port()};"}
    swaps |= {"listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;"}

    def ship(name: str, to: str) -> None:
        text = (DEPLOY / "nginx" / name).read_text()
        for old, new in swaps.items():
            text = text.replace(old, new)
        (folder / to).parent.mkdir(exist_ok=True)
        (folder / to).write_text(text)

    for name, to in {
        "llamero.conf": "conf.d/llamero.conf",
        "upstream.conf": "conf.d/llamero-upstream.conf",
        "key.conf": "conf.d/llamero-key.conf",
        "proxy.conf": "proxy.conf",
        f"{site}.conf": "subpath.conf" if site == "subpath" else "conf.d/llamero-site.conf",
    }.items():
        ship(name, to)
    if site == "subpath":
        (folder / "conf.d" / "site.conf").write_text(SITE_WITH_MORE.format(folder=folder, port=port))
    (folder / "passwords").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    own = self_signed(Pair(folder / "certificate.pem", folder / "key.pem"), "127.0.0.1")
    with nginx_with(folder, f"include {folder}/conf.d/*.conf;", port):
        certificate = None if site == "http" else own.certificate
        yield Proxy(port, certificate, "/llm" if site == "subpath" else "", wants_password=site != "http")


# --- Caddy ---------------------------------------------------------------------------------------------------------

CADDY_GLOBALS = """\
{{
	admin off
	auto_https disable_redirects
	local_certs
	skip_install_trust
	default_bind 127.0.0.1
	storage file_system {folder}/storage
}}
import {caddyfile}
"""
"""Certificates by an authority of Caddy's own that nobody else trusts, and nothing that reaches beyond the folder."""


@contextmanager
def caddy(
    folder: Path, caddyfile: Literal["Caddyfile", "Caddyfile.subpath"], server_port: int, **env: str
) -> Iterator[Proxy]:
    assert CADDY is not None
    port = free_port()
    config = folder / "Caddyfile"
    config.write_text(CADDY_GLOBALS.format(folder=folder, caddyfile=DEPLOY / "caddy" / caddyfile))
    known = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "LLAMERO_SITE": f"https://127.0.0.1:{port}",
        "LLAMERO_UPSTREAM": f"127.0.0.1:{server_port}",
        "LLAMERO_USER": USER,
        "LLAMERO_PASSWORD_HASH": PASSWORD_HASH,
        "LLAMERO_KEY": KEY,
        **env,
    }
    root = folder / "storage" / "pki" / "authorities" / "local" / "root.crt"
    proxy = Proxy(port, root, "/llm" if caddyfile.endswith("subpath") else "")
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(config)]
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=known, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not (root.exists() and _answers(proxy)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Caddy did not start:\n{(folder / 'output.log').read_text()}")
            time.sleep(0.02)
        yield proxy
    finally:
        process.terminate()
        process.wait(START_LIMIT_S)


def _answers(proxy: Proxy) -> bool:
    """Whether it listens, with its certificate in place."""
    connection = proxy.connect(timeout_s=1)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True

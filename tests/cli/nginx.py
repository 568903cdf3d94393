"""A real nginx in front of a server: TLS with a certificate that nobody trusts, and a password."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Pair, self_signed
from tests.nginx import nginx_with
from tests.running import free_port

HTTP = """
ssl_certificate {certificate};
ssl_certificate_key {key};
server {{
    listen 127.0.0.1:{port} ssl;
    auth_basic "models";
    auth_basic_user_file {folder}/passwords;
    proxy_set_header Host localhost:11434;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header Authorization "";
    proxy_buffering off;
    location / {{ proxy_pass http://127.0.0.1:{server_port}; }}
    location /down/ {{ proxy_pass http://127.0.0.1:{dead_port}/; }}
    location /slow/ {{ proxy_pass http://127.0.0.1:{silent_port}/; }}
    location = /new/api/tags {{ default_type application/json; return 200 '{{"models":[]}}'; }}
    location /page/ {{ default_type text/html; return 404 "<html>nothing here</html>"; }}
}}
server {{
    listen 127.0.0.1:{other_port} ssl;
    ssl_certificate {other_certificate};
    ssl_certificate_key {other_key};
    return 200 "hello";
}}
"""


@dataclass(frozen=True)
class Nginx:
    port: int
    certificate: Path
    other_port: int
    """Where the certificate is for another address."""
    other_certificate: Path

    def url(self, credentials: str, path: str = "") -> str:
        return f"https://{credentials}@127.0.0.1:{self.port}{path}"


@contextmanager
def nginx(folder: Path, server_port: int, password_line: str) -> Iterator[Nginx]:
    """In front of the server; nobody is behind /down/, somebody who says nothing behind /slow/, a server without models
    at /new/, and another program at /page/. `password_line` as in a file of passwords."""
    port, other_port = free_port(), free_port()
    (folder / "passwords").write_text(f"{password_line}\n")
    own = self_signed(Pair(folder / "own.crt", folder / "own.key"), "127.0.0.1")
    other = self_signed(Pair(folder / "other.crt", folder / "other.key"), "192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        http = HTTP.format(
            folder=folder,
            certificate=own.certificate,
            key=own.key,
            port=port,
            other_port=other_port,
            other_certificate=other.certificate,
            other_key=other.key,
            server_port=server_port,
            dead_port=free_port(),
            silent_port=silent.getsockname()[1],
        )
        with nginx_with(folder, http, port):
            yield Nginx(port, own.certificate, other_port, other.certificate)

"""A real nginx in front of a server: TLS with a certificate that nobody trusts, and a password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.running import free_port

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
START_LIMIT_S = 10.0

needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")

SETTINGS = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem;
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
        ssl_certificate {folder}/other.pem;
        ssl_certificate_key {folder}/other-key.pem;
        return 200 "hello";
    }}
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
    assert PROGRAM is not None
    port, other_port = free_port(), free_port()
    settings = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers read what only we may read
    (folder / "passwords").write_text(f"{password_line}\n")
    write_certificate(folder)
    write_certificate(folder, "other.pem", "other-key.pem", "192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.write_text(
            SETTINGS.format(
                folder=folder,
                user=user,
                port=port,
                other_port=other_port,
                server_port=server_port,
                dead_port=free_port(),
                silent_port=silent.getsockname()[1],
            )
        )
        process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            _wait_for(process, port, folder)
            yield Nginx(port, folder / "certificate.pem", other_port, folder / "other.pem")
        finally:
            process.terminate()
            process.wait(START_LIMIT_S)


def _wait_for(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nginx did not start:\n{(folder / 'error.log').read_text()}") from None
            time.sleep(0.02)


def write_certificate(
    folder: Path, file: str = "certificate.pem", key_file: str = "key.pem", address: str = "127.0.0.1"
) -> None:
    """A certificate for that address, signed by nobody, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / file).write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / key_file).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

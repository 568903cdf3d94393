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
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    port: int
    certificate: Path

    def url(self, credentials: str, path: str = "") -> str:
        return f"https://{credentials}@127.0.0.1:{self.port}{path}"


@contextmanager
def nginx(folder: Path, server_port: int, password_line: str) -> Iterator[Nginx]:
    """In front of the server; under /down/ there is nothing behind it. `password_line` as in a file of passwords."""
    assert PROGRAM is not None
    port = free_port()
    settings = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers read what only we may read
    settings.write_text(
        SETTINGS.format(folder=folder, user=user, port=port, server_port=server_port, dead_port=free_port())
    )
    (folder / "passwords").write_text(f"{password_line}\n")
    _write_certificate(folder)
    process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port, folder)
        yield Nginx(port, folder / "certificate.pem")
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


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

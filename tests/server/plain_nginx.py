"""A real nginx that passes everything on over one kept connection, and writes down what it has passed on."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.nginx import PROGRAM
from tests.running import free_port

START_LIMIT_S = 10.0

SETTINGS = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    log_format asked '$request_uri $upstream_status';
    access_log {folder}/asked.log asked;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_header_timeout 2s;
    client_body_timeout 2s;
    keepalive_timeout 2s;
    upstream server {{ server 127.0.0.1:{server_port}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Host localhost:11434;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 5s;
        }}
    }}
}}
"""
"""What one client left on the kept connection would be the next one's."""


@dataclass(frozen=True)
class PlainNginx:
    port: int
    log: Path

    def passed_on(self) -> Counter[str]:
        """How often each path went to the server."""
        lines = [line.rsplit(maxsplit=1) for line in self.log.read_text(errors="replace").splitlines()]
        return Counter(target.partition("?")[0] for target, status in lines if status != "-")


@contextmanager
def plain_nginx(folder: Path, server_port: int) -> Iterator[PlainNginx]:
    assert PROGRAM is not None
    folder.mkdir()
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # its workers write where only we may
    settings = folder / "nginx.conf"
    settings.write_text(SETTINGS.format(folder=folder, user=user, port=port, server_port=server_port))
    process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _listens(port):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        yield PlainNginx(port, folder / "asked.log")
    finally:
        process.terminate()
        process.wait(START_LIMIT_S)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True

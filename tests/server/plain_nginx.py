"""A real nginx that passes everything on over one kept connection, and writes down what it has passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.nginx import nginx_with
from tests.running import free_port

HTTP = """
log_format asked '$request_uri $upstream_status';
client_header_timeout 2s;
client_body_timeout 2s;
keepalive_timeout 2s;
upstream server {{ server 127.0.0.1:{server_port}; keepalive 1; }}
server {{
    listen 127.0.0.1:{port};
    access_log {folder}/asked.log asked;
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
    folder.mkdir()
    port = free_port()
    with nginx_with(folder, HTTP.format(folder=folder, port=port, server_port=server_port), port):
        yield PlainNginx(port, folder / "asked.log")

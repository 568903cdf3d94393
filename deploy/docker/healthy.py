"""Whether the server of this container answers: status 0 or 1, for the image's HEALTHCHECK."""

from __future__ import annotations

import os
import socket
import sys

from llamero.config import HostUrl, Settings, config_path, read_config

LIMIT_S = 4.0
"""Under the five seconds of the HEALTHCHECK."""
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main() -> int:
    settings = Settings.from_env(os.environ, read_config(config_path(os.environ)))
    host = settings.host
    try:
        with connected(host) as connection:
            if not host.is_unix and (host.scheme == "https" or settings.tls_cert is not None):
                return 0  # its certificate is for another name than ours: that it listens must do
            connection.sendall(REQUEST)
            return 0 if connection.recv(64).startswith(b"HTTP/1.1 200 ") else 1
    except OSError:
        return 1


def connected(host: HostUrl) -> socket.socket:
    if not host.is_unix:
        return socket.create_connection((host.host, host.port), timeout=LIMIT_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LIMIT_S)
    connection.connect(host.path)
    return connection


if __name__ == "__main__":
    sys.exit(main())

"""Whether the server of this container answers: status 0 or 1, for the image's HEALTHCHECK."""

from __future__ import annotations

import os
import socket
import sys

from llamero.config import Settings

LIMIT_S = 4.0
"""Under the five seconds of the HEALTHCHECK."""
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main() -> int:
    host = Settings.from_env(os.environ).host.for_clients
    try:
        with socket.create_connection((host.host, host.port), timeout=LIMIT_S) as connection:
            if host.scheme == "https":
                return 0  # its certificate is for another name than ours: that it listens must do
            connection.sendall(REQUEST)
            return 0 if connection.recv(64).startswith(b"HTTP/1.1 200 ") else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())

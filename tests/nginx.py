"""A real nginx with a configuration of the test's, in a folder of its own, gone with the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
START_LIMIT_S = 15.0

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
    {http}
}}
"""


@contextmanager
def nginx_with(folder: Path, http: str, port: int) -> Iterator[None]:
    """Until the block's end: with these lines for `http { }`, of which one makes it listen at `port`."""
    assert PROGRAM is not None
    user = "user root;" if os.geteuid() == 0 else ""  # its workers read and write what only we may
    settings = folder / "nginx.conf"
    settings.write_text(SETTINGS.format(folder=folder, user=user, http=http))
    process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port, folder / "error.log")
        yield
    finally:
        process.terminate()
        process.wait(START_LIMIT_S)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nginx did not start:\n{log.read_text()}") from None
            time.sleep(0.02)

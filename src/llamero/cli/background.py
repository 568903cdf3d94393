"""Starts a server in the background and waits until it answers (cli §7). `service stop` ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from ..client import Client
from ..errors import LlameroError, ServerRefused
from .app import App
from .logfile import log_path, open_log
from .pidfile import PidFile, write_pid

START_LIMIT_S = 10.0
"""A server binds its port within a second; a machine that swaps may need longer."""
POLL_S = 0.05


def start_server(app: App) -> None:
    """A normal `serve` in its own session, so that neither our end nor a Ctrl+C reaches it."""
    path = log_path(app.settings)
    with _open_log(path) as log, PidFile(app.settings).held() as lock:
        process = subprocess.Popen(
            [sys.executable, "-m", "llamero.cli.main", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(app.own_env),
            start_new_session=True,
            pass_fds=() if lock is None or sys.platform == "win32" else (lock,),
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            | getattr(subprocess, "DETACHED_PROCESS", 0),
        )
        if lock is not None:
            write_pid(lock, process.pid)
    _wait(app, process, path)
    if process.poll() is None:
        app.terminal.err(f"started the ollama server in the background (pid {process.pid}, log {path})\n")


def _wait(app: App, process: subprocess.Popen[bytes], path: Path) -> None:
    client = Client(app.settings.host, app.settings.api_key, timeout_s=START_LIMIT_S)
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        # asked before the port: of two that start at once one dies because the other, which we then use, has the port
        has_ended = process.poll() is not None
        try:
            client.heartbeat()
            return
        except ServerRefused:
            if has_ended:
                break
        time.sleep(POLL_S)
    raise LlameroError(f"could not start the ollama server, see {path}")


def _open_log(path: Path) -> IO[bytes]:
    try:
        return os.fdopen(open_log(path), "ab")
    except OSError as error:
        raise LlameroError(f"could not start the ollama server: {path}: {error.strerror}") from error

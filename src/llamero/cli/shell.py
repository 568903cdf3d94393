"""`!command` in the REPL: a line for the user's own shell, where `/set shell` has allowed it (cli G-31).

Nothing that a model says ever gets here: only what somebody typed.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from ..errors import LlameroError
from .app import App
from .keyboard import typing_shows

MARK = "!"


def run_line(app: App, line: str) -> None:
    """Run it to its end; Ctrl+C is the program's own meanwhile. Raises LlameroError when there is no shell."""
    if sys.platform == "win32":
        argv = [app.env.get("COMSPEC") or "cmd.exe", "/c", line]
    else:
        argv = [app.env.get("SHELL") or "/bin/sh", "-c", line]
    # a handler, unlike "ignore", is not inherited by the program
    handler = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with typing_shows(app.terminal):
            status = subprocess.run(argv, env=dict(app.own_env), check=False).returncode
    except OSError as error:
        raise LlameroError(f"{argv[0]} cannot be started: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, handler)
    if status:
        app.terminal.err(f"(exit status {status if status > 0 else 128 - status})\n")

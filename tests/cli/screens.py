"""A real terminal for tests: tmux runs the program, types into it, changes its size and reads what stands on it."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.running import OLLAMA

WAIT_LIMIT_S = 15.0
POLL_S = 0.03

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Screen:
    """One program on a terminal of its own."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, columns: int = 80, lines: int = 24) -> None:
        self._socket = f"llamero-{secrets.token_hex(4)}"
        known = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **env}
        variables = [f"{name}={value}" for name, value in known.items()]
        # The first line is taken, as in life: tmux keeps what is cleared there, and it would be found twice.
        # What the program leaves on the screen stays there to be read, its exit status too
        command = f"echo '$'; env -u CI -u NO_COLOR {shlex.join([*variables, str(OLLAMA), *argv])}; echo status=$?; cat"
        size = ["-x", str(columns), "-y", str(lines)]
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
            settings.write("set-option -g status off\n")
            settings.flush()
            self._tmux("-f", settings.name, "new-session", "-d", *size, command)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *failure: object) -> None:
        self._tmux("kill-server")

    def _tmux(self, *argv: str) -> str:
        env = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE")}
        command = ["tmux", "-L", self._socket, *argv]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def type(self, text: str) -> None:
        """The characters as they are."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names for them: `Enter`, `C-c`, `Tab`, `Up`."""
        self._tmux("send-keys", *keys)

    def say(self, line: str) -> None:
        self.type(line)
        self.press("Enter")

    def paste(self, text: str, folder: Path) -> None:
        """As a terminal pastes: between the marks of a paste, when the program has asked for them."""
        file = folder / "pasted"
        file.write_text(text)
        self._tmux("load-buffer", str(file))
        self._tmux("paste-buffer", "-p")

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def text(self, *, colours: bool = False, history: bool = True) -> str:
        """What stands there, lines that the terminal broke put together; with all that has scrolled away."""
        given = ["-p", "-J", *(["-e"] if colours else []), *(["-S", "-"] if history else [])]
        lines = self._tmux("capture-pane", *given).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n").removeprefix("$\n")

    def rows(self) -> list[str]:
        """The rows of the screen as they are."""
        rows = [line.rstrip() for line in self._tmux("capture-pane", "-p").split("\n")]
        return rows[1:] if rows[0] == "$" else rows

    def wait_for(self, pattern: str) -> str:
        """Until the screen matches; returns it."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while True:
            text = self.text()
            if re.search(pattern, text, re.DOTALL | re.MULTILINE):
                return text
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{text}"
            time.sleep(POLL_S)

    def wait_for_top(self, row: str) -> None:
        """Until the first row of the screen, without what has scrolled away, is that."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while self.rows()[0] != row:
            assert time.monotonic() < deadline, f"no {row!r} at the top:\n{self.rows()}"
            time.sleep(POLL_S)

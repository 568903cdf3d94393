"""One run of the program: its environment, its terminal, and the way to a server. It knows no command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..config import BY_NAME, Settings
from ..errors import LlameroError, ServerAnswered, ServerRefused
from .format import printable
from .terminal import Terminal

if TYPE_CHECKING:
    from ..client import Client


COMPLETION_TIMEOUT_S = 1.0
"""Whoever presses Tab waits for the answer with a finger on the key."""


def client_settings(env: Mapping[str, str]) -> Settings:
    """What concerns clients: a command that asks a server neither obeys nor criticises the server's variables."""
    known = {name: BY_NAME[name] for name in env if name in BY_NAME}
    return Settings.from_env({name: env[name] for name in known if known[name].where in ("client", "both")})


@dataclass
class App:
    env: Mapping[str, str]
    settings: Settings
    terminal: Terminal
    debug: bool = False
    """Show where an unexpected error came from."""

    @cached_property
    def client(self) -> Client:
        from ..client import Client, Proxies

        for warning in self.settings.warnings:
            self.warn(warning)
        return Client(self.settings.host, self.settings.api_key, proxies=Proxies.from_env(self.env), warn=self.warn)

    def connect(self, *, is_run: bool = False) -> Client:
        """The client, once the server has answered its heartbeat; `run` may start one in the background (cli §7)."""
        try:
            self.client.heartbeat()
        except ServerRefused as error:
            wanted = {"always": True, "run": is_run, "never": False}[self.settings.autostart]
            here = self.settings.listen[0]
            if not wanted or here.scheme != "http" or not here.is_loopback:
                raise ServerRefused(self._not_running()) from error
            from .background import start_server

            start_server(self)
        return self.client

    def model_names(self, *, only_running: bool = False) -> list[str]:
        """For completion: what a server that answers at once has, else nothing."""
        from ..client import Client, Proxies

        proxies = Proxies.from_env(self.env)
        client = Client(self.settings.host, self.settings.api_key, proxies=proxies, timeout_s=COMPLETION_TIMEOUT_S)
        try:
            return [model.name for model in (client.ps().models if only_running else client.tags())]
        except LlameroError:
            return []

    def warn(self, text: str) -> None:
        self.terminal.err(f"Warning: {printable(text)}\n")

    def fail(self, error: LlameroError) -> None:
        """Say what went wrong. The words may be a registry's, so they must not command the terminal."""
        if isinstance(error, ServerAnswered) and error.signin_url:
            from .account import CLOUD_NEEDS_SIGN_IN, sign_in_text

            self.terminal.out(sign_in_text(CLOUD_NEEDS_SIGN_IN, error.signin_url))
        self.terminal.err(f"Error: {printable(str(error))}\n")

    def _not_running(self) -> str:
        host = self.settings.host
        address = "" if host.is_loopback else f" at {host.url}"
        return f"could not connect to ollama server{address}, run 'ollama serve' to start it"
